"""Queries: what the user typed, told apart as text, image, stored document or several of these, and embedded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from os import PathLike, fsdecode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence, cast

from retrieval.errors import ImageError, QueryError
from retrieval.images import SUFFIXES, VIDEO_SUFFIXES, open_image
from retrieval.query_grammar import Term, is_joint, terms, with_weights
from retrieval.types import Encoder, TextEncoder

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Query:
    """One query. shown is what results call it.

    image     makes it an image query: a file, its content, or an upright RGB image
    document  makes it a search by a stored document, whose id this is
    terms     (weight, query) of each term of a composed query
    fusion    of its terms; None: as the search says
    """

    shown: str
    image: Path | bytes | Any = None
    document: str | None = None
    terms: tuple[tuple[float, Query], ...] = ()
    fusion: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is words alone."""
        if self.terms:
            return all(term.is_text for _, term in self.terms)
        return self.image is None and self.document is None


def text_query(text: str) -> Query:
    """A query by words, whatever files there are. Raises QueryError if it is empty."""
    stripped = text.strip()
    if not stripped:
        raise QueryError("The query is empty. Say what to look for, or give an image file.")
    return Query(stripped)


def asked(one: str | PathLike | Query) -> Query:
    """What a program asks: a text as `parse` reads it, a path of an image file, or a query.

    Raises QueryError as `parse` does, for a path where there is no image file, and for anything else.
    """
    if isinstance(one, Query):
        return one
    if isinstance(one, str):
        return parse(one)
    if not isinstance(one, PathLike):
        raise QueryError(f"{one!r} cannot be searched by; give a text, a path, or a list of these.")
    image = _image_file(fsdecode(one))
    if image is None:
        raise QueryError(f"There is no image file {fsdecode(one)}. To search by words, give a text.")
    return image


def parse(text: str, weights: Sequence[float] = ()) -> Query:
    """What `retrieval.query_grammar` says of it; a term that is an existing image file is an image.

    weights  of the first terms, in place of those that are written with them

    Raises QueryError for what the grammar refuses, and for what is plainly a file name of an image
    that is not there: searching for its letters would return nonsense.
    """
    stripped = text.strip()
    image = _image_file(stripped)  # whose name may hold anything, a " + " too
    if image is not None:
        return _composed(text, [Term(text, 1.0)], weights, {text: image})
    return _composed(text, terms(text), weights, {stripped: None})


def parse_arguments(arguments: Sequence[str], weights: Sequence[float] = ()) -> list[Query]:
    """The queries of a command line: each argument is one, but a lone + or - joins its neighbours.

    Raises QueryError as `parse` does, for a + or - with nothing to join, and for weights of several queries.
    """
    groups: list[list[str]] = []
    joining = False
    for number, argument in enumerate(arguments, 1):
        if is_joint(argument):
            if joining or not groups:
                raise QueryError(f"Argument {number} is {argument}, with no query before it to go on from.")
            groups[-1].append(argument)
        elif joining:
            groups[-1].append(argument)
        else:
            groups.append([argument])
        joining = is_joint(argument)
    if joining:
        raise QueryError(f"The query ends with {arguments[-1]}; a term has to follow.")
    if weights and len(groups) != 1:
        raise QueryError(f"Weights are for the terms of one query, and these are {len(groups)} queries.")
    return [parse(group[0], weights) if len(group) == 1 else _joined(group, weights) for group in groups]


def _joined(group: Sequence[str], weights: Sequence[float]) -> Query:
    """group: term, joint, term, joint, ..., as if they stood in one string; names of files need no quotes."""
    found: list[Term] = []
    images: dict[str, Query | None] = {}
    for joint, argument in zip(("+", *group[1::2]), group[::2]):
        image = _image_file(argument.strip())
        if image is not None:
            images[argument] = image
        first, *others = [Term(argument)] if image else terms(argument, joined=True)
        sign = -1.0 if joint == "-" else 1.0
        found += [replace(first, weight=sign * first.weight), *others]
    return _composed(" ".join(group), found, weights, images)


def _composed(
    shown: str, found: Sequence[Term], weights: Sequence[float], images: Mapping[str, Query | None]
) -> Query:
    """images: of the terms of which that is known already, what they are as files; None if they are none."""
    found = with_weights(found, weights)
    try:
        queries = [_of_term(term, images) for term in found]
    except QueryError as error:
        if all(term.kind != "id" for term in found):
            raise
        raise QueryError(f'{error} If it belongs to an id, put that in quotes: id:"a - b.jpg".') from error
    if len(found) == 1 and found[0].weight == 1:
        return queries[0]
    return Query(shown.strip(), terms=tuple((term.weight, one) for term, one in zip(found, queries)))


def _of_term(term: Term, images: Mapping[str, Query | None]) -> Query:
    if term.kind == "id":
        return Query(f"id:{term.text}", document=term.text)
    if term.kind == "words":
        return Query(term.text)
    image = images[term.text] if term.text in images else _image_file(term.text)
    if image is None and _is_named_as_image(term.text):
        raise QueryError(f"There is no image file {term.text}. To search by text, write words.")
    return image or text_query(term.text)


def _image_file(text: str) -> Query | None:
    """The query of an existing image file. Raises QueryError if it cannot be read, and for a video."""
    name = os.path.expanduser(text)  # "~cat" stays as it is, a text and no user's home
    if not os.path.isfile(name):  # nor is a text too long, or too odd, to be a path
        return None
    path = Path(name)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise QueryError(f"{text} is a video. Search by a picture, such as one frame of it saved as a file.")
    try:
        with path.open("rb"):
            pass
        return Query(text, path) if _is_named_as_image(text) or _opens(path) else None
    except OSError as error:
        raise QueryError(f"The query image {text} cannot be read: {error.strerror}.") from error


def _is_named_as_image(text: str) -> bool:
    return Path(text).suffix.lower() in SUFFIXES and ("/" in text or not any(map(str.isspace, text)))


def opened(query: Query, encoder: Encoder) -> Query:
    """An image query with its image decoded as `encoder` needs it. Raises QueryError for a bad one."""
    if not isinstance(query.image, (Path, bytes)):
        return query
    try:
        image, _ = open_image(query.image, at_least=getattr(encoder, "input_size", None))
    except ImageError as error:
        raise QueryError(f"The query image {query.shown}: {error}.") from error
    return replace(query, image=image)


def embed(queries: Sequence[Query], encoder: Encoder | TextEncoder) -> np.ndarray:
    """Vectors of texts and images, float32 (q, d), unit rows, in order. Raises QueryError for a bad image.

    Stored documents and composed queries are for `retrieval.query_vectors`.
    """
    import numpy as np  # here, as who asks a server does without

    vectors = np.empty((len(queries), encoder.dim), np.float32)
    texts = [index for index, query in enumerate(queries) if query.image is None]
    images = [index for index, query in enumerate(queries) if query.image is not None]
    if texts:
        vectors[texts] = encoder.encode_texts([queries[index].shown for index in texts])
    if images:
        whole = cast(Encoder, encoder)  # half of one is given texts alone, see Collection.encoder_for
        pictures: list[Any] = [opened(queries[index], whole).image for index in images]
        vectors[images] = whole.encode_images(pictures)
    return vectors


def _opens(path: Path) -> bool:
    try:
        open_image(path, at_least=1)
    except ImageError:
        return False
    return True

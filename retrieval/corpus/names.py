"""Which document an image name stands for, when the two were written down in different folders."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

_Fit = tuple[tuple[int, bool], list[int]]  # closeness (components shared, same path), positions


def resolve_names(names: Sequence[str], ids: Sequence[str]) -> tuple[dict[str, int], set[str]]:
    """Resolve image names or paths to document ids.

    names  as some file spells them: "IMG_1.jpg", "../photos/beach/IMG_1.jpg", "IMG_1"
    ids    distinct relative paths such as "2019/beach/IMG_1.jpg"

    A name stands for the id that is the same, or else for the one that shares its longest ending
    in whole path components, the file name at the least: "a.jpg" and "data/train/a.jpg" both find
    "train/a.jpg". Names left over are tried against the ids without extension.

    Nothing is guessed. A name that fits several ids equally well is ambiguous. Of several names
    that reach one id the closest keeps it, as the others may well be other images ("train/1.jpg"
    where only "val/1.jpg" is there); names equally close are ambiguous.

    Backslashes, a leading "./" and the Unicode form of accents make no difference. Takes time
    proportional to the number of path components.

    Returns the position in ids of each name that has one, and the names that are ambiguous.
    """
    spelling = {name: _normal(name) for name in names}
    paths = [_normal(document_id) for document_id in ids]
    fits = _fits(set(spelling.values()), paths)
    positions, ambiguous = _closest(fits)

    taken = set(positions.values())
    left_over = set(spelling.values()) - fits.keys()
    by_stem, ambiguous_stems = _closest(_fits(left_over, [posixpath.splitext(path)[0] for path in paths]))
    positions |= {name: position for name, position in by_stem.items() if position not in taken}
    ambiguous |= ambiguous_stems
    return (
        {name: positions[normal] for name, normal in spelling.items() if normal in positions},
        {name for name, normal in spelling.items() if normal in ambiguous},
    )


def _normal(name: str) -> str:
    """Return the name with one spelling of separators and accents (macOS decomposes them)."""
    components = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(component for component in components if component not in ("", "."))


def _endings(name: str) -> Iterator[str]:
    """Yield "x/y/a.jpg", "y/a.jpg", "a.jpg": longest first."""
    yield name
    for slash in re.finditer("/", name):
        yield name[slash.end() :]


def _fits(names: set[str], paths: list[str]) -> dict[str, _Fit]:
    """Return the paths that share each name's longest ending; a path that is all of it comes first."""
    if not names:
        return {}
    wanted = {ending for name in names for ending in _endings(name)}
    whole, ending_in = defaultdict(list), defaultdict(list)
    for position, path in enumerate(paths):
        whole[path].append(position)
        for ending in _endings(path):
            if ending in wanted:
                ending_in[ending].append(position)
    fits = {}
    for name in names:
        for ending in _endings(name):
            positions = whole.get(ending) or ending_in.get(ending)
            if positions:
                fits[name] = (ending.count("/") + 1, positions is whole.get(name)), positions
                break
    return fits


def _closest(fits: dict[str, _Fit]) -> tuple[dict[str, int], set[str]]:
    """Return the position each name stands for, and the names that stand for none: they tie."""
    claims = defaultdict(list)  # position -> [(closeness, name)]
    ambiguous = set()
    for name, (closeness, positions) in fits.items():
        if len(positions) == 1:
            claims[positions[0]].append((closeness, name))
        else:
            ambiguous.add(name)
    stands_for = {}
    for position, claimants in claims.items():
        best, _ = max(claimants)
        closest = [name for closeness, name in claimants if closeness == best]
        if len(closest) == 1:
            stands_for[closest[0]] = position
        else:
            ambiguous.update(closest)
    return stands_for, ambiguous

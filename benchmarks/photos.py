"""Pictures to decode: made from a seed, and as large on disk as photos of their size."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kept import kept

QUALITY = 88
PICTURES = 64  # that many_photos makes before it repeats them
_START_OF_IMAGE, _COMMENT = b"\xff\xd8", b"\xff\xfe"  # JPEG markers


def photos(work: Path, width: int, height: int, count: int) -> Path:
    """Return a folder with `count` JPEGs of width x height pixels, the same on every machine."""
    return kept(
        work / "photos" / f"{width}x{height}-{count}",
        lambda folder: _make(folder, width, height, count),
    )


def many_photos(work: Path, width: int, height: int, count: int) -> Path:
    """The same within seconds for tens of thousands: few pictures, but no two files alike.

    A comment inside makes each file a content of its own, with a hash of its own.
    """
    few = photos(work, width, height, min(count, PICTURES))
    return kept(
        work / "photos" / f"{width}x{height}-{count}-of-{PICTURES}",
        lambda folder: _repeat(sorted(few.iterdir()), folder, count),
    )


def _repeat(pictures: list[Path], folder: Path, count: int) -> None:
    folder.mkdir()
    contents = [picture.read_bytes() for picture in pictures]
    for number in range(count):
        text = b"%08d" % number
        comment = _COMMENT + (2 + len(text)).to_bytes(2, "big") + text
        content = contents[number % len(contents)].removeprefix(_START_OF_IMAGE)
        (folder / f"{number:05}.jpg").write_bytes(_START_OF_IMAGE + comment + content)


def _make(folder: Path, width: int, height: int, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        picture(width, height, seed=number).save(folder / f"{number:05}.jpg", quality=QUALITY)


def picture(width: int, height: int, seed: int):
    """Broad areas of colour, shapes of middling size, and a little grain: about 1.5 bits a pixel."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 90), (24, 35), (96, 14)):  # cells across: ever finer detail
        noise = random.integers(0, 256, (max(2, cells * height // width), cells, 3), dtype=np.uint8)
        smooth = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(smooth, np.float32) - 128) * (strength / 128)
    grain = random.normal(0, 4, (min(height, 512), min(width, 512), 1)).astype(np.float32)
    repeats = (-(-height // grain.shape[0]), -(-width // grain.shape[1]), 1)
    total += np.tile(grain, repeats)[:height, :width]
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))

"""Which number format the towers run in.

bfloat16 weights and inputs are several times faster where the hardware multiplies them
natively, and much slower where it does not; so the precision follows the hardware, and is
checked once per model and machine.
"""

from __future__ import annotations

import json
import logging
import platform
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw

from retrieval.errors import EncoderError
from retrieval.files import cache_folder, write_json

log = logging.getLogger("retrieval")

CHOICES = ("auto", "float32", "bfloat16")
MIN_COSINE = 0.999
_PROBE_TEXTS = ["a dog runs on the beach", "two people at a table", "red", "a city at night, from above"]


def resolve_device(device: str) -> torch.device:
    """'auto' is CUDA, then MPS, then CPU. Raises EncoderError for a device that is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.zeros(1, device=wanted).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EncoderError(
            f"The device {device!r} is not available here. Use --device cpu, or auto."
        ) from error
    return wanted


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    if device.type == "cuda":
        # capability 8.0 (Ampere) brought bfloat16; older cards only emulate it
        native = torch.cuda.get_device_capability(device)[0] >= 8
    elif device.type == "cpu":
        native = _cpu_has("_is_amx_tile_supported") or _cpu_has("_is_avx512_bf16_supported")
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Raises EncoderError for an unknown precision."""
    if precision == "auto":
        return fast_dtype(device)
    if precision not in CHOICES:
        raise EncoderError(f"Unknown precision {precision!r}; choose one of {', '.join(CHOICES)}.")
    return getattr(torch, precision)


def probe_images(size: int) -> list[Image.Image]:
    """Four small pictures with edges, gradients and flat areas; the same on every machine."""
    pictures = []
    for step in range(4):
        ramp = np.linspace(40 * step, 255 - 30 * step, size, dtype=np.uint8)
        base = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[::-1], (size, 1)).T,
                         np.full((size, size), 60 * step, np.uint8)], axis=-1)
        picture = Image.fromarray(base)
        draw = ImageDraw.Draw(picture)
        draw.ellipse((size // 4, size // 5, size // 2 + 8 * step, size - size // 4), fill=(200, 30 * step, 90))
        draw.rectangle((size // 2, size // 2, size - 3, size - 2 - step), fill=(20, 180, 60 * step))
        pictures.append(picture)
    return pictures


Embed = Callable[[list[Image.Image], list[str]], tuple[np.ndarray, np.ndarray]]


def agreement(exact: Embed, fast: Embed, size: int) -> float:
    """Lowest cosine between two ways to embed the probe images and texts."""
    pictures = probe_images(size)
    pairs = zip(exact(pictures, _PROBE_TEXTS), fast(pictures, _PROBE_TEXTS))
    return min(float((one * other).sum(axis=1).min()) for one, other in pairs)


class Verdicts:
    """Agreements measured before, by model and machine, in the user's cache folder.

    Losing or failing to write the file only costs another measurement.
    """

    def __init__(self, path: Path | None = None):
        self.path = path or cache_folder() / "precision.json"

    def get(self, fingerprint: str, device: torch.device) -> float | None:
        value = self._read().get(_key(fingerprint, device))
        return float(value) if isinstance(value, (int, float)) else None

    def put(self, fingerprint: str, device: torch.device, cosine: float) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {**self._read(), _key(fingerprint, device): cosine})
        except OSError as error:
            log.debug("verdict not kept: %s", error)

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _cpu_has(check: str) -> bool:
    return bool(getattr(torch.cpu, check, lambda: False)())


def _key(fingerprint: str, device: torch.device) -> str:
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{fingerprint} {device.type} {machine} torch {torch.__version__}"

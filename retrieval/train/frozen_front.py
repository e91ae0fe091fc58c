"""The frozen layers in front of an image tower's learning ones: run once over each photo, not in every epoch.

Where only a tower's last layers learn, most of the time goes into the ones before, which read large planes and
give the same each time. What they say of some augmented copies of every photo is kept on disk instead.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shutil import disk_usage, rmtree
from typing import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from open_clip.transform import PreprocessCfg
from torch import nn

from retrieval.encoders.batches import images_at_once
from retrieval.encoders.preprocess import exact_transform, fast_transform, input_size, normalise
from retrieval.errors import TrainingError
from retrieval.files import replacing
from retrieval.reading import DECODE_THREADS
from retrieval.train.augment import Augmentation, allows_flip
from retrieval.train.pairs import Pairs, Photo
from retrieval.train.trainable import Tuning, make_trainable

_BATCH = 64
_MOST_PARTS = 32  # of a chain that are tried to be left to the rest, from its end


@dataclass(frozen=True)
class FrozenFront:
    """layers: what stands before all that learns, one after the other; names: theirs in the tower."""

    names: tuple[str, ...]
    layers: nn.Sequential


def frozen_front(model: nn.Module, tuning: Tuning, size: tuple[int, int]) -> FrozenFront | None:
    """The longest chain of an open_clip model's image tower in front of what `tuning` lets learn.

    size  height and width of the pixels that it is to be used with

    The model stays as it is. None if no such chain holds most of the weights that are frozen there and gives what
    the tower does: a transformer adds positions between its layers.
    """
    visual = make_trainable(deepcopy(model), tuning).visual.float().eval()
    chance = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, *size, generator=chance) * 2 - 1
    with torch.no_grad():
        for name, one in visual.named_parameters():
            if ".lora_B" in name:  # an adapter that adds nothing yet would not be missed
                one.normal_(0, 0.1, generator=chance)
        chain, wanted = _before_learning(visual, pixels)
        frozen = _weights(map(visual.get_submodule, chain))
        for end in range(len(chain), max(0, len(chain) - _MOST_PARTS), -1):
            names = tuple(chain[:end])
            front = FrozenFront(names, nn.Sequential(*map(visual.get_submodule, names)))
            if 2 * _weights(front.layers) < max(1, frozen):
                return None
            if _gives(lambda: rest_of(visual, names)(front.layers(pixels)), wanted):
                return front
    return None


def _weights(parts: Iterable[nn.Module]) -> int:
    return sum(one.numel() for part in parts for one in part.parameters())


def rest_of(visual: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy of a tower that takes what those layers give; its parameters and buffers are the tower's own."""
    rest = deepcopy(visual, {id(one): one for one in (*visual.parameters(), *visual.buffers())})
    for name in names:
        rest.set_submodule(name, nn.Identity())
    return rest


def _before_learning(visual: nn.Module, pixels: torch.Tensor) -> tuple[list[str], torch.Tensor]:
    """The frozen parts that run before anything that learns, in that order, and what the tower says."""
    chain: list[str] = []
    began = False

    def learns(module: nn.Module, given: tuple) -> None:
        nonlocal began
        began = True

    hooks = [
        module.register_forward_pre_hook(learns) for module in visual.modules()
        if any(one.requires_grad for one in module.parameters(recurse=False))
    ]
    for name, part in _frozen_parts(visual):
        hooks.append(part.register_forward_hook(lambda *_, name=name: None if began else chain.append(name)))
    try:
        return chain, visual(pixels)
    finally:
        for hook in hooks:
            hook.remove()


def _frozen_parts(module: nn.Module, above: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The largest parts in which nothing learns, and that no adapter changes, by name."""
    for name, child in module.named_children():
        if any(one.requires_grad for one in child.parameters()):
            if not (hasattr(child, "base_layer") or hasattr(child, "parametrizations")):  # peft's adapters, ours
                yield from _frozen_parts(child, f"{above}{name}.")
        else:
            yield f"{above}{name}", child


def _gives(run: Callable[[], torch.Tensor], wanted: torch.Tensor) -> bool:
    try:
        found = run()
    except Exception:  # towers raise as they please where shapes do not fit
        return False
    return isinstance(found, torch.Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)


class KeptViews:
    """What a front says of augmented copies of photos: a file for each copy, so an interrupted run goes on behind it."""

    def __init__(
        self, front: FrozenFront, folder: Path, preprocessing: PreprocessCfg, *, augmentation: Augmentation, seed: int,
        device: torch.device,
    ):
        """
        folder         to keep files in; what this run does not use is removed from it
        preprocessing  of what is learned from, its size included
        """
        self._layers = front.layers.to(device, memory_format=torch.channels_last).eval()
        self._folder, self._preprocessing, self._device = folder, preprocessing, device
        self._prepare = fast_transform(preprocessing) or exact_transform(preprocessing)
        self._augmentation, self._seed = augmentation, seed
        self._at_least = round(input_size(preprocessing) / augmentation.crop**0.5)

    def of(self, pairs: Pairs, views: int, progress: Callable[[int], None]) -> list[np.ndarray]:
        """One array a view, (n, channels, height, width) float16, mapped from disk: it may be larger than memory.

        Raises TrainingError that names a photo that cannot be read, where the disk is full, or where a layer says
        what float16 cannot hold.
        """
        own = self._folder / self._key(pairs)
        paths = [own / f"view-{view}.npy" for view in range(views)]
        for other in self._folder.glob("*"):
            if other != own:
                rmtree(other, ignore_errors=True)
        for other in set(own.glob("*")).difference(paths):
            other.unlink()
        return [
            self._view(path, pairs, view, sum(not one.exists() for one in paths), progress)
            for view, path in enumerate(paths)
        ]

    def _key(self, pairs: Pairs) -> str:
        """Of all that decides what the files hold."""
        key = hashlib.sha256(repr((self._preprocessing, self._augmentation, self._seed, self._layers)).encode())
        for name, one in self._layers.state_dict().items():
            key.update(name.encode() + one.cpu().contiguous().numpy().tobytes())
        for photo, texts in zip(pairs.photos, pairs.captions):
            key.update(f"{photo.name} {photo.digest} {allows_flip(texts)}\n".encode())
        return key.hexdigest()[:16]

    def _view(
        self, path: Path, pairs: Pairs, view: int, missing: int, progress: Callable[[int], None]
    ) -> np.ndarray:
        """missing: views still to be made, this one included."""
        if path.exists():
            progress(len(pairs.photos))
        else:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as beside:
                    self._write(pairs, view, missing, beside, progress)
            except OSError as error:
                raise TrainingError(
                    f"{path} cannot be written ({error}). Make room, or leave --views out: then nothing is kept."
                ) from error
        return np.load(path, mmap_mode="r")

    def _write(self, pairs: Pairs, view: int, missing: int, path: Path, progress: Callable[[int], None]) -> None:
        flips = [allows_flip(texts) for texts in pairs.captions]
        n = len(pairs.photos)
        # Row by row, and never mapped: where the disk is full, writing to a mapped file kills the process.
        with path.open("wb") as file, ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="augment") as pool:
            for start in range(0, n, _BATCH):
                part = slice(start, start + _BATCH)
                pixels = list(pool.map(lambda photo, flip: self._pixels(photo, flip, view), pairs.photos[part], flips[part]))
                parts = torch.stack(pixels).split(images_at_once(self._device))
                said = np.concatenate([self._front(part) for part in parts])
                if start == 0:
                    _refuse_too_many(path.parent, missing, n, missing * n * said[0].nbytes)
                    np.lib.format.write_array_header_2_0(
                        file, {"descr": "<f2", "fortran_order": False, "shape": (n, *said.shape[1:])})
                file.write(said.astype("<f2", copy=False).data)
                progress(len(said))

    def _pixels(self, photo: Photo, flip: bool, view: int) -> torch.Tensor:
        chance = Random(f"{self._seed}/{view}/{photo.name}")  # whatever thread makes it
        return self._prepare(self._augmentation.image(photo.open(self._at_least), flip, chance))

    @torch.inference_mode()
    def _front(self, pixels: torch.Tensor) -> np.ndarray:
        pixels = pixels.to(self._device)
        given = normalise(pixels, self._preprocessing) if pixels.dtype == torch.uint8 else pixels
        given = given.float().contiguous(memory_format=torch.channels_last)
        said = self._layers(given).half()
        if not torch.isfinite(said).all():
            raise TrainingError("A frozen layer of the image tower says more than float16 can hold. Leave --views out.")
        return said.contiguous().cpu().numpy()


def _refuse_too_many(folder: Path, views: int, photos: int, needed: int) -> None:
    """Raises TrainingError if the disk has fewer bytes free than that."""
    free = disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"Views of {photos:,} photos, {views} of each, take {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are "
            "free. Make room, keep fewer --views, or leave --views out: then nothing is kept."
        )

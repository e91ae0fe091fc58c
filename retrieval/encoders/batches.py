"""Images on their way through a model: copied ahead of it, and fewer at once where memory runs out."""

from __future__ import annotations

import logging
from contextlib import contextmanager, nullcontext
from typing import Callable, Iterator, Sequence

import torch

from retrieval.errors import NOTICE, EncoderError

log = logging.getLogger("retrieval")

AT_ONCE = 256  # more fill no device better, and take memory
_PER_THREAD = 2  # on a CPU; see `images_at_once`
_SHORTAGES = ("not enough memory", "can't allocate memory", "out of memory")


class Batches:
    """Feeds a model on `device`, as many images at once as its memory takes.

    at_once  images; halved when memory runs out, and never raised again
    """

    def __init__(self, device: torch.device, name: str):
        self.at_once = images_at_once(device)
        self._device, self._name = device, name
        self._is_cuda = device.type == "cuda"
        self._copying = torch.cuda.Stream(device) if self._is_cuda else None
        self._told = False

    def embed(
        self, images: Sequence[torch.Tensor], model: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """What `model` makes of the images, on the CPU: (n, d).

        images  n tensors (3, height, width) of one shape and type, on the CPU
        model   takes (m, 3, height, width) on the device and returns (m, d) there

        Raises EncoderError if memory does not suffice for one image.
        """
        done: list[torch.Tensor] = []
        start, pixels = 0, None
        while start < len(images):
            try:
                pixels = self._sent(images, start) if pixels is None else pixels
                result = model(self._arrived(pixels))
                end = start + len(pixels)
                # A GPU is still computing; meanwhile the next ones are copied there.
                following = self._sent(images, end) if end < len(images) else None
                done.append(result.cpu())
                start, pixels = end, following
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
            # Not in the handler: while it runs, the error holds on to what is to be freed.
            pixels = following = result = None
            self._halve(min(self.at_once, len(images) - start))
        return torch.cat(done)

    def _sent(self, images: Sequence[torch.Tensor], start: int) -> torch.Tensor:
        """Images from `start` on as one tensor that is on the device, or on its way there."""
        images = list(images[start : start + self.at_once])
        host = torch.empty(
            (len(images), *images[0].shape), dtype=images[0].dtype,
            memory_format=torch.channels_last, pin_memory=self._is_cuda,
        )
        torch.stack(images, out=host)
        with torch.cuda.stream(self._copying) if self._copying else nullcontext():
            return host.to(self._device, non_blocking=True)

    def _arrived(self, pixels: torch.Tensor) -> torch.Tensor:
        if self._copying:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._copying)
            pixels.record_stream(computing)
        return pixels

    def _halve(self, count: int) -> None:
        """After `count` images were too many."""
        if count == 1:
            elsewhere = "" if self._device.type == "cpu" else "--device cpu, or "
            raise EncoderError(
                f"Not enough memory on {self._device} to encode even one image with {self._name}. "
                f"Close other programs that use it, or choose {elsewhere}a smaller --model."
            )
        self.at_once = count // 2
        if self._is_cuda:
            torch.cuda.empty_cache()
        if not self._told:
            self._told = True
            log.log(NOTICE, "Memory on %s does not suffice for %d images at once; going on with fewer.",
                    self._device, count)


def images_at_once(device: torch.device) -> int:
    """Images that a model on `device` is given together, if there are as many.

    On a CPU few: what many take lies in blocks so large (32 MB) that the C library has each mapped anew, and the
    kernel clears its pages every time. With two threads a photo through EfficientNet-Lite0 takes 26 ms among 64 and
    14 among 4, through ResNet-50 163 among 32 and 102 among 4, through ViT-B/32 102 and 92.
    """
    return max(2, _PER_THREAD * torch.get_num_threads()) if device.type == "cpu" else AT_ONCE


@contextmanager
def one_thread() -> Iterator[None]:
    """The CPU's part of a GPU's work, in one thread.

    More, one a core, wait for cores that decode: on 16 of them beside an H200, 1,800 images/s in place of 4,600.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_shortage(error: BaseException) -> bool:
    """Whether it says that memory ran out; on the CPU and MPS torch says so in words only."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _SHORTAGES)

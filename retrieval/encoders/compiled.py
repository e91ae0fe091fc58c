"""A tower compiled by torch for the one size of batch that comes again and again; without a compiler, as it was."""

from __future__ import annotations

import logging
from typing import Callable

import torch

from retrieval.encoders.batches import is_shortage
from retrieval.errors import NOTICE

log = logging.getLogger("retrieval")

Tower = Callable[[torch.Tensor], torch.Tensor]


class Compiled:
    """Calls `tower`, compiled for batches as large as the one before; others go through it as it is.

    Compiling takes up to a minute, so a size has to come twice: the rest of a folder does not come
    again. Where compiling fails one line says so, and nothing else changes.
    """

    def __init__(self, tower: Tower, name: str, backend: str | Callable = "inductor"):
        """name: of the model, for the line. backend: as torch.compile takes it."""
        self._tower, self._name = tower, name
        self._compiled: Tower | None = torch.compile(tower, backend=backend, dynamic=False)
        self._before = 0
        self._told = False

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the tower gives for (n, 3, height, width). Raises as it does."""
        again, self._before = len(pixels) == self._before, len(pixels)
        if self._compiled is None or not again:
            return self._tower(pixels)
        if not self._told:
            self._told = True
            log.log(NOTICE, "Compiling the image tower of %s, which takes a while.", self._name)
        try:
            return self._compiled(pixels)
        except Exception as error:  # compilers raise as they please
            if is_shortage(error):
                raise
            self._compiled = None
            # The first line names the backend, the second says why.
            reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])
            log.warning("The image tower of %s runs as it is, for it cannot be compiled here: %s", self._name, reason[:300])
        return self._tower(pixels)

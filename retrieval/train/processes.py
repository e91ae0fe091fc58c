"""Several processes that train one model, each on its part of every batch, as torchrun starts them.

Every process gathers all rows and computes the whole batch's loss. The gradient that comes back to its own
rows is the sum over processes, and averaging the parameters' gradients makes of it that of the whole batch
in one process. Only rows and gradients travel; there is no wrapper around the model.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Iterable, Iterator, TypeVar

import torch
from torch import distributed, nn
from torch.nn import functional as F

from retrieval.errors import TrainingError

_AT_ONCE = 2**24  # gradients in one all-reduce, 64 MB of float32
_LONGEST_WAIT = timedelta(days=1)  # with the first process, which runs frozen towers over all photos while the others wait
_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """This process among `world`; alone, it keeps what it is given.

    All of them must call the same methods in the same order, with tensors of the same type and width.
    """

    rank: int = 0
    world: int = 1
    device_index: int = 0  # among this machine's processes, and GPUs

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Join (n, ...) of all processes by rank: (sum of n, ...). Differentiable; n may differ."""
        return tensor if self.world == 1 else _Gather.apply(tensor, self.rank, self.world)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over processes. The same ones must have a gradient in all."""
        if self.world == 1:
            return
        for gradients in _buckets([one.grad for one in parameters if one.grad is not None]):
            flat = torch.cat([one.flatten() for one in gradients])
            distributed.all_reduce(flat)
            flat /= self.world
            for gradient, mean in zip(gradients, flat.split([one.numel() for one in gradients])):
                gradient.copy_(mean.view_as(gradient))

    def broadcast_from_first(self, module: nn.Module) -> None:
        """Give the module the first process's parameters and buffers."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                shared = tensor.contiguous()
                distributed.broadcast(shared, 0)
                tensor.copy_(shared)

    def from_first(self, value: _T) -> _T:
        """The first process's value, in all of them: whether to stop, say. Waits until all are here."""
        if self.world == 1:
            return value
        shared: list[Any] = [value]
        distributed.broadcast_object_list(shared, 0)
        return shared[0]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Around what one process writes to disk and the others find there.

        The first process goes first, then the first one of each other machine, which may have a disk of its own,
        then the rest.
        """
        turn = 0 if self.is_first else 1 if self.device_index == 0 else 2
        for _ in range(turn):
            self._wait()
        yield
        for _ in range(2 - turn):
            self._wait()

    def _wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.all_reduce(torch.zeros(1))  # on the CPU: by gloo, which has no GPU wait with it

    def close(self) -> None:
        if self.world > 1:
            distributed.destroy_process_group()


def start(device: str = "auto") -> Processes:
    """Join the processes that torchrun started; without torchrun this is the only one.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. What lies on a GPU travels by NCCL, the
    rest by gloo. On GPUs each process gets its own, as "cuda". Raises TrainingError.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        return Processes()
    rank, index = _number("RANK"), _number("LOCAL_RANK")
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        if index >= torch.cuda.device_count():
            raise TrainingError(
                f"Process {index} of this machine has no GPU of its own; there are {torch.cuda.device_count()}. "
                f"Start fewer with torchrun --nproc-per-node, or train with --device cpu."
            )
        torch.cuda.set_device(index)
        backend = "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend, rank=rank, world_size=world, timeout=_LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"Process {rank} of {world} cannot join the others: {error}. Start it with torchrun.") from error
    return Processes(rank, world, index)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: torch.Tensor, rank: int, world: int) -> torch.Tensor:
        own = torch.tensor([len(tensor)])
        counts = [torch.empty_like(own) for _ in range(world)]
        distributed.all_gather(counts, own)
        lengths = [int(one) for one in counts]
        context.first, context.length = sum(lengths[:rank]), len(tensor)
        # what is gathered must be of one size
        padded = F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, max(lengths) - len(tensor))).contiguous()
        parts = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths)])

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient[context.first : context.first + context.length], None, None


def _buckets(gradients: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Neighbours of one type, until there are enough for one all-reduce."""
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or sum(one.numel() for one in bucket) >= _AT_ONCE):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _number(variable: str, absent: int | None = None) -> int:
    try:
        return int(os.environ[variable]) if absent is None else int(os.environ.get(variable, absent))
    except (KeyError, ValueError) as error:
        raise TrainingError(
            f"{variable} is {os.environ.get(variable, 'not set')}, where several processes need a number. "
            f"Start them with torchrun."
        ) from error

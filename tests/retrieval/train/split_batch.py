"""A step of training on this process's part of a batch, by RANK and WORLD_SIZE. As a program it prints what came of it."""

import json
import time

import torch
from torch import nn
from torch.nn import functional as F

from retrieval.train import processes as module
from retrieval.train.gradient_cache import backward
from retrieval.train.losses import infonce, siglip

OWNERS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7])  # the first four images have 8 texts, the others 5


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.text = (
            nn.Sequential(nn.Linear(width, 7), nn.GELU(), nn.Linear(7, 4)).double() for width in (6, 5)
        )
        self.image[0].weight.data = self.image[0].weight.data.T.contiguous().T  # not contiguous, as channels_last
        self.scale, self.bias = nn.Parameter(torch.tensor(10.0)), nn.Parameter(torch.tensor(-4.0))  # float32
        self.unused = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("mean", torch.rand(2))

    def images(self, pixels):
        return F.normalize(self.image(pixels), dim=-1)

    def texts(self, tokens):
        return F.normalize(self.text(tokens), dim=-1)


def step():
    processes = module.start("cpu")
    rank, share = processes.rank, 8 // processes.world
    own = OWNERS // share == rank
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 6, generator=chance, dtype=torch.float64)[rank * share : (rank + 1) * share]
    tokens = torch.randn(13, 5, generator=chance, dtype=torch.float64)[own]
    owners = processes.gather(OWNERS[own])  # numbered over all processes

    torch.manual_seed(rank)
    model = Model()
    before = model.image[0].weight.sum().item()
    processes.broadcast_from_first(model)

    def loss(images, texts):
        images, texts = processes.gather(images), processes.gather(texts)
        return siglip(images, texts, owners, model.scale, model.bias) + infonce(images, texts, owners, model.scale)

    def result(value):
        processes.average_gradients(model.parameters())
        gradients = {name: one.grad.flatten().tolist() for name, one in model.named_parameters() if one.grad is not None}
        model.zero_grad()
        return {"loss": value, "gradients": gradients}

    value = loss(model.images(pixels), model.texts(tokens))
    value.backward()
    whole = result(value.item())
    cached = result(backward(model.images, model.texts, pixels, tokens, loss, chunk=2))
    # a loss that differs from one process to the next: the sum of all comes back
    rows = torch.ones(2 - rank, 3, requires_grad=True)
    joined = processes.gather(rows * (rank + 1))
    ((rank + 1) * joined.sum()).backward()
    with processes.in_turn():
        entered = time.monotonic()
        time.sleep(0.05)
        left = time.monotonic()
    found = {
        "turn": (entered, left),
        "owners": owners.tolist(), "before": before, "after": model.image[0].weight.sum().item(),
        "mean": model.mean.tolist(), "whole": whole, "cached": cached,
        "joined": joined.tolist(), "come back": rows.grad.tolist(),
        "said": processes.from_first(f"by {rank}"), "first": processes.is_first,
    }
    processes.close()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    module._AT_ONCE = 30  # gradients, so that there are several buckets
    print(json.dumps(step()))

"""What a run would refuse only after its long work is refused before it: its first moves, made with a copy."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from retrieval.errors import TrainingError
from retrieval.train.batches import steps_in_epoch
from retrieval.train.pairs import Pairs
from retrieval.train.settings import Settings
from retrieval.train.trainable import Tuning, drop_outputs, make_trainable


def rehearse(model: nn.Module, pairs: Pairs, settings: Settings, tuning: Tuning, *, world: int, size: int | None) -> None:
    """
    world  how many processes take part
    size   pixels of a side to learn at; None: the image tower's own

    Raises TrainingError as Batches and Learner do, or if the image tower cannot take pixels of that size.
    """
    steps_in_epoch(pairs, settings.batch_size, world)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # adapters begin by chance
        copy = make_trainable(deepcopy(model), tuning).eval()
        drop_outputs(copy, image=settings.image_dropout, text=settings.text_dropout)
        if size is None:
            return
        try:
            copy.encode_image(torch.zeros(1, 3, size, size))
        except Exception as error:  # towers raise as they please
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise TrainingError(
                f"The image tower cannot learn from photos of {size} pixels ({reason[:200]}). Choose another "
                "--train-size, or leave it out."
            ) from error

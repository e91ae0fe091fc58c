"""The mean of models' weights: often better than each of them (Wortsman et al. 2022, arXiv 2203.05482).

It takes models that were trained from one start, which is how their weights mean the same. With the
start among them, what it knew beside the training data is kept better.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from retrieval.encoders import builtin
from retrieval.errors import TrainingError
from retrieval.train import model_folder
from retrieval.train.starting import Start, start_model


def write_mean(models: Sequence[str], output: Path, *, changes_only: bool = False) -> None:
    """Write the mean of models as a model folder.

    models        at least two, named as for `--model`
    changes_only  write what differs from the packaged towers alone, as the built-in encoder ships

    Raises TrainingError if they are fewer, or their weights differ in name or shape; OSError, and what
    loading raises.
    """
    if len(models) < 2:
        raise TrainingError("A mean takes at least two models.")
    first = start_model(Start(model=models[0]))
    state = first.encoder.model.state_dict()
    total = {name: one.double() for name, one in state.items()}
    for name in models[1:]:
        other = start_model(Start(model=name)).encoder.model.state_dict()
        if {key: one.shape for key, one in other.items()} != {key: one.shape for key, one in state.items()}:
            raise TrainingError(f"{name} has other weights than {models[0]}, so there is no mean of them.")
        for key, one in other.items():
            total[key] += one.double()
    mean = {name: (one / len(models)).to(state[name].dtype) for name, one in total.items()}
    output.mkdir(parents=True, exist_ok=True)
    if changes_only:
        builtin.write_trained(mean, output / builtin.TRAINED_FILE.name)
    else:
        model_folder.write(output, first, mean, {"mean of": ", ".join(models)})

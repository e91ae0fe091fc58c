"""What decides the result of a run, besides the model and the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """
    batch_size         photos in a step, of each process
    chunk              photos embedded at once, where a whole step needs too much memory; None: all
    captions_per_photo in a step; 0: all of them
    image_rate         learning rate of the image tower, as a share of that of the projections; so text_rate
    warm_up            share of steps
    clip               longest gradient
    image_dropout      share of what the image tower says that its projection does not get to see; so text_dropout
    average            decay of the moving average of weights, which is what comes out; 0: the last weights
    distillation       weight of the teacher's part of the loss
    patience           epochs without a better validation to stop after; 0: never
    compile            compile the image tower; see `retrieval.encoders.compiled`
    """

    loss: str = "infonce"
    epochs: int = 10
    batch_size: int = 128
    chunk: int | None = None
    captions_per_photo: int = 1
    learning_rate: float = 1e-3
    image_rate: float = 1.0
    text_rate: float = 1.0
    weight_decay: float = 0.1
    warm_up: float = 0.1
    clip: float = 1.0
    label_smoothing: float = 0.0
    margin: float = 0.2
    image_dropout: float = 0.0
    text_dropout: float = 0.0
    average: float = 0.0
    distillation: float = 0.0
    patience: int = 0
    precision: str = "float32"
    compile: bool = False
    seed: int = 0

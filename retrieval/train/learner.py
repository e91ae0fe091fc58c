"""A model that learns: weights, optimizer and all else that changes from step to step.

Gradients are taken in the model's own number format; the optimizer moves float32 copies of the weights,
since bfloat16 has too few digits for small steps (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1).
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Iterator, Sequence

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transform import PreprocessCfg
from torch.nn import functional as F

from retrieval.encoders.compiled import Compiled
from retrieval.encoders.precision import choose_dtype
from retrieval.encoders.preprocess import normalise
from retrieval.errors import DivergedError
from retrieval.train import gradient_cache, losses
from retrieval.train.batches import Batch
from retrieval.train.frozen_front import rest_of
from retrieval.train.kept import Kept
from retrieval.train.outputs import image_projection
from retrieval.train.processes import Processes
from retrieval.train.settings import Settings
from retrieval.train.starting import Trainee
from retrieval.train.teacher import Teacher
from retrieval.train.trainable import Tuning, drop_outputs, make_trainable, parameter_groups

MAX_LOG_SCALE = math.log(100)  # CLIP's cap on the logit scale


class Learner:
    """One process's part of a run."""

    def __init__(
        self, trainee: Trainee, settings: Settings, tuning: Tuning, steps: int, *,
        device: torch.device, processes: Processes, teacher: Teacher | None = None, kept: Kept = Kept(),
    ):
        """
        steps  of the whole run
        kept   what batches bring instead of pixels, and what there is instead of texts

        Raises TrainingError for an unknown loss, or what `tuning` and dropout cannot do.
        """
        self.settings, self.steps, self.done = settings, steps, 0
        self.device, self._processes, self._teacher = device, processes, teacher
        self._tokenize = trainee.encoder.tokenize
        self._preprocessing = PreprocessCfg(**trainee.encoder.preprocessing)
        self._loss = losses.named(settings.loss, label_smoothing=settings.label_smoothing, margin=settings.margin)
        self.model = make_trainable(trainee.encoder.model, tuning).to(device, memory_format=torch.channels_last)
        drop_outputs(self.model, image=settings.image_dropout, text=settings.text_dropout)
        processes.broadcast_from_first(self.model)
        self.dtype = choose_dtype(settings.precision, device)
        self._trained = {name: one for name, one in self.model.named_parameters() if one.requires_grad}
        self.weights = self._trained
        self._frozen: dict[str, torch.Tensor] = {}  # in float32, where the model has them otherwise
        groups = parameter_groups(
            self.model, settings.learning_rate, settings.weight_decay, tuning.layer_decay,
            image_rate=settings.image_rate, text_rate=settings.text_rate,
        )
        if self.dtype != torch.float32:
            self.weights = {name: one.detach().clone().requires_grad_() for name, one in self._trained.items()}
            of = {id(one): self.weights[name] for name, one in self._trained.items()}
            groups = [{**group, "params": [of[id(one)] for one in group["params"]]} for group in groups]
            self._frozen = {
                name: one.detach().cpu().clone() for name, one in self.model.named_parameters() if name not in self._trained
            }
            _cast(self.model, self.dtype)
        self._kept = kept
        # With a front it is apart from the model, whose mode it does not follow: it only ever learns.
        self._rest = rest_of(self.model.visual, kept.front).train() if kept.front else image_projection(self.model.visual)
        self._compiled = Compiled(self.model.encode_image, trainee.encoder.name) if settings.compile else None
        self._highest = [group["lr"] for group in groups]
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
        self.average = {name: one.detach().clone() for name, one in self.weights.items()} if settings.average else None

    # ------------------------------------------------------------------ one step

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step; returns the loss and the gradient's norm before it was clipped.

        Raises DivergedError, and leaves the weights as they were, if either is no longer a number.
        """
        # Chance in the towers (dropout) follows from the step alone, so a resumed run repeats it.
        torch.manual_seed(hash((self.settings.seed, self._processes.rank, self.done)) % 2**63)
        self.model.train()
        for group, highest in zip(self._optimizer.param_groups, self._highest):
            group["lr"] = highest * rate(self.done, self.steps, self.settings.warm_up)
        pixels, embed_images = batch.pixels.to(self.device, non_blocking=True), self.embed_images
        if batch.kept:
            embed_images = self.embed_kept
        if self._kept.texts is None:
            texts, embed_texts = self.tokens(batch.texts), self.embed_texts
        else:
            said = self._kept.texts[self._kept.text_rows[batch.captions.numpy()]]
            texts, embed_texts = torch.from_numpy(said).to(self.device), self.embed_kept_texts
        for one in self._trained.values():
            one.grad = None

        def loss(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
            return self._loss_of(batch, images, texts)

        if self.settings.chunk:
            value = gradient_cache.backward(
                embed_images, embed_texts, pixels, texts, loss, chunk=self.settings.chunk
            )
        else:
            computed = loss(embed_images(pixels), embed_texts(texts))
            computed.backward()
            value = computed.item()
        norm = self._gather_gradients()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise DivergedError(
                f"The loss is {value:g} and its gradient {norm:g} long at step {self.done + 1} of {self.steps}. "
                f"Lower the learning rate (now {self.settings.learning_rate:g})."
            )
        self._optimizer.step()
        self._after_step()
        self.done += 1
        return value, norm

    def _loss_of(self, batch: Batch, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        gather, first = self._processes.gather, self._processes.rank * len(images)
        owners = gather(batch.owners.to(self.device) + first)
        photos, captions = images, texts
        images, texts = gather(images), gather(texts)
        scale = self.model.logit_scale.exp()
        bias = getattr(self.model, "logit_bias", None)
        value = self._loss(images, texts, owners, scale, bias)
        if self._teacher is not None:
            # Of each process's own part: what the teacher says of the others is in their parts.
            by_teacher = self._teacher.rows(batch, self.device)
            value = value + self.settings.distillation * losses.distillation(
                photos, captions, *by_teacher, scale, self._teacher.scale
            )
        return value

    def _gather_gradients(self) -> float:
        trained = list(self._trained.values())
        self._processes.average_gradients(trained)
        for name, one in self._trained.items():
            if self.weights[name] is not one:
                self.weights[name].grad = None if one.grad is None else one.grad.float()
        return float(torch.nn.utils.clip_grad_norm_(self.weights.values(), self.settings.clip))

    @torch.no_grad()
    def _after_step(self) -> None:
        scale = self.weights.get("logit_scale")
        if scale is not None:
            scale.clamp_(0, MAX_LOG_SCALE)
        self._into_model(self.weights)
        if self.average is not None:
            # Young averages follow fast, or the first weights would stay in them for long.
            decay = min(self.settings.average, (1 + self.done) / (10 + self.done))
            for name, one in self.weights.items():
                self.average[name].lerp_(one, 1 - decay)

    @torch.no_grad()
    def _into_model(self, weights: dict[str, torch.Tensor]) -> None:
        for name, one in self._trained.items():
            if weights[name] is not one:
                one.copy_(weights[name])

    # ------------------------------------------------------------------ what the towers say

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """(m, t), without the padding that no text needs where the tower takes any length."""
        tokens = self._tokenize(list(texts))
        text = getattr(self.model, "text", None)
        if isinstance(text, HFTextEncoder):
            tokens = tokens[:, : int((tokens != text.config.pad_token_id).sum(1).max())]
        return tokens.to(self.device)

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w), bytes or normalised, to unit rows (n, d) float32."""
        pixels = pixels.to(self.device)
        if pixels.dtype == torch.uint8:
            pixels = normalise(pixels, self._preprocessing)
        pixels = pixels.to(self.dtype, memory_format=torch.channels_last)
        encode = self._compiled or self.model.encode_image
        return F.normalize(encode(pixels).float(), dim=-1)

    def embed_kept(self, outputs: torch.Tensor) -> torch.Tensor:
        """What frozen layers gave, (n, channels, h, w) or without a plane, to unit rows (n, d) float32."""
        outputs = outputs.to(self.device, self.dtype)
        if outputs.ndim == 4:
            outputs = outputs.contiguous(memory_format=torch.channels_last)
        return F.normalize(self._rest(outputs).float(), dim=-1)

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """(m, t) to unit rows (m, d) float32."""
        return F.normalize(self.model.encode_text(tokens.to(self.device)).float(), dim=-1)

    def embed_kept_texts(self, outputs: torch.Tensor) -> torch.Tensor:
        """What a frozen text tower gave, (m, width), to unit rows (m, d) float32."""
        return F.normalize(self.model.text.proj(outputs.to(self.device, self.dtype)).float(), dim=-1)

    @property
    def temperature(self) -> float:
        return math.exp(-self.model.logit_scale.item())

    @property
    def learning_rate(self) -> float:
        return max(group["lr"] for group in self._optimizer.param_groups)

    @property
    def peak_gpu_bytes(self) -> int:
        """The most memory of a GPU that this process held; 0 on the CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """The model as it would come out now: averaged weights, no dropout."""
        self.model.eval()
        if self.average is None:
            yield
            return
        live = _detached(self._trained)  # the very weights that the optimizer moves, where they are float32
        self._into_model(self.average)
        try:
            yield
        finally:
            self._into_model(live)

    # ------------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, Any]:
        return {
            "done": self.done, "weights": _detached(self.weights), "buffers": dict(self.model.named_buffers()),
            "average": self.average, "optimizer": self._optimizer.state_dict(),
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        for name, one in self.weights.items():
            one.copy_(state["weights"][name])
        for name, one in self.model.named_buffers():
            one.copy_(state["buffers"][name])
        if self.average is not None:
            self.average = {name: state["average"][name].to(one.device) for name, one in self.average.items()}
        self._optimizer.load_state_dict(state["optimizer"])
        self._into_model(self.weights)

    def outcome(self) -> dict[str, torch.Tensor]:
        """What validation measures: trained weights, averaged if they are, and buffers."""
        return {**_detached(self.average or self.weights),
                **{name: one.detach().clone() for name, one in self.model.named_buffers()}}

    @torch.no_grad()
    def finished(self, outcome: dict[str, torch.Tensor]) -> torch.nn.Module:
        """The model in float32 on the CPU, with an `outcome` in it; not to learn with any more."""
        self.model.float().cpu().eval()
        known = {**self._frozen, **outcome}
        for name, one in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if name in known:
                one.copy_(known[name])
        return self.model


def rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the highest learning rate at a step from 0: a linear rise, then half a cosine to nearly 0."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.float()  # running statistics move by less than bfloat16 can tell
    model.logit_scale.data = model.logit_scale.data.float()


def _detached(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in tensors.items()}

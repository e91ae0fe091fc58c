"""Encoders over open_clip models, whatever their towers."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transform import PreprocessCfg
from PIL import Image

from retrieval.encoders import coca, preprocess, relevance
from retrieval.encoders.batches import Batches, one_thread
from retrieval.encoders.compiled import Compiled
from retrieval.encoders.fingerprint import fingerprint
from retrieval.encoders.fold import fold_batch_norms
from retrieval.encoders.precision import MIN_COSINE, Verdicts, agreement, choose_dtype, resolve_device
from retrieval.encoders.resizing import middle
from retrieval.errors import EncoderError
from retrieval.files import cache_folder

log = logging.getLogger("retrieval")

TEXT_BATCH = 256


@dataclass(frozen=True)
class DualEncoder:
    """A loaded open_clip model in float32 on the CPU, with what belongs to it."""

    name: str
    model: torch.nn.Module
    tokenize: Callable[[list[str]], torch.Tensor]  # (n, context_length) int64

    @property
    def preprocessing(self) -> dict[str, Any]:
        return self.model.visual.preprocess_cfg


class OpenClipEncoder:
    """`retrieval.types.Encoder` over an open_clip model."""

    def __init__(
        self, loaded: DualEncoder, *, device: str = "auto", precision: str = "auto",
        exact_preprocess: bool = False, compile: bool = False,
    ):
        """Raises EncoderError for a device that is not there or an unknown precision."""
        self.name = loaded.name
        self.fingerprint = fingerprint(loaded.model, loaded.preprocessing, loaded.tokenize)
        self.device = resolve_device(device)
        self.batch_size = 512 if self.device.type == "cuda" else 64
        self._batches = Batches(self.device, self.name)
        self._compiled: Compiled | None = None
        self._tokenize = loaded.tokenize
        self._preprocessing = PreprocessCfg(**loaded.preprocessing)
        self._transform = preprocess.exact_transform(self._preprocessing)
        self.input_size: int | None = None
        self.pixels_of: Callable[[Image.Image], np.ndarray] | None = None
        self._model = loaded.model.eval().requires_grad_(False)
        if fold_batch_norms(self._model.visual) and precision == "auto":
            # EfficientNet loses too much in bfloat16 (cosine 0.9977 on the worst of 60 photos)
            # and, once folded, gains little (110 images/s for 72).
            precision = "float32"
        self._model.to(self.device, memory_format=torch.channels_last)
        self.dtype = torch.float32
        self._set_precision(precision)
        if not exact_preprocess:
            self._preprocess_fast()
        if compile:  # what was measured above is not worth it
            self._compiled = Compiled(self._model.encode_image, self.name)
        # Where the tower does not say it a text has to tell; the first one takes its time.
        self.dim: int = getattr(self._model.visual, "output_dim", None) or self.encode_texts(["a"]).shape[1]

    def prepare(self, image: Image.Image) -> torch.Tensor:
        # (3, height, width): float32 and normalised, or bytes to be normalised by the batch
        return self._transform(middle(image))

    @property
    def is_fast(self) -> bool:
        return self.device.type == "cuda"

    def encode_prepared(self, prepared: Sequence[torch.Tensor | np.ndarray]) -> np.ndarray:
        if not len(prepared):
            return np.empty((0, self.dim), np.float32)
        prepared = [preprocess.as_tensor(one) if isinstance(one, np.ndarray) else one for one in prepared]
        with torch.inference_mode(), one_thread() if self.is_fast else nullcontext():
            return _checked(self._batches.embed(prepared, self._embed_pixels), self.name)

    def _embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:  # (n, 3, height, width) -> (n, d)
        encode = self._compiled or self._model.encode_image
        return _unit_rows(encode(self._normalised(pixels)))

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.dtype == torch.uint8:
            pixels = preprocess.normalise(pixels, self._preprocessing)
        return pixels.to(self.dtype, memory_format=torch.channels_last)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self.encode_prepared([self.prepare(image) for image in images])

    @property
    def logit_scale(self) -> float:
        """What training multiplied cosines by; a softmax of them makes shares of labels."""
        return float(self._model.logit_scale.exp())

    def relevance(self, image: Image.Image, text: np.ndarray) -> tuple[np.ndarray, relevance.Box]:
        """What each position of the image contributes to its cosine with `text` (d,), a unit vector.

        Returns contributions float32 (rows, columns), and the part of the image that they lie on:
        left, top, right, bottom in its pixels. Raises EncoderError if its tower has no positions.
        """
        pixels = self._normalised(self.prepare(image)[None].to(self.device))
        towards = torch.from_numpy(np.asarray(text, np.float32)).to(self.device)
        positions = relevance.of_positions(self._model.encode_image, self._model.visual, pixels, towards)
        left, top, right, bottom = relevance.seen_part(middle(image).size, self._preprocessing)
        x, y = ((whole - part) // 2 for whole, part in zip(image.size, middle(image).size))
        return positions, (left + x, top + y, right + x, bottom + y)

    @property
    def writes_captions(self) -> bool:
        """Whether `write_captions` can: CoCa models do."""
        return coca.can_write(self._model, self._tokenize)

    def write_captions(self, images: Sequence[Image.Image]) -> list[str]:
        """A sentence about each image, by a model that `writes_captions`."""
        return [
            caption for image in images
            for caption in coca.write(
                self._model, self._tokenize, self._normalised(self.prepare(image)[None].to(self.device))
            )
        ]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        tokens = self._tokenize(list(texts))  # (n, context_length)
        if not isinstance(getattr(self._model, "text", None), HFTextEncoder):
            return np.concatenate([self._embed_tokens(part) for part in tokens.split(TEXT_BATCH)])
        # These towers mask padding out, so short texts need not pay for the longest one.
        lengths = (tokens != self._model.text.config.pad_token_id).sum(1)  # (n,)
        order = lengths.argsort(stable=True)
        parts = [
            self._embed_tokens(tokens[chosen, : int(lengths[chosen].max())])
            for chosen in order.split(TEXT_BATCH)
        ]
        vectors = np.concatenate(parts)
        in_order = np.empty_like(vectors)
        in_order[order.numpy()] = vectors
        return in_order

    def _embed_tokens(self, tokens: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            features = self._model.encode_text(tokens.to(self.device))
            return _checked(_unit_rows(features).cpu(), self.name)

    def _preprocess_fast(self) -> None:
        """Unless this model's vectors change by it: measured once per model and machine."""
        fast = preprocess.fast_transform(self._preprocessing)
        if fast is None:
            return
        verdicts = Verdicts(cache_folder() / "preprocess.json")
        cosine = verdicts.get(self.fingerprint, self.device)
        if cosine is None:
            cosine = preprocess.agreement(self.encode_prepared, self._transform, fast, self._preprocessing)
            verdicts.put(self.fingerprint, self.device, cosine)
        if cosine >= preprocess.MIN_MEAN_COSINE:
            self._transform, self.input_size = fast, preprocess.input_size(self._preprocessing)
            self.pixels_of = preprocess.resizing(self._preprocessing).of_middle

    def _set_precision(self, precision: str) -> None:
        dtype = choose_dtype(precision, self.device)
        if dtype == torch.float32:
            return
        verdicts = Verdicts()
        cosine = verdicts.get(self.fingerprint, self.device)
        if precision == "auto" and cosine is None:
            exact = copy.deepcopy(self._model)
            self._cast(self._model, dtype)
            cosine = self._agreement_with(exact)
            verdicts.put(self.fingerprint, self.device, cosine)
            if cosine >= MIN_COSINE:
                return
            self._cast(exact, torch.float32)
        elif precision != "auto" or cosine >= MIN_COSINE:
            self._cast(self._model, dtype)
            return
        log.warning(
            "%s runs in float32 here: in bfloat16 its vectors agree only to cosine %.4f.",
            self.name, cosine,
        )

    def _cast(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        self._model = model.to(dtype)
        self.dtype = dtype

    def _agreement_with(self, exact: torch.nn.Module) -> float:
        fast, fast_dtype = self._model, self.dtype

        def embed(model: torch.nn.Module, dtype: torch.dtype):
            def run(images: list[Image.Image], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
                self._model, self.dtype = model, dtype
                return self.encode_images(images), self.encode_texts(texts)
            return run

        try:
            size = preprocess.input_size(self._preprocessing)
            return agreement(embed(exact, torch.float32), embed(fast, fast_dtype), size)
        finally:
            self._model, self.dtype = fast, fast_dtype


def _unit_rows(features: torch.Tensor) -> torch.Tensor:
    # Lengths in float32: bfloat16 has too few digits for a unit vector.
    return torch.nn.functional.normalize(features.float(), dim=-1)


def _checked(rows: torch.Tensor, name: str) -> np.ndarray:
    vectors = rows.numpy()
    if not np.isfinite(vectors).all():
        raise EncoderError(f"{name} gave non-finite vectors. Try --precision float32.")
    return np.ascontiguousarray(vectors)

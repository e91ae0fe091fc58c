"""The built-in encoder's text tower in numpy: for words alone nobody waits for torch.

A process that searches by words needs tokenizers, numpy and half of the built-in encoder. The
tower is BERT (Devlin et al. 2018, arXiv 1810.04805) with six layers; tests hold it to the vectors
of the encoder itself.
"""

from __future__ import annotations

import html
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Sequence

import numpy as np

from retrieval.encoders.packages import sha256, text_tower_file
from retrieval.errors import EncoderError

FOLDER = Path(__file__).parent / "builtin"
BATCH = 64  # texts
FEW_TOKENS = 512  # of a batch: threads would wait for each other longer than they work
_PAD = 0  # the token that is masked out
_CONTEXT_LENGTH = 77  # tokens
_SCALE = ".int8_scale"  # behind a weight's name: its scales, where the weight is a change in int8; as in `quantized`
_HEADS = 12
_EPSILON = 1e-12  # of layer normalisation


def published() -> dict[str, str]:
    """The built-in encoder's fingerprint, and the sha256 of files of the text tower it holds for."""
    return json.loads((FOLDER / "fingerprint.json").read_text(encoding="utf-8"))


def load_text_tower(fingerprint: str) -> TextTower | None:
    """The text tower of the built-in encoder with this fingerprint.

    None if it has another one, or lacks a file: then the encoder itself is to be asked, and says
    why. The image tower is not looked at, for no vector comes from it here.
    """
    files = published()
    if files.pop("fingerprint") != fingerprint:
        return None
    try:
        weights = text_tower_file()
        import threadpoolctl  # noqa: F401
        import tokenizers  # noqa: F401
    except (EncoderError, ImportError):
        return None
    paths = {"trained.safetensors": FOLDER, "tokenizer.json": weights.parent}
    if any(sha256(paths[name] / name) != known for name, known in files.items()):
        return None
    trained = _mapped(FOLDER / "trained.safetensors", "text.")
    projection, tower = trained.pop("proj.weight"), _mapped(weights)
    for name, tensor in trained.items():
        if name.endswith(_SCALE):
            continue
        scale, name = trained.get(name + _SCALE), name.removeprefix("transformer.")
        tower[name] = tensor if scale is None else tower[name] + tensor * scale[:, None]
    return TextTower(tower, projection, weights.parent / "tokenizer.json", fingerprint)


class TextTower:
    """The half of an `Encoder` that embeds texts."""

    name = "builtin"

    def __init__(
        self, weights: dict[str, np.ndarray], projection: np.ndarray, tokenizer: Path, fingerprint: str
    ):
        """weights: by their names in BERT. projection: (d, width)."""
        from threadpoolctl import ThreadpoolController
        from tokenizers import Tokenizer

        self.dim = len(projection)
        self.fingerprint = fingerprint
        self._weights, self._projection = weights, projection
        self._layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(_CONTEXT_LENGTH)
        self._tokenizer.no_padding()
        self._threads = ThreadpoolController().select(user_api="blas")

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts: (n, d) float32, unit rows."""
        tokens = [one.ids for one in self._tokenizer.encode_batch([_clean(text) for text in texts])]
        vectors = np.empty((len(tokens), self.dim), np.float32)
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))  # little padding
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            longest = len(tokens[chosen[-1]])
            padded = np.full((len(chosen), longest), _PAD)  # (n, t)
            for row, index in enumerate(chosen):
                padded[row, : len(tokens[index])] = tokens[index]
            with self._threads.limit(limits=1) if padded.size <= FEW_TOKENS else nullcontext():
                vectors[chosen] = self._embed(padded)
        return vectors

    def _embed(self, tokens: np.ndarray) -> np.ndarray:  # (n, t) -> (n, d)
        kept = tokens != _PAD
        mask = np.where(kept, np.float32(0), np.finfo(np.float32).min)[:, None, None, :]  # (n, 1, 1, t)
        state = self._embedded(tokens)
        for layer in range(self._layers):
            state = self._layer(f"encoder.layer.{layer}", state, mask)
        kept = kept[..., None].astype(np.float32)
        features = ((state * kept).sum(axis=1) / kept.sum(axis=1)) @ self._projection.T
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def _embedded(self, tokens: np.ndarray) -> np.ndarray:  # (n, t) -> (n, t, width)
        words, positions, kinds = (
            self._weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        )
        return self._normalised("embeddings.LayerNorm", words[tokens] + positions[: tokens.shape[1]] + kinds[0])

    def _layer(self, name: str, state: np.ndarray, mask: np.ndarray) -> np.ndarray:
        n, t, width = state.shape

        def heads(part: str) -> np.ndarray:  # (n, heads, t, width / heads)
            return self._linear(f"{name}.attention.self.{part}", state).reshape(n, t, _HEADS, -1).swapaxes(1, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(width // _HEADS)) + mask  # (n, heads, t, t)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ value).swapaxes(1, 2).reshape(n, t, width)
        attended = self._linear(f"{name}.attention.output.dense", mixed)
        state = self._normalised(f"{name}.attention.output.LayerNorm", state + attended)
        inner = _gelu(self._linear(f"{name}.intermediate.dense", state))
        return self._normalised(f"{name}.output.LayerNorm", state + self._linear(f"{name}.output.dense", inner))

    def _linear(self, name: str, rows: np.ndarray) -> np.ndarray:
        return rows @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normalised(self, name: str, rows: np.ndarray) -> np.ndarray:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        return centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _mapped(path: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Tensors of a safetensors file whose names begin so, without the prefix: float32, or int8 with a scale beside.

    They are read where they lie and when they are used. The file begins with the length of a JSON
    header, which says where each tensor is: https://github.com/huggingface/safetensors#format
    """
    content = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    types = {"F32": np.float32, "I8": np.int8}
    return {
        name.removeprefix(prefix):
            np.asarray(content[start + place["data_offsets"][0] : start + place["data_offsets"][1]])
            .view(types[place["dtype"]]).reshape(place["shape"])
        for name, place in header.items()
        if name != "__metadata__" and name.startswith(prefix) and place["dtype"] in types
    }


def _clean(text: str) -> str:
    """As open_clip cleans a text for its Hugging Face tokenizers."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else there is nothing to mend
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def _gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), with erf by 7.1.26 of Abramowitz and Stegun: its error is under 1.5e-7."""
    size = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = t * 1.061405429 - 1.453152027  # Python floats keep float32
    for term in (1.421413741, -0.284496736, 0.254829592):
        series = series * t + term
    erf = np.copysign(1 - series * t * np.exp(-size * size), x)
    return 0.5 * x * (1 + erf)

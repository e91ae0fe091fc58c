"""A trained model as a folder that `--model` takes: configuration, weights, tokenizer, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterable, Iterator

import torch
from open_clip.hf_model import HFTextEncoder
from safetensors import SafetensorError
from safetensors.torch import save_file

from retrieval import __version__
from retrieval.encoders import quantized
from retrieval.encoders.fingerprint import fingerprint_of
from retrieval.encoders.recurrent import WEIGHTS_FILE
from retrieval.errors import TrainingError
from retrieval.files import replacing, write_atomically, write_json
from retrieval.train.starting import Trainee

CONFIG_FILE, CARD_FILE = "open_clip_config.json", "README.md"


def write(
    output: Path, trainee: Trainee, state: dict[str, torch.Tensor], facts: dict[str, Any], *, int8: bool = False
) -> str:
    """Write the folder, or bring it up to date; returns the fingerprint that its encoder will have.

    state  float32, under open_clip's names, as `retrieval.train.trainable.plain_state` gives it
    facts  what the card says of how it was made; dictionaries in it are written out
    int8   keep weights so: a quarter of the size, for this software alone; see `retrieval.encoders.quantized`

    Interrupted, it leaves the model that was there before, or no open_clip_config.json, without which no
    folder is a model. Raises TrainingError if it cannot be written, for want of room for example.
    """
    encoder, config = trainee.encoder, _config(output, trainee)
    state = _apart(state)
    as_loaded = quantized.through_int8(state) if int8 else state
    fingerprint = fingerprint_of(as_loaded, encoder.preprocessing, encoder.tokenize)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if _differs(output / CONFIG_FILE, config):
            (output / CONFIG_FILE).unlink()  # the new weights are not for it
        if int8:
            quantized.save_int8(state, output / quantized.FILE_NAME)
        else:
            with replacing(output / WEIGHTS_FILE) as beside:
                save_file(state, beside, {"format": "pt"})
        (output / (WEIGHTS_FILE if int8 else quantized.FILE_NAME)).unlink(missing_ok=True)
        if isinstance(getattr(encoder.model, "text", None), HFTextEncoder):
            encoder.model.text.config.save_pretrained(output)
        if hasattr(encoder.tokenize, "save_pretrained"):  # open_clip's own carries its vocabulary itself
            encoder.tokenize.save_pretrained(output)
        write_atomically(output / CARD_FILE, _card(output, trainee, fingerprint, facts, int8).encode())
        write_json(output / CONFIG_FILE, config)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainingError(f"The model cannot be written to {output}: {reason}.") from error
    return fingerprint


def _config(output: Path, trainee: Trainee) -> dict[str, Any]:
    config = json.loads(json.dumps(trainee.config))  # a copy, as it reads when it is written
    text = config["model_cfg"]["text_cfg"]
    if Path(text.get("hf_model_name") or "").is_absolute():
        # It came from a folder; the new one holds all that open_clip needs of it.
        text["hf_model_name"] = text["hf_tokenizer_name"] = str(output.absolute())
    return config


def _differs(file: Path, config: dict[str, Any]) -> bool:
    """Whether there is another configuration."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) != config
    except FileNotFoundError:
        return False
    except ValueError:
        return True


def _apart(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, no two tensors in the same memory, which safetensors refuses."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        apart[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in seen else tensor
        seen.add(tensor.untyped_storage().data_ptr())
    return apart


def _card(output: Path, trainee: Trainee, fingerprint: str, facts: dict[str, Any], int8: bool) -> str:
    model_cfg, preprocessing = trainee.config["model_cfg"], trainee.encoder.preprocessing
    size = preprocessing["size"]
    height, width = (size, size) if isinstance(size, int) else size
    rows = [
        ("Written by", f"`retrieval {'compress' if int8 else 'train'}` of crossmodal-retrieval {__version__}"),
        ("Vectors", f"{model_cfg['embed_dim']} dimensions, unit length"),
        ("Images", f"{width} x {height} pixels, {preprocessing['resize_mode']}, {preprocessing['interpolation']}"),
        ("Texts", f"up to {model_cfg['text_cfg'].get('context_length', 77)} tokens"),
        ("Fingerprint", f"`{fingerprint}`"),
    ]
    return "\n".join([
        f"# {output.absolute().name}", "", "A dual encoder: it maps images and texts into one space.", "",
        *_table(rows), "", "## Use", "", "    retrieval index PHOTOS --model FOLDER -o photos.collection", "",
        *_for_open_clip(trainee, int8), "", "## What it started from", "", *(f"- {origin}" for origin in trainee.origins),
        "",
        "## Compression" if int8 else "## Training", "", *_table(_rows(facts)), "",
        "The terms of what it started from and of the data that it was trained on hold for it.", "",
    ])


def _for_open_clip(trainee: Trainee, int8: bool) -> list[str]:
    if int8 or not trainee.plain_open_clip:
        why = "Its weights are kept in int8" if int8 else "Its text tower is recurrent. open_clip has none"
        return [f"{why}, so it loads through this package alone:", "",
                "    from retrieval.encoders import load_encoder", '    encoder = load_encoder("FOLDER")']
    return ["It is an ordinary open_clip model:", "",
            "    import open_clip",
            '    model, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")',
            '    tokenize = open_clip.get_tokenizer("local-dir:FOLDER")']


def _rows(facts: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{before}{name}, ")
        else:
            yield f"{before}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows)]


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")

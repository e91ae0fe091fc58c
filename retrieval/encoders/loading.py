"""Loads open_clip models: of its registry, of the hub, from a folder."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Sequence

import open_clip
from safetensors.torch import load_file

from retrieval.encoders import hub, quantized, recurrent
from retrieval.encoders.openclip import DualEncoder
from retrieval.errors import NOTICE, EncoderError, WeightsError

log = logging.getLogger("retrieval")


def load_registered(name: str, architecture: str, weights: str) -> DualEncoder:
    """An architecture of open_clip's registry; `weights` is one of its tags or a file.

    Raises WeightsError if the weights are not here and cannot be fetched.
    """
    config = open_clip.get_pretrained_cfg(architecture, weights)
    repository, _, file = config.get("hf_hub", "").rpartition("/")

    def load() -> DualEncoder:
        # Some weights want QuickGELU although the architecture's name does not say so;
        # open_clip would only warn and embed with the wrong activation.
        model = open_clip.create_model(
            architecture, weights, require_pretrained=True,
            force_quick_gelu=config.get("quick_gelu", False),
        )
        return DualEncoder(name, model, open_clip.get_tokenizer(architecture))

    if not config:  # a file of the user's
        return _load(name, load)
    return _load_from_hub(name, repository, (file,) if file else hub.WEIGHT_FILES, load)


def load_repository(repository: str) -> DualEncoder:
    """A model of the hub that carries its own open_clip_config.json. Raises WeightsError."""
    name = f"hf-hub:{repository}"

    def load() -> DualEncoder:
        model = open_clip.create_model(name, require_pretrained=True)
        return DualEncoder(name, model, open_clip.get_tokenizer(name))

    return _load_from_hub(name, repository, hub.WEIGHT_FILES, load)


def load_local(name: str, folder: Path) -> DualEncoder:
    """A folder with open_clip_config.json, weights, and tokenizer files if its tokenizer needs any.

    Raises WeightsError without weights, EncoderError if they do not fit the configuration.
    """
    if not any(path.suffix in {".safetensors", ".bin", ".pth"} for path in folder.iterdir()):
        raise WeightsError(
            f"{folder} holds no weights (*.safetensors, *.bin or *.pth) beside its "
            "open_clip_config.json, and this program never uses random ones."
        )
    if (folder / "trained.safetensors").is_file() and len(list(folder.glob("*.safetensors"))) == 1:
        raise WeightsError(
            f"{folder} holds what was trained without the packaged towers. Train again without "
            "--changes-only, or use --model builtin for the ones that ship."
        )
    source = f"local-dir:{folder}"

    def load() -> DualEncoder:
        config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        small = folder / quantized.FILE_NAME
        state = quantized.load_int8(small) if small.is_file() else None
        if recurrent.is_recurrent(config):
            state = load_file(folder / recurrent.WEIGHTS_FILE) if state is None else state
            return DualEncoder(name, recurrent.load(config, state), open_clip.get_tokenizer(source))
        overrides = {}
        text = config["model_cfg"]["text_cfg"]
        if "hf_model_name" in text and (folder / "config.json").is_file():
            # The text tower's own configuration lies here, so the hub need not be asked.
            overrides["text_cfg"] = {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}
        model = open_clip.create_model(
            source, load_weights=state is None, require_pretrained=state is None, **overrides
        )
        if state is not None:
            model.load_state_dict(state)
        return DualEncoder(name, model, open_clip.get_tokenizer(source))

    return _load(name, load)


def _load_from_hub(
    name: str, repository: str, files: Sequence[str], load: Callable[[], DualEncoder]
) -> DualEncoder:
    weights = hub.find_weights(repository, files)
    if weights.cached:
        with hub.offline():
            try:
                return _load(name, load)
            except EncoderError:
                # Weights are here but something small, such as a tokenizer file, is not.
                if hub.offline_by_choice() or not hub.reachable(repository):
                    raise
        return _load(name, load)
    if not weights.reachable:
        reason = "HF_HUB_OFFLINE is set" if hub.offline_by_choice() else (
            f"the model hub cannot be reached, or has no {repository} for you")
        raise WeightsError(
            f"The weights of {name} are not on this machine and {reason}. Go online and run the "
            "same command; or give a downloaded file: --model MODEL/PATH/TO/CHECKPOINT; or use "
            "--model builtin, which needs no download."
        )
    log.log(NOTICE, "Downloading %s: %s, once.", name, hub.readable_size(weights.size))
    return _load(name, load)


def _load(name: str, load: Callable[[], DualEncoder]) -> DualEncoder:
    try:
        with _quiet():
            return load()
    except Exception as error:  # open_clip, torch, safetensors and the hub raise as they please
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(f"{name} cannot be loaded: {reason[:300]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip narrates through the root logger; what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)

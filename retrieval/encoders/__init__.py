"""Encoders: from a model's name to something that embeds images and texts."""

from __future__ import annotations

import logging

from retrieval.encoders.auto import AUTO, BUILTIN, MULTILINGUAL, choose
from retrieval.errors import NOTICE, EncoderError, EncoderMismatchError, WeightsError
from retrieval.manifest import EncoderRecord
from retrieval.types import Encoder, TextEncoder

log = logging.getLogger("retrieval")


def load_encoder(
    name: str = AUTO, *, device: str = "auto", precision: str = "auto", exact_preprocess: bool = False,
    compile: bool = False,
) -> Encoder:
    """Load the encoder that `--model NAME` names.

    name       "auto", "builtin", "builtin-multilingual", MODEL or MODEL/PRETRAINED of open_clip's registry,
               MODEL/PATH to a checkpoint file, "hf-hub:ORG/NAME", "local-dir:PATH" or a folder
    device     "auto" (CUDA, then MPS, then CPU) or a torch device
    precision  "auto", "float32" or "bfloat16"; see `retrieval.encoders.precision`
    exact_preprocess  decode and resize images in full, as open_clip does, where a faster way gives
               nearly the same vectors; see `retrieval.encoders.preprocess`
    compile    compile the image tower: worth its minute for many images; see `retrieval.encoders.compiled`

    Raises UnknownModelError, WeightsError (never random weights), EncoderError.
    """
    how = {"device": device, "precision": precision, "exact_preprocess": exact_preprocess, "compile": compile}
    if name == AUTO:
        choice = choose()
        log.log(NOTICE, choice.sentence)
        try:
            return load_encoder(choice.name, **how)
        except WeightsError as error:
            if choice.name == BUILTIN:
                raise
            log.warning("Using the built-in encoder: %s", error)
            return load_encoder(BUILTIN, **how)
    if name == MULTILINGUAL:
        from retrieval.encoders.multilingual import MultilingualEncoder

        return MultilingualEncoder(**how)
    if name == BUILTIN:
        from retrieval.encoders.builtin import load_model
    else:
        from retrieval.encoders.names import resolve

        load_model = resolve(name).load
    from retrieval.encoders.openclip import OpenClipEncoder

    return OpenClipEncoder(load_model(), **how)


def check_name(name: str) -> None:
    """Raise the UnknownModelError or WeightsError that `load_encoder` is sure to raise; loads no weights."""
    if name == MULTILINGUAL:
        from retrieval.encoders.packages import sentence_tower_files

        sentence_tower_files()
    elif name not in (AUTO, BUILTIN):
        from retrieval.encoders.names import resolve

        resolve(name)


def load_recorded_encoder(
    record: EncoderRecord, collection: str, *, device: str = "auto", precision: str = "auto",
    exact_preprocess: bool = False, compile: bool = False,
) -> Encoder:
    """Load the encoder that made a collection and make sure that it is the same one.

    Raises EncoderMismatchError naming both fingerprints if it is not.
    """
    try:
        encoder = load_encoder(
            record.name, device=device, precision=precision, exact_preprocess=exact_preprocess, compile=compile
        )
    except EncoderError as error:
        raise type(error)(f"{collection} was made with {record.name}. {error}") from error
    check_same_encoder(record, encoder, collection)
    return encoder


def load_recorded_text_tower(
    record: EncoderRecord, *, device: str = "auto", precision: str = "auto"
) -> TextEncoder | None:
    """The text tower of the encoder that made a collection, where it can be had without torch.

    None where it cannot, or where the encoder itself was to run another way.
    """
    if device not in ("auto", "cpu") or precision not in ("auto", "float32"):
        return None
    if record.name == MULTILINGUAL:
        from retrieval.encoders.sentence_tower import load_sentence_tower

        return load_sentence_tower(record.fingerprint)
    if record.name != BUILTIN:
        return None
    from retrieval.encoders.text_tower import load_text_tower

    return load_text_tower(record.fingerprint)


def check_same_encoder(record: EncoderRecord, encoder: Encoder, collection: str) -> None:
    """Raises EncoderMismatchError unless `encoder` is the one that made the collection."""
    if encoder.fingerprint == record.fingerprint:
        return
    raise EncoderMismatchError(
        f"{collection} was made with {record.name} ({record.dim}-d, fingerprint "
        f"{record.fingerprint}), but this encoder is {encoder.name} ({encoder.dim}-d, fingerprint "
        f"{encoder.fingerprint}). Their vectors cannot be compared. Rebuild with this encoder: "
        f"retrieval index --rebuild --model {encoder.name} SOURCE -o {collection}"
    )

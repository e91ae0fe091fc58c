"""Recurrent text towers: what they compute, and that `--model` takes a folder with one."""

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from retrieval.encoders import load_encoder, recurrent
from retrieval.encoders.recurrent import Recurrence, RecurrentText
from retrieval.errors import EncoderError

TEXTS = ["a dog", "two children on a beach, one of them running", "Red CAR!"]
SMALL = {"embedding": 12, "width": 8}


def tower(**recurrence):
    torch.manual_seed(1)
    made = RecurrentText(Recurrence(**{**SMALL, **recurrence}), vocab_size=49408, context_length=16, output_dim=5)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenize():
    return open_clip.SimpleTokenizer(context_length=16)


@pytest.mark.parametrize("pool", ["max", "last"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_does_not_matter(cell, pool, tokenize):
    made = tower(cell=cell, pool=pool, layers=2)
    tokens = tokenize(TEXTS)
    together = made(tokens)
    assert len(np.unique(together.numpy().round(4), axis=0)) == 3
    for row, text in zip(together, tokens):
        length = int(text.argmax()) + 1
        torch.testing.assert_close(made(text[None, :length])[0], row, atol=1e-6, rtol=1e-5)
        text[length:] = 321  # padding of another number
    torch.testing.assert_close(made(tokens), together)


def test_the_largest_value_of_each_unit_over_all_tokens(tokenize):
    made = tower()
    tokens = tokenize(["a dog runs"])
    states, _ = made.rnn(made.embedding(tokens[:, :5]))  # start, a, dog, runs, end
    torch.testing.assert_close(made(tokens), states.amax(1) @ made.proj.weight.T)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_state_behind_the_last_token(cell, tokenize):
    made = tower(cell=cell, pool="last", bidirectional=False)
    tokens = tokenize(["a dog runs"])
    states, _ = made.rnn(made.embedding(tokens[:, :5]))
    torch.testing.assert_close(made(tokens), states[:, -1] @ made.proj.weight.T)


def test_token_number_zero_is_not_the_end_of_a_text(tokenize):
    tokens = tokenize(["!% dog", "!% cat"])
    assert tokens[0, 1] == 0  # where CLIP's tokenizer pads with zeros too
    dog, cat = tower()(tokens)
    assert (dog - cat).abs().max() > 1e-3


def test_unknown_cells_and_pools_are_named():
    with pytest.raises(ValueError, match="cell 'rnn' and pool 'max'.*cells are gru, lstm, pools max, last"):
        tower(cell="rnn")
    with pytest.raises(ValueError, match="pool 'mean'"):
        tower(pool="mean")


CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": recurrent.text_config(Recurrence("lstm", **SMALL), context_length=16),
    },
    "preprocess_cfg": {"resize_mode": "shortest", "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5]},
}


def write_folder(folder, config=CONFIG, seed=0):
    torch.manual_seed(seed)
    model = recurrent.build(CONFIG)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder, model.eval()


def test_the_model_folder_is_an_encoder(tmp_path, tokenize, sample_photos):
    folder, model = write_folder(tmp_path / "model")
    encoder = load_encoder(str(folder), device="cpu", precision="float32", exact_preprocess=True)
    assert encoder.dim == 32 and encoder.name == f"local-dir:{folder}"
    with torch.inference_mode():
        expected = model.encode_text(tokenize(TEXTS), normalize=True)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=1e-6)
    assert encoder._preprocessing.mean == [0.5, 0.5, 0.5]
    half = load_encoder(str(folder), device="cpu", precision="bfloat16")
    assert half.fingerprint == encoder.fingerprint
    assert (half.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(1).min() > 0.999


def test_the_fingerprint_tells_weights_apart(tmp_path):
    prints = [
        load_encoder(str(write_folder(tmp_path / str(seed), seed=seed)[0]), device="cpu", precision="float32").fingerprint.split("-")
        for seed in (0, 1)
    ]
    assert [one == two for one, two in zip(*prints)] == [False, True, True]


def test_weights_that_do_not_fit_are_refused(tmp_path):
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"]["text_cfg"]["recurrent"]["width"] = 9
    folder, _ = write_folder(tmp_path / "model", config)
    with pytest.raises(EncoderError, match=f"{folder} cannot be loaded: .*size mismatch|{folder} cannot be loaded: Error"):
        load_encoder(str(folder))

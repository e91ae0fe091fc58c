"""`retrieval train` where towers learn, as a user runs it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval import demo
from retrieval.cli import train as cli_train

CAPTIONS = Path(demo.__file__).with_name("captions.tsv")
ROOT = Path(__file__).parents[3]


def test_trained_and_searched_with(run, demo_photos, tiny_model, tmp_path):
    model = tmp_path / "model"
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", model, "--model", tiny_model, "--epochs", 2,
               "--train-batch-size", 8, "--held-out", 3, "--train-text", "none", "--json")
    assert done.status == 0, done.err
    (said,) = done.objects
    assert (said["model"], said["photos"], said["held_out"], said["epochs"], said["steps"]) == (str(model), 16, 3, 2, 4)
    assert set(said["recalls"]) == {"text_to_image", "image_to_text"}
    collection = tmp_path / "demo.collection"
    assert run("index", demo_photos, "-o", collection, "--model", model).status == 0
    assert len(run("search", collection, "a cat", "-k", 5, "--json").objects) == 5

    again = run("train", demo_photos, "--captions", CAPTIONS, "-o", model, "--model", tiny_model, "--epochs", 2,
                "--train-batch-size", 8, "--held-out", 3, "--train-text", "none", "--resume")
    assert again.status == 0 and f"Use it: retrieval index SOURCE --model {model}" in again.out
    assert "trained parameters" in again.out and "held-out text to image" in again.out


@pytest.mark.parametrize(("options", "status", "said"), [
    (["--model", "tiny", "--prototype-share", 0.3], 2, "--prototype-share means nothing where towers learn"),
    (["--train-image", "some"], 2, "'some' is neither all, none nor a number of layer groups"),
    (["--captions-per-photo", "0", "--lora", 4], 2, "'0' is neither a number from 1 nor all"),
    (["--architecture", "ViT-S-23"], 1, "ViT-S-32"),
    (["--image-tower", "vgg61", "--text-tower", "gru"], 1, "vgg16"),
    (["--image-tower", "vgg16:none", "--text-tower", "gnu/none"], 1, "gnu/none"),
    (["--architecture", "ViT-S-32", "--loss", "infonse"], 1, "infonce"),
    (["--architecture", "ViT-S-32", "--train-batch-size", 500], 1, "fewer than a batch of 500"),
])
def test_refused(run, demo_photos, tmp_path, options, status, said):
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "out", *options)
    assert done.status == status and said in " ".join(done.err.split()), done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("given", "kind"), [
    ({}, "projections"),
    ({"model": "tiny", "train_image": "none", "train_text": "none"}, "projections"),
    ({"image_tower": "builtin", "text_tower": "builtin", "train_image": "none", "train_text": "none"}, "projections"),
    ({"image_tower": "builtin", "text_tower": "gru", "train_image": "none", "train_text": "none"}, "towers"),
    ({"image_tower": "builtin", "text_tower": "builtin", "train_image": "none"}, "towers"),
    ({"model": "tiny", "train_image": "none", "train_text": "none", "image_dropout": 0.5}, "towers"),
])
def test_frozen_towers_have_their_projections_trained_by_themselves(given, kind):
    assert cli_train._kind("embed", given) == kind


@pytest.mark.slow  # both import everything; tests/retrieval/train/test_processes.py has what they compute
@pytest.mark.parametrize("options", [[], ["--train-image", "none", "--views", "2"]], ids=["whole", "frozen"])
def test_two_processes(demo_photos, tiny_model, tmp_path, options):
    """By torchrun, as on several GPUs: one model, and nothing said twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port),
         "-m", "retrieval", "train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "model", "--model", tiny_model,
         "--epochs", "2", "--train-batch-size", "4", "--held-out", "3", "--json", *options],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (said,) = map(json.loads, done.stdout.splitlines())
    assert (said["photos"], said["steps"]) == (16, 4)  # two steps of 2 x 4 photos an epoch
    assert (tmp_path / "model" / "open_clip_model.safetensors").is_file()

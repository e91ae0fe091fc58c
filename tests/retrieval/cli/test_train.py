"""`retrieval train` where towers learn, as a user runs it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from retrieval import demo
from retrieval.cli import train as cli_train, train_options
from retrieval.cli.interrupts import Interrupts

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


@pytest.mark.parametrize(("steps", "best"), [(1, ""), (3, "{} holds the model of epoch 1, the best so far. ")])
def test_interrupted(run, demo_photos, tiny_model, tmp_path, monkeypatch, steps, best):
    asked = iter([False] * (steps - 1) + [True])
    monkeypatch.setattr(Interrupts, "is_set", lambda event: next(asked))
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path, "--model", tiny_model, "--epochs", 2,
               "--train-batch-size", 8, "--held-out", 3)
    assert done.status == 130
    assert f"Interrupted after {steps} steps. {best.format(tmp_path)}The same command with --resume goes on." in done.err
    assert (tmp_path / "open_clip_model.safetensors").exists() == bool(best)


@pytest.mark.parametrize(("options", "status", "said"), [
    (["--model", "tiny", "--prototype-share", 0.3], 2, "--prototype-share means nothing where towers learn"),
    (["--train-image", "some"], 2, "'some' is neither all, none nor a number of layer groups"),
    (["--lora", 4, "--resume", "--restart"], 2, "--resume goes on with a run, --restart begins anew"),
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


@pytest.mark.parametrize(("options", "said"), [
    (["--patience", 2], "--patience means nothing where only projections learn; add --train-image or --model"),
    (["--resume"], "--resume means nothing where only projections learn"),
    (["--no-flip"], "--no-flip means nothing where only projections learn"),
    (["--train-image", "none", "--crop", 0.3], "--crop means nothing where the image tower is frozen"),
    (["--train-image", "0", "--crop", 0.3], "--crop means nothing where the image tower is frozen"),
    (["--train-image", "none", "--no-flip"], "--no-flip means nothing where the image tower is frozen"),
    (["--train-image", "none", "--compile"], "--compile means nothing where the image tower is frozen and runs once"),
    (["--train-image", 1, "--views", 2, "--compile"], "--compile means nothing where the image tower learns from what its "
     "frozen layers said of --views of each photo"),
    (["--model", "builtin", "--views", 3], "--views means nothing where the image tower runs anew in each epoch"),
])
def test_options_that_would_do_nothing(run, demo_photos, tmp_path, options, said):
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "out", *options)
    assert done.status == 2 and said in " ".join(done.err.split()), done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "said"), [
    ([], "Several processes (torchrun) mean nothing where only projections learn; add --train-image or --model"),
    (["--task", "match"], "Several processes (torchrun) mean nothing to --task match"),
])
def test_several_processes_would_write_the_same_files(run, demo_photos, tmp_path, monkeypatch, options, said):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "out", *options)
    assert done.status == 2 and said in " ".join(done.err.split()), done.err
    assert not (tmp_path / "out").exists()


BOTH = {"train_image": "none", "train_text": "none"}
HOW = ["average", "captions_per_photo", "chunk", "colour", "compile", "crop", "distillation", "flip", "image_dropout",
       "label_smoothing", "loss", "margin", "patience", "precision", "randaugment", "restart", "resume", "teacher",
       "tensorboard", "text_dropout", "train_size", "word_dropout"]


@pytest.mark.parametrize(("given", "kind"), [
    ({}, "projections"),
    *(({name: 1}, "projections") for name in HOW),
    *(({name: 1}, "towers") for name in ("model", "architecture", "image_tower", "text_tower", "train_image", "train_text",
                                         "lora", "layer_decay", "keep_statistics", "tower_rate")),
    (BOTH, "projections"),
    ({"image_tower": "builtin", "text_tower": "builtin", **BOTH}, "projections"),
    ({"image_tower": "builtin", "text_tower": "gru", **BOTH}, "towers"),
    ({"image_tower": "builtin", "text_tower": "builtin", "train_image": "none"}, "towers"),
    ({"model": "builtin", **BOTH, "image_dropout": 0.5}, "towers"),
])
def test_only_what_speaks_of_towers_has_them_learn(given, kind):
    assert cli_train._kind("embed", given) == kind


def test_every_option_has_its_place():
    """So that a new one does not choose a kind by accident."""
    assert train_options.WHERE_TOWERS_LEARN == set(HOW)


def test_frozen_towers_of_another_kind_learn_in_the_other_loop(run, demo_photos, tiny_model, tmp_path):
    """Their ends cannot be trained over kept outputs of both."""
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "model", "--model", tiny_model, "--epochs", 1,
               "--train-batch-size", 8, "--held-out", 3, "--train-image", "none", "--train-text", "none", "--json")
    assert done.status == 0, done.err
    before, after = (load_file(folder / "open_clip_model.safetensors") for folder in (tiny_model, tmp_path / "model"))
    assert {name for name, one in before.items() if not torch.equal(one, after[name])} == {
        "visual.proj", "text_projection", "logit_scale"}


def test_the_last_layers_learn_from_views(run, demo_photos, tmp_path):
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "model", "--image-tower", "test_resnet:none",
               "--text-tower", "gru", "--train-image", 1, "--train-text", "none", "--views", 2, "--dim", 16, "--epochs", 1,
               "--train-size", 64, "--train-batch-size", 8, "--held-out", 3, "--json")
    assert done.status == 0, done.err
    (said,) = done.objects
    assert (said["photos"], said["held_out"], said["steps"]) == (16, 3, 2) and said["loss"] > 0
    (kept,) = (tmp_path / "model" / "checkpoints" / "views").iterdir()
    assert sorted(one.name for one in kept.iterdir()) == ["view-0.npy", "view-1.npy"]
    assert json.loads((tmp_path / "model" / "training.json").read_text())["views"] == 2


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

import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from retrieval import encoders, maintain
from retrieval.embedded import open_embedded
from retrieval.errors import CollectionError, CorpusError, SchemaError, WeightsError
from retrieval.images import open_image
from retrieval.maintain import Watcher

COLOURS = {"a.png": (200, 30, 30), "b.png": (30, 200, 30), "deep/c.png": (30, 30, 200)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, loaded_once):
    """A cache of its own for each test."""
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    for name, colour in COLOURS.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "set" / name)
    return tmp_path / "set"


@pytest.fixture
def embed(tiny_encoder):
    """(ids, files encoded by this run) of the folders under the tiny model, or another."""
    def embed(*folders, model=tiny_encoder.name, **options):
        encoded = []
        with open_embedded(
            folders, model, device="cpu", watcher=Watcher(on_batch=encoded.append), **options
        ) as collection:
            return sorted(id for id, _ in collection.catalog.indexed()), sum(encoded)

    return embed


def test_holds_the_encoders_vectors(folder, tiny_encoder, cache):
    with open_embedded([folder], tiny_encoder.name, device="cpu") as collection:
        assert collection.path.parent == cache / "benchmarks"
        assert collection.path.name.startswith("set-") and collection.path.suffix == ".collection"
        assert collection.load_encoder() is tiny_encoder
        for id, row in collection.catalog.indexed():
            image, _ = open_image(folder / id)
            expected = tiny_encoder.encode_images([image])
            np.testing.assert_allclose(collection.vectors.take(np.array([row])), expected, atol=1e-3)


def test_a_second_run_follows_the_folder(folder, embed):
    assert embed(folder) == (["a.png", "b.png", "deep/c.png"], 3)
    assert embed(folder) == (["a.png", "b.png", "deep/c.png"], 0)
    (folder / "a.png").unlink()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(folder / "b.png")
    Image.new("RGB", (9, 9), (4, 5, 6)).save(folder / "d.png")
    assert embed(folder) == (["b.png", "d.png", "deep/c.png"], 2)


def test_one_collection_per_folders_model_and_precision(folder, embed, cache, other_model):
    assert embed(folder)[1] == 3
    assert embed(folder, model=str(other_model))[1] == 3
    assert embed(folder, precision="float32")[1] == 3
    assert embed(folder, folder / "deep")[1] == 3
    assert embed(folder / "deep") == (["c.png"], 1)
    assert len(list((cache / "benchmarks").glob("*.collection"))) == 5
    assert [embed(folder)[1], embed(folder, model=str(other_model))[1], embed(folder / "deep")[1]] == [0, 0, 0]


def test_a_folder_by_another_name_is_the_same(folder, embed, tmp_path, monkeypatch):
    embed(folder)
    (tmp_path / "link").symlink_to(folder)
    assert embed(tmp_path / "link") == (["a.png", "b.png", "deep/c.png"], 0)
    monkeypatch.chdir(tmp_path)
    assert embed("set")[1] == 0


def test_no_model_is_auto(folder, tiny_encoder, monkeypatch, embed):
    for room in (encoders, maintain):
        monkeypatch.setattr(room, "load_encoder", lambda name, **_: tiny_encoder)
    assert embed(folder, model=None)[1] == 3
    assert embed(folder, model="auto")[1] == 0


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_changed_weights_embed_anew(folder, embed, tiny_model, other_model, tmp_path, caplog, prefix):
    model, name = tmp_path / "model", f"{prefix}{tmp_path}/model"
    model.symlink_to(tiny_model)
    assert embed(folder, model=name)[1] == 3
    model.unlink()
    model.symlink_to(other_model)
    with caplog.at_level(logging.INFO, "retrieval"):
        assert embed(folder, model=name) == (["a.png", "b.png", "deep/c.png"], 3)
    assert f"{name} is no longer what was kept for {folder}; embedding anew." in caplog.messages
    assert embed(folder, model=name)[1] == 0


@pytest.mark.parametrize("file", ["manifest.json", "catalog.sqlite"])
def test_a_damaged_collection_is_made_anew(folder, embed, cache, file):
    embed(folder)
    (path,) = (cache / "benchmarks").glob("*.collection")
    (path / file).write_bytes(b"junk" * 500)
    assert embed(folder) == (["a.png", "b.png", "deep/c.png"], 3)


def test_a_collection_of_a_newer_version_is_left_alone(folder, embed, cache):
    embed(folder)
    (manifest,) = (cache / "benchmarks").glob("*.collection/manifest.json")
    newer = manifest.read_text().replace('"schema_version": ', '"schema_version": 9')
    manifest.write_text(newer)
    with pytest.raises(SchemaError, match="upgrade"):
        embed(folder)
    assert manifest.read_text() == newer


def test_errors_pass_through(folder, embed, tmp_path, cache):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="No images in"):
        embed(tmp_path / "empty")
    with pytest.raises(WeightsError, match="ViT-B-32"):
        embed(folder, model="ViT-B-32")
    assert list((cache / "benchmarks").glob("*.collection")) == []


def test_a_cache_that_cannot_be_written(folder, embed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "file"))
    with pytest.raises(CollectionError, match="file/benchmarks cannot be written: .*set RETRIEVAL_CACHE"):
        embed(folder)


def test_a_second_run_waits_for_the_first(folder, embed, cache, caplog):
    embed(folder)
    (lock_file,) = (cache / "benchmarks").glob("*.lock")
    Image.new("RGB", (9, 9), (4, 5, 6)).save(folder / "d.png")
    done = []
    with caplog.at_level(logging.INFO, "retrieval"):
        with FileLock(lock_file):
            second = threading.Thread(target=lambda: done.append(embed(folder)))
            second.start()
            while "waiting for it" not in caplog.text and second.is_alive():
                time.sleep(0.01)
            assert done == []
        second.join()
    assert done == [(["a.png", "b.png", "d.png", "deep/c.png"], 1)]
    assert f"Another run is embedding {folder}; waiting for it." in caplog.messages


# A process of its own that embeds brightness, slowly enough for two to meet, and without torch.
BRIGHTNESS = """if True:
    import sys, time
    from pathlib import Path
    import numpy as np
    from retrieval import embedded, encoders, maintain

    class Brightness:
        name, dim, fingerprint = "brightness", 2, "brightness-1"

        def prepare(self, image):
            return image.convert("L").getpixel((0, 0))

        def encode_prepared(self, prepared):
            time.sleep(0.3)
            angles = np.array(prepared, np.float32) / 255
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    encoders.load_encoder = maintain.load_encoder = lambda *_, **__: Brightness()
    encoded = []
    watcher = maintain.Watcher(on_batch=encoded.append)
    with embedded.open_embedded([Path(sys.argv[1])], "brightness", batch_size=1, watcher=watcher) as one:
        print(len(one), sum(encoded))
"""


def test_two_processes_at_once_embed_once(folder):
    command = [sys.executable, "-c", BRIGHTNESS, str(folder)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sorted(out for out, _ in outputs) == ["3 0\n", "3 3\n"]

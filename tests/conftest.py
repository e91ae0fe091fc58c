"""Real parts for every test: a small open_clip model with saved weights, and real photos."""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# Before anything starts threads: two test processes with two threads each wait for each other on two cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Set before anything imports the hub's library. Tests that need a hub bring their own.
os.environ["HF_HUB_OFFLINE"] = "1"
for variable in [name for name in os.environ if name.startswith("RETRIEVAL_")]:
    del os.environ[variable]

TINY_CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"resize_mode": "shortest", "interpolation": "bicubic"},
}


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the user's own cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["RETRIEVAL_CACHE"] = str(folder)
    return folder


def write_tiny_model(folder: Path, seed: int) -> Path:
    """An ordinary open_clip model folder, small enough for tests; another seed, another model."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = open_clip.CLIP(**TINY_CONFIG["model_cfg"])
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(TINY_CONFIG))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture as `tiny_model` with other weights."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path, cache_folder: Path):
    from retrieval.encoders import load_encoder

    return load_encoder(f"local-dir:{tiny_model}", device="cpu", precision="float32")


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch, tiny_encoder) -> None:
    """Loading takes longer than most of what is tested; the tiny model is loaded already."""
    from retrieval import encoders, maintain

    load = encoders.load_encoder

    def load_others(name, **options):
        return tiny_encoder if name == tiny_encoder.name else load(name, **options)

    for room in (encoders, maintain):
        monkeypatch.setattr(room, "load_encoder", load_others)


@pytest.fixture(scope="session")
def builtin_encoder(cache_folder: Path):
    from retrieval.encoders import load_encoder

    return load_encoder("builtin", device="cpu")


@pytest.fixture(scope="session")
def collection_of_words():
    """collection_of_words(path, {image: words}): as if the built-in encoder saw in each image what the words say.

    Searched by words it loads no torch, which takes longer than most tests.
    """
    from retrieval.catalog import Catalog
    from retrieval.documents import Document, FileState
    from retrieval.encoders.text_tower import load_text_tower, published
    from retrieval.manifest import EncoderRecord, Manifest
    from retrieval.stored import StoredCollection
    from retrieval.vectors import VECTORS_FOLDER, VectorStore

    tower = load_text_tower(published()["fingerprint"])

    def make(path: Path, images: dict[str | Path, str]) -> Path:
        path.mkdir()
        store = VectorStore(path / VECTORS_FOLDER, tower.dim, 0)
        rows = store.append(tower.encode_texts(list(images.values())))
        with Catalog.create(path) as catalog:
            catalog.commit(
                [Document(FileState(str(image), 1, 1), Path(image).name, f"{row:032x}") for row, image in zip(rows, images)],
                rows,
            )
            store.n += len(rows)
            manifest = Manifest(EncoderRecord("builtin", tower.dim, tower.fingerprint))
            StoredCollection(path, manifest, catalog).refresh_index()
        return path

    return make


@pytest.fixture(scope="session")
def sample_photos() -> list[Path]:
    """The demo's real photos, where their packages keep them. Never write there."""
    from retrieval.demo import sample_photos

    return sample_photos()


@pytest.fixture
def photo_folder(tmp_path: Path, sample_photos: list[Path]) -> Path:
    """A folder of one's own with six real photos, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "2019" / "beach").mkdir(parents=True)
    chosen = {path.name: path for path in sample_photos}
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "flower.jpg"):
        shutil.copyfile(chosen[name], folder / name)
    shutil.copyfile(chosen["china.jpg"], folder / "2019" / "beach" / "china.jpg")
    return folder


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    """The Flickr8k folder beside the checkout; see the README on data."""
    folder = SHARED / "flickr8k"
    if not (folder / "test.tar").exists():
        pytest.skip("the Flickr8k photos are not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """Original-sized photos of the Flickr8k test split beside the checkout; see the README on data."""
    folder = SHARED / "photos"
    if not folder.is_dir():
        pytest.skip("the original photos are not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def write_video():
    """write_video(path, greys, times): a video whose picture at times[i] (ms) is of grey greys[i]."""
    av = pytest.importorskip("av")
    import numpy as np

    def write(path, greys, times=None, *, codec="mpeg4", size=(64, 48), keyframes=12, rotation=0,
              shape=None, metadata=None, left=None):
        times = times or [100 * index for index in range(len(greys))]
        with av.open(str(path), "w") as container:
            container.metadata.update(metadata or {})
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
            stream.codec_context.gop_size = keyframes
            if rotation:
                stream.set_display_rotation(rotation)
            if shape:
                stream.codec_context.sample_aspect_ratio = shape
            for grey, time in zip(greys, times):
                pixels = np.full((size[1], size[0], 3), grey, np.uint8)
                if left is not None:
                    pixels[:, : size[0] // 2] = left
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write

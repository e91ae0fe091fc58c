"""What a name after --model stands for."""

import numpy as np
import open_clip
import pytest
from safetensors.torch import load_file

from retrieval.encoders import load_encoder, names
from retrieval.encoders.auto import RECOMMENDED, RECOMMENDED_REPOSITORY
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.errors import EncoderError, UnknownModelError, WeightsError


@pytest.fixture
def tiny_architecture(tiny_model, monkeypatch):
    """The tiny model's architecture in open_clip's registry."""
    config = open_clip.factory.get_model_config(f"local-dir:{tiny_model}")
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", config)
    return "tiny-test"


def test_architecture_with_weights_is_itself():
    assert names.resolve("ViT-B-32/openai").name == "ViT-B-32/openai"


@pytest.mark.parametrize(
    ("architecture", "tag"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32-SigLIP2-256", "webli"),
        ("ViT-L-14-quickgelu", "dfn2b"),
        ("ViT-B-32-256", "datacomp_s34b_b86k"),
        ("RN50x64", "openai"),
    ],
)
def test_bare_architecture_takes_its_best_published_weights(architecture, tag):
    assert names.resolve(architecture).name == f"{architecture}/{tag}"


def test_models_of_a_repository():
    assert names.models_of_repository("timm/vit_base_patch32_clip_224.openai") == [
        "ViT-B-32/openai", "ViT-B-32-quickgelu/openai"]
    assert names.models_of_repository("timm/ViT-B-16-SigLIP") == ["ViT-B-16-SigLIP/webli"]
    assert names.models_of_repository("nobody/nothing") == []


def test_no_default_is_a_small_scale_ablation():
    for architecture in {architecture for architecture, _ in open_clip.list_pretrained()}:
        tag = names.default_tag(architecture)
        assert "_m_s128m" not in tag and "_s_s13m" not in tag, (architecture, tag)


def test_recommended_model_is_in_the_registry_at_the_repository_that_is_probed():
    architecture, tag = RECOMMENDED.split("/")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    assert config["hf_hub"].rstrip("/") == RECOMMENDED_REPOSITORY


def test_architecture_without_published_weights_says_how_to_give_some():
    with pytest.raises(WeightsError, match=r"no weights for ViT-S-32.*--model ViT-S-32/PATH"):
        names.resolve("ViT-S-32")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("ViT-B32", "ViT-B-32"), ("vit-b-32", "ViT-B-32"), ("bultin", "builtin"),
     ("ViT-B-32-SigLIP2", "ViT-B-32-SigLIP2-256")],
)
def test_unknown_name_offers_the_nearest(wrong, right):
    with pytest.raises(UnknownModelError) as caught:
        names.resolve(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    nearest = message.split("Nearest: ")[1].split(". ")[0].split(", ")
    assert right in nearest


def test_unknown_weights_offer_known_ones():
    with pytest.raises(UnknownModelError, match=r"no weights named 'laion2b'.*laion2b_s34b_b79k"):
        names.resolve("ViT-B-32/laion2b")


def test_checkpoint_behind_an_architecture(tiny_architecture, tiny_model, tiny_encoder, monkeypatch):
    monkeypatch.chdir(tiny_model)
    source = names.resolve(f"{tiny_architecture}/open_clip_model.safetensors")
    # the name must lead to the same file from any folder
    assert source.name == f"{tiny_architecture}/{tiny_model / 'open_clip_model.safetensors'}"
    encoder = OpenClipEncoder(source.load(), device="cpu", precision="float32")
    texts = ["a dog", "two cats"]
    np.testing.assert_allclose(encoder.encode_texts(texts), tiny_encoder.encode_texts(texts), atol=1e-6)


def test_checkpoint_alone_uses_the_configuration_beside_it(tiny_model):
    source = names.resolve(str(tiny_model / "open_clip_model.safetensors"))
    assert source.name == f"local-dir:{tiny_model}"


def test_checkpoint_alone_without_configuration_asks_for_the_architecture(tiny_model, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes((tiny_model / "open_clip_model.safetensors").read_bytes())
    with pytest.raises(UnknownModelError, match=r"--model ViT-B-32/.*weights\.safetensors"):
        names.resolve(str(file))


def test_checkpoint_of_another_architecture_is_one_sentence(tiny_model):
    source = names.resolve(f"ViT-S-32/{tiny_model / 'open_clip_model.safetensors'}")
    with pytest.raises(EncoderError, match=r"^ViT-S-32/.* cannot be loaded: .*width changed") as caught:
        source.load()
    assert "\n" not in str(caught.value)


def test_folder_with_and_without_prefix_is_the_same_model(tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)
    assert names.resolve("tiny").name == f"local-dir:{tiny_model}"
    assert names.resolve("local-dir:tiny").name == f"local-dir:{tiny_model}"


def test_folder_named_like_an_architecture_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "ViT-B-32").mkdir()
    monkeypatch.chdir(tmp_path)
    assert names.resolve("ViT-B-32/openai").name == "ViT-B-32/openai"


def test_folder_that_is_no_model(tmp_path):
    with pytest.raises(UnknownModelError, match="no open_clip_config.json"):
        load_encoder(f"local-dir:{tmp_path}")
    with pytest.raises(UnknownModelError, match="There is no model folder"):
        load_encoder(f"local-dir:{tmp_path / 'nowhere'}")


def test_folder_without_weights_is_never_random(tiny_model, tmp_path):
    (tmp_path / "open_clip_config.json").write_bytes((tiny_model / "open_clip_config.json").read_bytes())
    with pytest.raises(WeightsError, match="holds no weights.*never uses random"):
        load_encoder(str(tmp_path))


def test_folder_whose_weights_are_damaged(tiny_model, tmp_path):
    (tmp_path / "open_clip_config.json").write_bytes((tiny_model / "open_clip_config.json").read_bytes())
    whole = (tiny_model / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_encoder(str(tmp_path))


def test_weights_folder_holds_what_was_trained(tiny_model, tiny_encoder):
    stored = load_file(tiny_model / "open_clip_model.safetensors")
    loaded = tiny_encoder._model.state_dict()
    assert (loaded["visual.proj"] == stored["visual.proj"]).all()

"""What training starts from: the right towers, with the right weights, or an error that says what to do."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from retrieval.encoders import builtin
from retrieval.errors import TrainingError, UnknownModelError, WeightsError
from retrieval.train.starting import Start, start_model

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
SMALL = {"text_tower": "transformer", "image_size": 32, "dim": 24}


def embed(trainee, pixels=PIXELS, texts=("a dog", "a red car on a street")):
    model = trainee.encoder.model.eval()
    with torch.inference_mode():
        return model.encode_image(pixels), model.encode_text(trainee.encoder.tokenize(list(texts)))


def same_tensors(one, other):
    assert list(one) == list(other)
    return all(torch.equal(one[name], other[name]) for name in one)


def test_vgg16_and_gru():
    """The classic, from nothing."""
    trainee = start_model(Start(image_tower="vgg16:none", text_tower="gru", image_size=32))
    images, texts = embed(trainee)
    assert images.shape == texts.shape == (2, 512)
    model = trainee.encoder.model
    # its two hidden layers stay, its classifier has become the projection
    assert model.visual.trunk.pre_logits.fc2.out_channels == 4096
    assert model.visual.trunk.head.fc.weight.shape == (512, 4096)
    assert trainee.config["model_cfg"]["text_cfg"]["recurrent"]["cell"] == "gru"
    assert trainee.encoder.preprocessing["mean"] == [0.485, 0.456, 0.406]  # timm's for it
    assert not trainee.plain_open_clip
    assert trainee.origins == ["Image tower: vgg16 of timm, random weights.", "Text tower: gru, random weights."]


def test_packaged_image_tower_with_lstm():
    trainee = start_model(Start(image_tower="builtin", text_tower="lstm"))
    towers = builtin.load_towers_only("towers", builtin.config()).model
    assert same_tensors(trainee.encoder.model.visual.trunk.state_dict(), towers.visual.trunk.state_dict())
    assert trainee.encoder.preprocessing == towers.visual.preprocess_cfg
    assert isinstance(trainee.encoder.model.text.rnn, torch.nn.LSTM)


def test_packaged_text_tower_with_a_model_of_timm():
    trainee = start_model(Start(image_tower="test_vit:none", text_tower="builtin"))
    towers = builtin.load_towers_only("towers", builtin.config()).model
    assert same_tensors(trainee.encoder.model.text.transformer.state_dict(), towers.text.transformer.state_dict())
    text = trainee.config["model_cfg"]["text_cfg"]
    assert text["hf_model_name"] == "sentence-transformers/all-MiniLM-L6-v2"  # not a path of this machine
    assert trainee.encoder.preprocessing["size"] == (160, 160)
    assert trainee.plain_open_clip and "Apache-2.0" in trainee.origins[1]


def test_random_weights_follow_the_seed():
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(start_model(Start(image_tower="test_efficientnet:none", **SMALL)).encoder.model.state_dict())
    assert same_tensors(states[0], states[1]) and not same_tensors(states[0], states[2])


@pytest.mark.parametrize("classes", [1000, 7, 0])
def test_image_tower_with_weights_of_a_file(tmp_path, classes):
    torch.manual_seed(5)
    trained = timm.create_model("test_efficientnet", num_classes=classes)
    save_file(trained.state_dict(), tmp_path / "mine.safetensors")
    trainee = start_model(Start(image_tower=f"test_efficientnet:{tmp_path / 'mine.safetensors'}", **SMALL))
    own, stored = trainee.encoder.model.visual.trunk.state_dict(), trained.state_dict()
    assert len(own) > 20 and all(torch.equal(own[name], stored[name]) for name in own)
    assert trainee.origins[0] == "Image tower: test_efficientnet of timm, weights from the file mine.safetensors."


def test_a_hidden_layer_before_the_classifier_keeps_its_weights(tmp_path):
    trained = timm.create_model("mobilenetv3_small_050")
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "mine.pth")
    trainee = start_model(Start(image_tower=f"mobilenetv3_small_050:{tmp_path / 'mine.pth'}", **SMALL))
    trunk = trainee.encoder.model.visual.trunk
    assert torch.equal(trunk.conv_head.weight, trained.conv_head.weight)
    assert trunk.classifier.weight.shape == (24, 1024)
    assert embed(trainee)[0].shape == (2, 24)


def test_hugging_face_folder_as_text_tower(tmp_path, write_tiny_bert):
    model = write_tiny_bert(tmp_path)
    trainee = start_model(Start(image_tower="test_vit:none", text_tower=str(tmp_path), dim=24))
    assert same_tensors(trainee.encoder.model.text.transformer.state_dict(), model.state_dict())
    assert trainee.encoder.tokenize(["a dog"]).shape == (1, 64)  # no longer than it has positions
    assert embed(trainee, PIXELS.repeat(1, 1, 5, 5))[1].shape == (2, 24)


def test_architecture_of_the_registry():
    trainee = start_model(Start(architecture="ViT-S-32-alt", dim=24, image_size=64))
    images, texts = embed(trainee, PIXELS.repeat(1, 1, 2, 2))
    assert images.shape == texts.shape == (2, 24)
    assert trainee.config["model_cfg"]["vision_cfg"]["image_size"] == 64
    assert trainee.encoder.preprocessing["size"] == (64, 64)
    assert trainee.plain_open_clip and trainee.origins == ["ViT-S-32-alt: random weights."]


def test_model_with_its_weights(tiny_model, tiny_encoder):
    trainee = start_model(Start(model=str(tiny_model)))
    vectors = torch.nn.functional.normalize(embed(trainee, texts=["a dog"])[1])
    torch.testing.assert_close(vectors, torch.from_numpy(tiny_encoder.encode_texts(["a dog"])), atol=1e-6, rtol=0)
    written = json.loads((tiny_model / "open_clip_config.json").read_text())
    assert trainee.config["model_cfg"] == written["model_cfg"]
    assert all(parameter.requires_grad for parameter in trainee.encoder.model.parameters())


def test_built_in_encoder():
    trainee = start_model(Start(model="builtin"))
    assert trainee.config == builtin.config()
    assert "non-commercial" in trainee.origins[0]


NO_TOWERS = {"image_tower": "test_vit:none", "text_tower": "gru"}


@pytest.mark.parametrize(
    ("start", "kind", "message"),
    [
        ({}, TrainingError, "Say what to start from.*nothing is given"),
        ({"model": "builtin", "text_tower": "gru"}, TrainingError, "not --model and --text-tower together"),
        ({"architecture": "RN50", **NO_TOWERS}, TrainingError, "--architecture and --image-tower and --text-tower"),
        ({"model": "builtin", "dim": 64}, TrainingError, "builtin has its own --dim"),
        ({"image_tower": "vgg16:none"}, TrainingError, "--text-tower is missing"),
        ({"text_tower": "gru"}, TrainingError, "--image-tower is missing"),
        ({"model": "ViT-B-23"}, UnknownModelError, "Nearest: ViT-B-32"),
        ({"architecture": "ViT-S-23"}, UnknownModelError, "no architecture named 'ViT-S-23'. Nearest: ViT-S-32"),
        ({"architecture": "coca_ViT-B-32"}, TrainingError, "learns to write captions too"),
        ({"architecture": "roberta-ViT-B-32"}, TrainingError, "--text-tower roberta-base"),
        ({"architecture": "ViT-B-16-SigLIP", "image_size": 64}, TrainingError, "image tower of timm"),
        ({**NO_TOWERS, "image_tower": "vg16"}, UnknownModelError, "no image tower named 'vg16'. Nearest: vgg16"),
        ({**NO_TOWERS, "image_tower": "buildin"}, UnknownModelError, "Nearest: builtin"),
        ({**NO_TOWERS, "image_tower": "resnet50.best:none"}, UnknownModelError, "Known: .*resnet50.a1_in1k"),
        ({**NO_TOWERS, "image_tower": "vgg16"}, WeightsError, "HF_HUB_OFFLINE is set.*vgg16:FILE.*vgg16:none"),
        ({**NO_TOWERS, "image_tower": "vgg16:gone.pth"}, WeightsError, "gone.pth.*does not exist"),
        ({**NO_TOWERS, "image_tower": "vit_small_patch16_224:none", "image_size": 96}, TrainingError, "224 pixels only"),
        ({**NO_TOWERS, "text_tower": "grru"}, UnknownModelError, "no text tower named 'grru' here. Nearest: gru"),
        ({**NO_TOWERS, "text_tower": "/gone/folder"}, UnknownModelError, "no text tower named '/gone/folder'"),
        ({**NO_TOWERS, "text_tower": "FacebookAI/roberta-base"}, WeightsError, "FacebookAI/roberta-base are not on"),
    ],
)
def test_what_cannot_be_started_from(start, kind, message):
    with pytest.raises(kind, match=message):
        start_model(Start(**start))


def test_a_file_of_another_model_is_refused(tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("vit.safetensors", "text.pth"):
        with pytest.raises(WeightsError, match=f"{name} does not hold the weights of test_efficientnet: "):
            start_model(Start(image_tower=f"test_efficientnet:{tmp_path / name}", **SMALL))


def test_folders_that_are_no_text_tower(tmp_path):
    with pytest.raises(WeightsError, match="holds no weights of a text tower"):
        start_model(Start(image_tower="test_vit:none", text_tower=str(tmp_path)))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(TrainingError, match="configuration of .* cannot be read"):
        start_model(Start(image_tower="test_vit:none", text_tower=str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TrainingError, match="no text tower of .*, a gpt2 model. Choose one of type roberta"):
        start_model(Start(image_tower="test_vit:none", text_tower=str(tmp_path)))

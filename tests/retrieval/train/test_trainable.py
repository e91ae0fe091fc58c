"""Frozen is frozen, the last groups are the last, rates fall from group to group, adapters can be merged."""

import copy
import sys

import open_clip
import pytest
import torch
from torch.nn import functional as F

from retrieval.encoders import recurrent
from retrieval.encoders.recurrent import Recurrence
from retrieval.errors import TrainingError
from retrieval.train.trainable import Tuning, drop_outputs, make_trainable, parameter_groups, plain_state

PIXELS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[98, number, 7, 99, 0, 0] for number in range(1, 5)])
TEXT = {"context_length": 6, "vocab_size": 100, "width": 16, "heads": 2, "layers": 3}
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}


def timm_vision(name):
    return {"image_size": 32, "timm_model_name": name, "timm_pool": "", "timm_proj": "linear"}


def made(kind, seed=0):
    """A model of each sort that there is."""
    torch.manual_seed(seed)
    if kind == "clip":
        return open_clip.CLIP(16, VISION, TEXT)
    if kind == "gru":
        text = recurrent.text_config(Recurrence(embedding=8, width=8, layers=2), vocab_size=100, context_length=6)
        model_cfg = {"embed_dim": 16, "vision_cfg": timm_vision("test_vit"), "text_cfg": text}
        return recurrent.build({"model_cfg": model_cfg, "preprocess_cfg": {}})
    if kind == "bert":
        from transformers import BertConfig

        model = open_clip.CustomTextCLIP(16, timm_vision("test_vit"), TEXT)
        config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                            intermediate_size=24, max_position_embeddings=8)
        model.text = open_clip.hf_model.HFTextEncoder(
            "", 16, config=config, pooler_type="mean_pooler", proj_type="linear")
        return model
    return open_clip.CustomTextCLIP(16, timm_vision(kind), TEXT)


def changed_by_a_step(model):
    """Names of everything that a training step changes, statistics of batch norms included."""
    before = copy.deepcopy(model.state_dict())
    model.train()
    optimizer = torch.optim.SGD(parameter_groups(model, 1.0, 0.0))
    images, texts = model.encode_image(PIXELS, normalize=True), model.encode_text(TOKENS, normalize=True)
    logits = model.logit_scale.exp() * images @ texts.T
    F.cross_entropy(logits, torch.arange(4)).backward()
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


SCALE_AND_PROJECTIONS = {"logit_scale", "visual.head.proj.weight", "text.text_projection"}


def test_frozen_towers_do_not_change_in_training_mode():
    model = make_trainable(made("test_efficientnet"), Tuning(image=0, text=0))
    assert changed_by_a_step(model) == SCALE_AND_PROJECTIONS
    assert not model.visual.trunk.training and model.visual.head.training


def test_unfrozen_towers_change_all_over():
    model = make_trainable(made("test_efficientnet"), Tuning())
    changed = changed_by_a_step(model)
    assert {"visual.trunk.conv_stem.weight", "visual.trunk.bn1.running_mean"} <= changed
    assert {"text.token_embedding.weight", "text.positional_embedding"} <= changed


def test_other_training_after_frozen_training_is_as_it_was():
    """Hooks of an earlier choice do not matter to a model that is made anew from its state."""
    model = make_trainable(made("test_efficientnet"), Tuning(image=0, text=0))
    fresh = made("test_efficientnet", seed=1)
    fresh.load_state_dict(plain_state(model))
    assert "visual.trunk.bn1.running_mean" in changed_by_a_step(make_trainable(fresh, Tuning()))


@pytest.mark.parametrize(
    ("kind", "tuning", "expected"),
    [
        ("clip", Tuning(image=1, text=1), (
            "visual.transformer.resblocks.1.", "visual.ln_post.", "visual.proj", "transformer.resblocks.2.",
            "ln_final.", "text_projection")),
        ("clip", Tuning(image=2, text=3), (
            "visual.transformer.resblocks.", "visual.ln_post.", "visual.proj", "transformer.resblocks.",
            "ln_final.", "text_projection")),
        ("test_vit", Tuning(image=2, text=0), (
            "visual.trunk.blocks.4.", "visual.trunk.blocks.5.", "visual.trunk.norm.", "visual.head.",
            "text.text_projection")),
        ("test_efficientnet", Tuning(image=1, text=0), (
            "visual.trunk.blocks.4.", "visual.trunk.conv_head.", "visual.trunk.bn2.", "visual.head.",
            "text.text_projection")),
        ("bert", Tuning(image=0, text=1), (
            "visual.head.", "text.transformer.encoder.layer.2.", "text.transformer.pooler.", "text.proj.")),
        ("gru", Tuning(image=0, text=1), ("visual.head.", "text.proj.", "text.rnn.weight_ih_l1", "text.rnn.weight_hh_l1",
                                          "text.rnn.bias_ih_l1", "text.rnn.bias_hh_l1")),
        ("gru", Tuning(image=0, text=0), ("visual.head.", "text.proj.")),
    ],
)
def test_the_last_groups(kind, tuning, expected):
    model = make_trainable(made(kind), tuning)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        name for name, _ in model.named_parameters() if name.startswith(expected) or name == "logit_scale"}
    assert all(any(name.startswith(one) for name in trained) for one in expected)
    assert trained >= changed_by_a_step(model) - {name for name, _ in model.named_buffers()}


def test_frozen_batch_norms_below_trained_ones_keep_their_statistics():
    changed = changed_by_a_step(make_trainable(made("test_efficientnet"), Tuning(image=1, text=0)))
    statistics = {name for name in changed if "running_" in name}
    assert "visual.trunk.bn2.running_mean" in statistics
    assert all(name.startswith(("visual.trunk.blocks.4.", "visual.trunk.bn2.")) for name in statistics)


def test_frozen_batch_norms_in_lists_keep_their_statistics():
    """A list of layers is never called itself."""
    model = make_trainable(made("hrnet_w18_small"), Tuning(image=1, text=0))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    moved = {name.removesuffix(".running_mean") for name in changed_by_a_step(model) if name.endswith(".running_mean")}
    assert moved and {f"{name}.weight" for name in moved} <= trained


def test_a_classifier_that_projects_is_a_projection():
    torch.manual_seed(0)
    vision = {"image_size": 32, "timm_model_name": "mobilenetv3_small_050", "timm_pool": "avg", "timm_proj": ""}
    model = make_trainable(open_clip.CustomTextCLIP(16, vision, TEXT), Tuning(image=0, text=0))
    assert changed_by_a_step(model) == {
        "logit_scale", "text.text_projection", "visual.trunk.classifier.weight", "visual.trunk.classifier.bias"}


def rates(model, groups):
    """{name: (learning rate, weight decay)}."""
    by_parameter = {id(one): (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}
    return {name: by_parameter[id(one)] for name, one in model.named_parameters() if id(one) in by_parameter}


def test_rates_fall_by_a_factor_from_group_to_group():
    model = make_trainable(made("clip"), Tuning())
    found = rates(model, parameter_groups(model, 0.8, 0.2, layer_decay=0.5))
    assert len(found) == len(list(model.named_parameters()))
    assert {name: found[name] for name in (
        "logit_scale", "visual.proj", "visual.ln_post.weight", "visual.transformer.resblocks.1.mlp.c_fc.weight",
        "visual.transformer.resblocks.0.mlp.c_fc.weight", "visual.transformer.resblocks.0.mlp.c_fc.bias",
        "visual.conv1.weight", "visual.class_embedding", "text_projection", "transformer.resblocks.2.ln_1.weight",
        "transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight",
    )} == {
        "logit_scale": (0.8, 0.0),
        "visual.proj": (0.8, 0.2),
        "visual.ln_post.weight": (0.4, 0.0),  # with the last block
        "visual.transformer.resblocks.1.mlp.c_fc.weight": (0.4, 0.2),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": (0.2, 0.2),
        "visual.transformer.resblocks.0.mlp.c_fc.bias": (0.2, 0.0),
        "visual.conv1.weight": (0.1, 0.2),
        "visual.class_embedding": (0.1, 0.0),
        "text_projection": (0.8, 0.2),
        "transformer.resblocks.2.ln_1.weight": (0.4, 0.0),
        "transformer.resblocks.0.attn.in_proj_weight": (0.1, 0.2),
        "token_embedding.weight": (0.05, 0.2),
    }


def test_only_what_is_trained_has_a_rate():
    model = make_trainable(made("test_vit"), Tuning(image=0, text=0))
    groups = parameter_groups(model, 0.5, 0.1)
    assert rates(model, groups) == {
        "logit_scale": (0.5, 0.0), "visual.head.proj.weight": (0.5, 0.1), "text.text_projection": (0.5, 0.1)}
    assert len(groups) == 2


def stir_adapters(model):
    """As if trained: adapters start out adding nothing."""
    chance = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=chance))
    return model


@pytest.mark.parametrize("kind", ["clip", "test_vit", "test_efficientnet", "bert", "gru"])
def test_merged_adapters_give_the_same_vectors(kind):
    plain = made(kind).eval()
    adapted = make_trainable(made(kind), Tuning(lora=2)).eval()
    with torch.no_grad():
        torch.testing.assert_close(adapted.encode_image(PIXELS), plain.encode_image(PIXELS), atol=1e-5, rtol=1e-4)
        stir_adapters(adapted)
        moved = (adapted.encode_image(PIXELS) - plain.encode_image(PIXELS)).abs().max()
        assert moved > 1e-3
        merged = made(kind, seed=1).eval()
        merged.load_state_dict(plain_state(adapted))  # strictly: the same names
        for one, other in ((adapted, merged), (copy.deepcopy(adapted), merged)):
            torch.testing.assert_close(one.encode_image(PIXELS), other.encode_image(PIXELS), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(one.encode_text(TOKENS), other.encode_text(TOKENS), atol=1e-5, rtol=1e-4)


def test_adapters_train_and_what_they_adapt_does_not():
    model = stir_adapters(make_trainable(made("test_efficientnet"), Tuning(lora=2)))
    changed = changed_by_a_step(model)
    assert {name for name in changed if ".lora_" not in name} == SCALE_AND_PROJECTIONS
    assert any(name.startswith("visual.trunk.blocks.0.") for name in changed)
    assert "text.transformer.resblocks.0.attn.parametrizations.in_proj_weight.0.lora_A" in changed


def test_adapters_of_the_last_groups_alone():
    model = make_trainable(made("clip"), Tuning(image=0, text=1, lora=2))
    adapted = {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted and all(name.startswith("transformer.resblocks.2.") for name in adapted)


def test_a_recurrent_tower_is_trained_itself():
    model = make_trainable(made("gru"), Tuning(lora=2))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"text.embedding.weight", "text.rnn.weight_ih_l0"} <= trained
    assert all(".lora_" in name or name == "visual.head.proj.weight" for name in trained if name.startswith("visual."))


def test_an_adapter_learns_at_the_rate_of_its_layer():
    model = make_trainable(made("clip"), Tuning(lora=2))
    found = rates(model, parameter_groups(model, 0.8, 0.2, layer_decay=0.5))
    expected = {
        "visual.transformer.resblocks.1.mlp.c_fc.lora_A.default.weight": (0.4, 0.2),
        "visual.transformer.resblocks.0.attn.parametrizations.in_proj_weight.0.lora_A": (0.2, 0.2),
        "transformer.resblocks.0.attn.out_proj.parametrizations.weight.0.lora_B": (0.1, 0.2),
        "visual.conv1.lora_B.default.weight": (0.1, 0.2),
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (Tuning(image=4), "The image tower has 3 groups of layers; its last 4 cannot be trained."),
        (Tuning(text=5), "The text tower has 4 groups of layers; its last 5"),
        (Tuning(text=-1), "text is -1; it counts from 0"),
        (Tuning(lora=-2), "lora is -2"),
        (Tuning(layer_decay=0), "The layer decay is 0; it must lie in"),
        (Tuning(layer_decay=1.1), "The layer decay is 1.1"),
        (Tuning(image=0, text=0, lora=4), "There is no layer to adapt"),
    ],
)
def test_what_cannot_be_tuned(tuning, message):
    with pytest.raises(TrainingError, match=message):
        make_trainable(made("clip"), tuning)


def test_adapters_without_peft(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"need the package peft.*crossmodal-retrieval\[train\]"):
        make_trainable(made("clip"), Tuning(lora=2))


def test_projections_see_a_part_of_what_towers_say_while_they_learn():
    model = made("bert")
    drop_outputs(model, image=0.75, text=0.5)
    seen = []
    model.text.proj.register_forward_hook(lambda layer, given, result: seen.append(given[0]))
    model.eval()
    whole = model.encode_text(TOKENS)
    model.text.proj.train()
    torch.manual_seed(0)
    dropped = model.encode_text(TOKENS)
    complete, partial = seen
    hidden = partial == 0
    assert 0.3 < hidden.float().mean() < 0.7
    assert torch.equal(partial[~hidden], 2 * complete[~hidden])  # as large on average
    assert not torch.equal(whole, dropped)


def test_dropout_of_the_image_towers_outputs_is_its_own():
    model = made("test_vit")
    drop_outputs(model, image=0.5, text=0.0)
    model.eval()
    model.visual.head.train()
    assert not torch.equal(model.encode_image(PIXELS), model.encode_image(PIXELS))
    model.eval()
    assert torch.equal(model.encode_image(PIXELS), model.encode_image(PIXELS))


def made_with_hidden_layer():
    """As starting makes towers with a layer before the classifier, such as vgg16's: the classifier projects."""
    torch.manual_seed(0)
    vision = {**timm_vision("mobilenetv3_small_050"), "timm_pool": "avg", "timm_proj": ""}
    return open_clip.CustomTextCLIP(16, vision, TEXT)


def test_dropout_before_a_projection_that_is_the_trunks_classifier():
    model = made_with_hidden_layer()
    drop_outputs(model, image=0.5, text=0.0)
    classifier = model.visual.trunk.classifier
    seen = []
    classifier.register_forward_hook(lambda layer, given, result: seen.append(given[0]))
    model.eval()
    model.encode_image(PIXELS)
    classifier.train()
    vectors = model.encode_image(PIXELS)
    complete, partial = seen
    dropped = (partial == 0) & (complete != 0)
    assert 0.4 < dropped.sum() / (complete != 0).sum() < 0.6
    assert torch.equal(partial[~dropped], 2 * complete[~dropped])
    assert (vectors != 0).all()


def test_dropout_that_cannot_be_says_so():
    with pytest.raises(TrainingError, match="text tower's dropout is 1"):
        drop_outputs(made("bert"), image=0.0, text=1)
    with pytest.raises(TrainingError, match="image tower has no layer for its projection"):
        drop_outputs(made("clip"), image=0.5, text=0.0)
    headless = made_with_hidden_layer()
    headless.visual.trunk.reset_classifier(0)
    with pytest.raises(TrainingError, match="image tower has no layer for its projection"):
        drop_outputs(headless, image=0.5, text=0.0)


def test_frozen_recurrent_layers_drop_nothing():
    model = make_trainable(made("gru"), Tuning(text=0)).train()
    model.encode_text(TOKENS)
    (layers,) = [one for one in model.text.modules() if isinstance(one, torch.nn.RNNBase)]
    assert layers.dropout > 0 and not layers.training

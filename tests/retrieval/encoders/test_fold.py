"""Folding batch norms must not change what a tower computes."""

import open_clip
import pytest
import timm
import torch

from retrieval.encoders.fold import fold_batch_norms


def trained(name):
    torch.manual_seed(0)
    tower = torch.nn.Module()
    tower.trunk = timm.create_model(name, num_classes=0)
    for module in tower.trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training, not as initialised
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return tower.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "efficientnet_b0"])
def test_folded_tower_computes_the_same(name):
    tower = trained(name)
    pixels = torch.randn(2, 3, 64, 64)
    before = tower.trunk(pixels)
    assert fold_batch_norms(tower) is True
    assert not [one for one in tower.trunk.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(tower.trunk(pixels), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mixnet_s", "efficientnet_cc_b0_4e"])
def test_convolutions_that_are_several_in_one_are_left_alone(name):
    tower = trained(name)
    pixels = torch.randn(2, 3, 64, 64)
    before, names = tower.trunk(pixels), [name for name, _ in tower.trunk.named_modules()]
    assert fold_batch_norms(tower) is False
    assert [name for name, _ in tower.trunk.named_modules()] == names
    assert torch.equal(tower.trunk(pixels), before)


def test_other_towers_are_left_alone():
    vision = open_clip.create_model("RN50", load_weights=False).visual
    names = [name for name, _ in vision.named_modules()]
    assert fold_batch_norms(vision) is False
    assert [name for name, _ in vision.named_modules()] == names

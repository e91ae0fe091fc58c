"""Losses by hand, and beside open_clip's where those exist."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss

from retrieval.errors import TrainingError
from retrieval.train import losses

IMAGES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
TEXTS = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])  # image 0 scores 1, 0.6, 0 and image 1 scores 0, 0.8, 1
PAIRWISE, TWO_AND_ONE = torch.tensor([0, 1]), torch.tensor([0, 0, 1])


def log_sum(*logits):
    return math.log(sum(math.exp(one) for one in logits))


def minus_log_sigmoid(logit):
    return math.log(1 + math.exp(-logit))


def unit_rows(n, d, seed):
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def test_infonce_of_pairs():
    of_images = (log_sum(2, 1.2) - 2) + (log_sum(0, 1.6) - 1.6)
    of_texts = (log_sum(2, 0) - 2) + (log_sum(1.2, 1.6) - 1.6)
    found = losses.infonce(IMAGES, TEXTS[:2], PAIRWISE, torch.tensor(2.0))
    assert found.item() == pytest.approx((of_images / 2 + of_texts / 2) / 2, abs=1e-6)


def test_infonce_of_an_image_with_two_texts():
    of_images = (log_sum(2, 1.2, 0) - (2 + 1.2) / 2) + (log_sum(0, 1.6, 2) - 2)
    of_texts = (log_sum(2, 0) - 2) + (log_sum(1.2, 1.6) - 1.2) + (log_sum(0, 2) - 2)
    found = losses.infonce(IMAGES, TEXTS, TWO_AND_ONE, 2.0)
    assert found.item() == pytest.approx((of_images / 2 + of_texts / 3) / 2, abs=1e-6)


def test_infonce_of_five_captions_each():
    texts, owners = IMAGES.repeat_interleave(5, 0), torch.arange(2).repeat_interleave(5)
    one = math.log(1 + math.exp(-3))  # of two logits, 3 and 0; five of each are log 5 more
    assert losses.infonce(IMAGES, texts, owners, 3.0).item() == pytest.approx(one + math.log(5) / 2, abs=1e-6)


def test_label_smoothing():
    right = math.log(1 + math.exp(-3))
    expected = 0.9 * right + 0.1 * (right + (right + 3)) / 2  # a tenth of the target lies on both alike
    found = losses.named("infonce", label_smoothing=0.1)(IMAGES, IMAGES, PAIRWISE, 3.0, None)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_label_smoothing_of_an_image_with_two_texts():
    target = [0.8 / 2 + 0.2 / 3, 0.8 / 2 + 0.2 / 3, 0.2 / 3]
    first = log_sum(2, 1.2, 0) - (2 * target[0] + 1.2 * target[1])
    second = log_sum(0, 1.6, 2) - (1.6 * target[2] + 2 * (0.8 + 0.2 / 3))
    of_texts = (log_sum(2, 0) - 0.9 * 2) + (log_sum(1.2, 1.6) - 0.9 * 1.2 - 0.1 * 1.6) + (log_sum(0, 2) - 0.9 * 2)
    found = losses.infonce(IMAGES, TEXTS, TWO_AND_ONE, 2.0, label_smoothing=0.2)
    assert found.item() == pytest.approx(((first + second) / 2 + of_texts / 3) / 2, abs=1e-6)


def test_siglip_of_an_image_with_two_texts():
    together = [2 - 1, 1.2 - 1, 2 - 1]
    apart = [0 - 1, 1.6 - 1, 0 - 1]
    expected = sum(map(minus_log_sigmoid, together)) + sum(minus_log_sigmoid(-one) for one in apart)
    found = losses.siglip(IMAGES, TEXTS, TWO_AND_ONE, torch.tensor(2.0), torch.tensor(-1.0))
    assert found.item() == pytest.approx(expected / 3, abs=1e-6)


def test_siglip_weighs_the_same_with_five_captions_each():
    texts, owners = IMAGES.repeat_interleave(5, 0), torch.arange(2).repeat_interleave(5)
    expected = minus_log_sigmoid(10 - 4) + minus_log_sigmoid(4)
    for count in (5, 1):
        found = losses.siglip(IMAGES, texts[:: 6 - count], owners[:: 6 - count], 10.0, -4.0)
        assert found.item() == pytest.approx(expected, abs=1e-6), count


def test_hardest_hinge_of_pairs():
    # text 0's image scores 1; its hardest negatives are text 1 with 0.6 and image 1 with 0
    # text 1's image scores 0.8; its hardest negatives are text 0 with 0 and image 0 with 0.6
    found = losses.named("vse++", margin=0.5)(IMAGES, TEXTS[:2], PAIRWISE, 100.0, None)
    of_texts, of_images = (0.1 + 0) / 2, (0 + 0.3) / 2
    assert found.item() == pytest.approx(of_texts + of_images, abs=1e-6)


def test_an_images_other_text_is_no_negative():
    # image 0 scores 1 and 0.6 with its own texts and 0 with the other; image 1 scores 0.8 with a foreign one
    of_texts = (0 + 0 + max(0, 0.5 + 0.8 - 1)) / 3
    of_images = (0 + (0.5 + 0.8 - 0.6) + 0) / 3
    found = losses.hardest_hinge(IMAGES, TEXTS, TWO_AND_ONE, margin=0.5)
    assert found.item() == pytest.approx(of_texts + of_images, abs=1e-6)


def test_ties():
    same, owners = torch.tensor([[0.6, 0.8]]).repeat(4, 1), torch.arange(4)
    assert losses.infonce(same, same, owners, 50.0).item() == pytest.approx(math.log(4), abs=1e-6)
    one = minus_log_sigmoid(2) + 3 * minus_log_sigmoid(-2)
    assert losses.siglip(same, same, owners, 2.0, None).item() == pytest.approx(one, abs=1e-5)
    assert losses.hardest_hinge(same, same, owners, margin=0.2).item() == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("name", losses.NAMES)
def test_a_lone_image_has_no_negatives(name):
    image = torch.tensor([[0.6, 0.8]], requires_grad=True)
    loss = losses.named(name)(image, IMAGES[:1], torch.tensor([0]), 1.0, None)
    loss.backward()
    assert loss.item() == pytest.approx(minus_log_sigmoid(0.6) if name == "siglip" else 0, abs=1e-6)
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("name", losses.NAMES)
def test_the_order_of_texts_does_not_matter(name):
    images, texts, owners = unit_rows(5, 8, 0), unit_rows(12, 8, 1), torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 4])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    loss = losses.named(name)
    straight, mixed = loss(images, texts, owners, 10.0, -3.0), loss(images, texts[order], owners[order], 10.0, -3.0)
    assert straight.item() > 0.1
    assert mixed.item() == pytest.approx(straight.item(), abs=1e-6)


def value_and_gradients(loss, scale, bias):
    leaves = [unit_rows(16, 8, 0), unit_rows(16, 8, 1), torch.tensor(scale), torch.tensor(bias)]
    for leaf in leaves:
        leaf.requires_grad_()
    value = loss(*leaves)
    value.backward()
    return value.item(), [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(losses.infonce, ClipLoss()), (losses.siglip, SigLipLoss())],
    ids=["infonce", "siglip"],
)
def test_pairs_lose_what_they_lose_in_open_clip(ours, theirs):
    value, gradients = value_and_gradients(lambda x, y, *more: ours(x, y, torch.arange(16), *more), 14.0, -10.0)
    expected, their_gradients = value_and_gradients(theirs, 14.0, -10.0)
    assert value == pytest.approx(expected, abs=1e-6)
    for one, other in zip(gradients, their_gradients):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_scores_are_exact_where_towers_are_not():
    images, texts, owners = unit_rows(16, 8, 0).bfloat16(), unit_rows(16, 8, 1).bfloat16(), torch.arange(16)
    exact = losses.infonce(images.float(), texts.float(), owners, 100.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.infonce(images, texts, owners, 100.0)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(exact.item(), rel=1e-6)
    double = losses.infonce(images.double(), texts.double(), owners, 100.0)
    assert double.dtype == torch.float64


def test_distillation_by_hand():
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    swapped = teacher.flip(0)
    # each row: the student gives its own share p, the teacher the other q, of two
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-3))
    expected = q * math.log(q / (1 - p)) + (1 - q) * math.log((1 - q) / p)
    found = losses.distillation(student, student, teacher, swapped, 2.0, 3.0)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_nothing_is_lost_to_a_teacher_of_the_same_mind():
    images, texts = unit_rows(4, 8, 0), unit_rows(9, 8, 1)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2))).Q
    assert losses.distillation(images, texts, images @ turn, texts @ turn, 20.0, 20.0).item() == pytest.approx(0, abs=1e-5)
    assert losses.distillation(images, texts, images, texts, 20.0, 5.0).item() > 0.1


def test_distillation_pulls_as_open_clip_does():
    teacher = unit_rows(16, 5, 3), unit_rows(16, 5, 4)
    _, gradients = value_and_gradients(lambda x, y, scale, bias: losses.distillation(x, y, *teacher, scale, 30.0), 14.0, 0.0)
    _, expected = value_and_gradients(lambda x, y, scale, bias: DistillClipLoss()(x, y, scale, *teacher, 30.0)[1], 14.0, 0.0)
    for one, other in zip(gradients, expected):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_where_scale_and_bias_start():
    assert losses.initial_scale_and_bias("infonce") == (pytest.approx(14.2857, abs=1e-4), None)
    assert losses.initial_scale_and_bias("siglip") == (10, -10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("info_nce", {}, "no loss 'info_nce'. Choose infonce"),
        ("VSE", {}, r"no loss 'VSE'. Choose vse\+\+"),
        ("?", {}, r"Choose infonce or siglip or vse\+\+"),
        ("infonce", {"label_smoothing": 1.0}, "is 1.0; it must be at least 0 and below 1"),
        ("siglip", {"label_smoothing": 0.1}, "siglip has no labels to smooth"),
        ("vse++", {"margin": 0}, "margin is 0; it must be above 0"),
    ],
)
def test_refused(name, options, message):
    with pytest.raises(TrainingError, match=message):
        losses.named(name, **options)

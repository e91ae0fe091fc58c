"""Which parameters are trained, and how fast: frozen towers, their last groups, low-rank adapters.

A tower is a pile of groups: what reads the input, then its blocks. Behind the last one stands the
projection into the shared space; projections and the temperature always train.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable

import torch
from open_clip.timm_model import TimmModel
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import register_parametrization

from retrieval.encoders.recurrent import RecurrentText
from retrieval.errors import TrainingError

IMAGE, TEXT = "image", "text"
# Names as in open_clip's transformers and transformers' encoders; of recurrent layers' parameters.
_BLOCK = re.compile(r"(?:resblocks|layers?|block)\.(\d+)\.|_l(\d+)(?:_reverse)?$")
_INPUT = re.compile(r"emb|^conv1\.|^ln_pre\.")
_PROJECTION = re.compile(r"(?:proj|text_projection)(?:\.|$)|attnpool\.c_proj\.")
_ADAPTER = "default"  # peft's name for it
_ALPHA = 2  # what adapters add counts so many times


@dataclass(frozen=True)
class Tuning:
    """What of the towers is trained.

    image, text  groups counted from the projection; None: all, 0: none
    layer_decay  each group learns by this factor slower than the one behind it, the last one than the projection
    lora         rank of adapters, trained instead of the weights of these groups; 0: none. A recurrent tower
                 takes none and is trained itself
    keep_statistics  batch norms keep their running means and variances also where their layers are trained
    """

    image: int | None = None
    text: int | None = None
    layer_decay: float = 1.0
    lora: int = 0
    keep_statistics: bool = False


@dataclass(frozen=True)
class _Place:
    """Group `group` of the `of` of a tower; group == of is the projection."""

    tower: str
    group: int
    of: int


def make_trainable(model: nn.Module, tuning: Tuning) -> nn.Module:
    """Freeze and adapt an open_clip model in place. What is frozen stays in evaluation mode, whatever its mode.

    Raises TrainingError for more groups than a tower has, or adapters where there is nothing to adapt.
    """
    for name, value in (("image", tuning.image), ("text", tuning.text), ("lora", tuning.lora)):
        if value is not None and value < 0:
            raise TrainingError(f"{name} is {value}; it counts from 0.")
    if not 0 < tuning.layer_decay <= 1:
        raise TrainingError(f"The layer decay is {tuning.layer_decay}; it must lie in (0, 1], 1 for none.")
    places = _places(model)
    trained = set()
    for tower, wanted in ((IMAGE, tuning.image), (TEXT, tuning.text)):
        groups = max((place.of for place in places.values() if place.tower == tower), default=0)
        if wanted is not None and wanted > groups:
            raise TrainingError(f"The {tower} tower has {groups} groups of layers; its last {wanted} cannot be trained.")
        first = 0 if wanted is None else groups - wanted
        trained |= {name for name, place in places.items() if place.tower == tower and place.group >= first}
    if tuning.lora:
        inside = {name for name in trained if places[name].group < places[name].of}
        adapted = _adapt(model, inside, tuning.lora)
        trained -= {name for name in inside if places[name].tower in adapted}
    for name, parameter in model.named_parameters():
        is_scale = name in ("logit_scale", "logit_bias")
        parameter.requires_grad_(".lora_" in name or is_scale or _plain(name) in trained)
    _keep_frozen_in_evaluation(model)
    if tuning.keep_statistics:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(_evaluate)
    return model


def drop_outputs(model: nn.Module, *, image: float, text: float) -> None:
    """While it learns, hide shares of what the towers say from the projections behind them.

    Raises TrainingError for a share outside [0, 1), or a tower whose projection is no layer of its own.
    """
    for tower, share in ((IMAGE, image), (TEXT, text)):
        if not 0 <= share < 1:
            raise TrainingError(f"The {tower} tower's dropout is {share}; it has to be at least 0, and below 1.")
        if not share:
            continue
        projection = _projection_layer(model, tower)
        if not isinstance(projection, nn.Module):
            raise TrainingError(f"The {tower} tower has no layer for its projection to drop outputs before; leave that out.")
        projection.register_forward_pre_hook(
            lambda layer, given, share=share: nn.functional.dropout(given[0], share, layer.training)
        )


def _projection_layer(model: nn.Module, tower: str) -> Any:
    """What takes a tower's outputs and gives vectors of the shared space; no module if that is no layer of its own."""
    if tower == TEXT:
        return getattr(getattr(model, "text", None), "proj", None)
    if isinstance(model.visual, TimmModel) and not len(model.visual.head):  # the trunk's classifier is the projection
        classifier = model.visual.trunk.get_classifier()
        return classifier if isinstance(classifier, nn.Linear) else None
    return getattr(model.visual, "head", None)


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float = 1.0, *,
    image_rate: float = 1.0, text_rate: float = 1.0,
) -> list[dict[str, Any]]:
    """What an optimizer takes: parameters that are trained, by learning rate and weight decay.

    image_rate, text_rate  learning rate of a tower's groups, as a share of that of projections

    Layer-wise rates as in BEiT (Bao et al. 2022): layer_decay ** groups behind it, the projection counted.
    Vectors and scalars (norms, biases, the temperature) do not decay, as in open_clip's training.
    """
    places = _places(model)
    modules = {name.rpartition(".")[0]: place for name, place in places.items()}
    tower_rates = {IMAGE: image_rate, TEXT: text_rate}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # An adapter's place is that of the layer that it adapts.
        place = modules.get(_adapted_layer(name)) if ".lora_" in name else places.get(_plain(name))
        rate = learning_rate * layer_decay ** (place.of - place.group if place else 0)
        if place and place.group < place.of:
            rate *= tower_rates[place.tower]
        groups.setdefault((rate, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in sorted(groups.items(), key=lambda one: one[0], reverse=True)
    ]


def plain_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state under open_clip's names, adapters added to the weights that they adapt.

    The model stays as it is, and other tensors are its own, not copies.
    """
    state = {_plain(name): tensor.detach() for name, tensor in model.state_dict().items() if ".lora_" not in name}
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, LowRank):
                weight = _plain(f"{name.removesuffix('.0')}.original")
                state[weight] = module(state[weight])
            elif hasattr(module, "get_delta_weight"):  # a layer of peft
                weight = f"{_plain(name)}.weight"
                state[weight] = state[weight] + module.get_delta_weight(_ADAPTER)
    return state


class LowRank(nn.Module):
    """A weight (out, in) plus a product of two thin matrices (Hu et al. 2021), as peft starts and scales it.

    For the weights of torch's MultiheadAttention, where peft adds the change of the output's twice, and rounds
    the frozen weights anew at every step.
    """

    def __init__(self, weight: torch.Tensor, rank: int):
        super().__init__()
        out, width = weight.shape
        self.lora_A = nn.Parameter(torch.empty(rank, width, device=weight.device))
        self.lora_B = nn.Parameter(torch.zeros(out, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + _ALPHA * self.lora_B @ self.lora_A


def _plain(name: str) -> str:
    """Of a parameter or layer, without what adapters put into it."""
    return re.sub(r"\.parametrizations\.(\w+)\.original", r".\1", name.replace(".base_layer", ""))


def _adapted_layer(name: str) -> str:
    """The plain name of the layer that a parameter of an adapter belongs to."""
    return _plain(name.partition(".lora_")[0].partition(".parametrizations.")[0])


def _places(model: nn.Module) -> dict[str, _Place]:
    """Of every parameter of both towers, by the name it has without adapters."""
    names = [_plain(name) for name, _ in model.named_parameters() if ".lora_" not in name]
    if hasattr(model, "text"):
        text, of_text = model.text, "text."
        rest = [name.removeprefix(of_text) for name in names if name.startswith(of_text)]
    else:  # open_clip's CLIP keeps the parts of its text tower itself
        text, of_text = model, ""
        rest = [name for name in names if not name.startswith(("visual.", "logit_"))]
    seen = [name.removeprefix("visual.") for name in names if name.startswith("visual.")]
    return {
        **{f"visual.{name}": place for name, place in _piled(IMAGE, model.visual, seen).items()},
        **{f"{of_text}{name}": place for name, place in _piled(TEXT, text, rest).items()},
    }


def _piled(kind: str, tower: nn.Module, names: list[str]) -> dict[str, _Place]:
    projection = set(_projection(tower, names))
    numbers = _numbers(tower, [name for name in names if name not in projection])
    order = {number: group for group, number in enumerate(sorted(set(numbers.values())))}
    placed = {name: _Place(kind, order[number], len(order)) for name, number in numbers.items()}
    return {**placed, **{name: _Place(kind, len(order), len(order)) for name in projection}}


def _projection(tower: nn.Module, names: list[str]) -> Iterable[str]:
    if not isinstance(tower, TimmModel):
        return [name for name in names if _PROJECTION.match(name)]
    if len(tower.head):
        return [name for name in names if name.startswith("head.")]
    classifier = {id(parameter) for parameter in tower.trunk.get_classifier().parameters()}
    return [name for name, parameter in tower.named_parameters() if id(parameter) in classifier]


def _numbers(tower: nn.Module, names: list[str]) -> dict[str, float]:
    """Numbers by which names order into groups; where nothing is known of a tower all have the same."""
    if isinstance(tower, TimmModel):
        from timm.models._manipulate import group_with_matcher

        if not hasattr(tower.trunk, "group_matcher"):
            return dict.fromkeys(names, 0)
        inner = [name.removeprefix("trunk.") for name in names]
        found = group_with_matcher(zip(inner, inner), tower.trunk.group_matcher(), reverse=True)
        return {f"trunk.{name}": number for name, number in found.items()}
    blocks = {name: int(match[1] or match[2]) for name in names if (match := _BLOCK.search(name))}
    last = max(blocks.values(), default=0)
    before = -1 if blocks else 0
    # Norms and poolers behind the last block belong to it.
    return {name: blocks.get(name, before if _INPUT.search(name) else last) for name in names}


def _adapt(model: nn.Module, inside: set[str], rank: int) -> set[str]:
    """Put adapters around the layers that these parameters belong to; returns the towers that have some.

    Raises TrainingError without peft, or if there is no such layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise TrainingError(
            "Adapters (--lora) need the package peft. Install it: pip install 'crossmodal-retrieval[train]'"
        ) from None
    recurrent = [name for name, module in model.named_modules() if isinstance(module, RecurrentText)]
    layers = [
        name for name, module in model.named_modules()
        if _is_adaptable(module) and not name.startswith(tuple(recurrent))
        and {f"{name}.{parameter}" for parameter, _ in module.named_parameters()} <= inside
    ]
    if not layers:
        raise TrainingError("There is no layer to adapt (--lora): leave it out, or train more of a tower.")
    attentions = [name for name in layers if type(model.get_submodule(name)) is nn.MultiheadAttention]
    if others := set(layers).difference(attentions):
        # One expression, because of a list peft would also take names that end like one of its own.
        chosen = "|".join(re.escape(name) for name in sorted(others))
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=_ALPHA * rank, target_modules=chosen), model, _ADAPTER)
    for attention in map(model.get_submodule, attentions):
        for module, weight in ((attention, "in_proj_weight"), (attention.out_proj, "weight")):
            register_parametrization(module, weight, LowRank(getattr(module, weight), rank))
    return {IMAGE if name.startswith("visual.") else TEXT for name in layers}


def _is_adaptable(module: nn.Module) -> bool:
    # Exactly these classes: others, such as timm's convolutions that pad by themselves, compute something else.
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) in (nn.Linear, nn.MultiheadAttention)


def _keep_frozen_in_evaluation(module: nn.Module) -> None:
    """Its largest parts without a trained parameter, that is: no dropout there, and batch norms keep their statistics."""
    parameters = list(module.parameters())
    is_called = not isinstance(module, (nn.ModuleList, nn.ModuleDict))  # those only hold what is
    if is_called and parameters and not any(parameter.requires_grad for parameter in parameters):
        if isinstance(module, (_BatchNorm, nn.RNNBase)) or list(module.children()):
            module.register_forward_pre_hook(_evaluate)
        return
    for child in module.children():
        _keep_frozen_in_evaluation(child)


def _evaluate(module: nn.Module, arguments: Any) -> None:
    if module.training:
        module.eval()

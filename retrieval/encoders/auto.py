"""`--model auto`: the recommended model where its weights can be had, else the built-in one."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.encoders.hub import find_weights, offline_by_choice, readable_size

AUTO = "auto"
BUILTIN = "builtin"
MULTILINGUAL = "builtin-multilingual"  # never chosen by itself

# Why this one. open_clip's retrieval table (docs/openclip_retrieval_results.csv) has, for text to
# image R@1 on Flickr30k / COCO: ViT-B-32 laion2b 66.8 / 39.3 at 14.8 GFLOPs, ViT-B-16-SigLIP-256
# 75.0 / 48.3 at 57.8 GFLOPs. The SigLIP 2 paper (arXiv 2502.14786) reports gains over SigLIP at
# every size; its B/32 at 256 pixels costs about a quarter of the B/16, is multilingual, and its
# weights are Apache-2.0, where the built-in encoder's are for research only.
RECOMMENDED = "ViT-B-32-SigLIP2-256/webli"
RECOMMENDED_REPOSITORY = "timm/ViT-B-32-SigLIP2-256"
_HOW = "Choose another with --model NAME; `retrieval models` lists them."


@dataclass(frozen=True)
class Choice:
    """A model name, and one sentence that says which, why, and how to choose."""

    name: str
    sentence: str


def choose() -> Choice:
    """Takes under PROBE_SECONDS (see hub) on a machine without network; downloads nothing."""
    weights = find_weights(RECOMMENDED_REPOSITORY)
    if weights.cached:
        return Choice(
            RECOMMENDED,
            f"Model: {RECOMMENDED}, the recommended one; its weights are on this machine. {_HOW}",
        )
    if weights.reachable:
        return Choice(
            RECOMMENDED,
            f"Model: {RECOMMENDED}, the recommended one; downloading "
            f"{readable_size(weights.size)} once. {_HOW}",
        )
    reason = "HF_HUB_OFFLINE is set" if offline_by_choice() else "the model hub cannot be reached"
    return Choice(
        BUILTIN,
        f"Model: the built-in encoder, because {RECOMMENDED} is not on this machine and "
        f"{reason}. {_HOW}",
    )

"""The model hub: what is cached, whether it can be reached, how much there is to download.

open_clip's own downloads retry for 45 seconds on a machine without network; one short request
here tells first.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, Sequence

# Names under which open_clip looks for weights in a repository, in its order.
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PROBE_SECONDS = 4.0  # whole probe, name resolution included


@dataclass(frozen=True)
class Weights:
    """Where weights stand. size is in bytes, None if the hub did not say."""

    cached: bool
    reachable: bool
    size: int | None = None


def find_weights(repository: str, files: Sequence[str] = WEIGHT_FILES) -> Weights:
    """Look in the local cache, then ask the hub with one request of at most PROBE_SECONDS.

    `HF_HUB_OFFLINE` is honoured: nothing is asked then.
    """
    if is_cached(repository, files):
        return Weights(cached=True, reachable=False)
    return _ask_briefly(repository, files)


def is_cached(repository: str, files: Sequence[str] = WEIGHT_FILES) -> bool:
    """Whether one of the files is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def reachable(repository: str) -> bool:
    """Whether the hub would give this repository's weights now."""
    return _ask_briefly(repository, WEIGHT_FILES).reachable


def offline_by_choice() -> bool:
    """Whether the user asked for no network by HF_HUB_OFFLINE."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


@contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's library off the network: what is cached is used without asking."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def readable_size(count: int | None) -> str:
    """'1.5 GB', or 'unknown size'."""
    if count is None:
        return "unknown size"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def _ask_briefly(repository: str, files: Sequence[str]) -> Weights:
    if offline_by_choice():
        return Weights(cached=False, reachable=False)
    answers: list[Weights] = []
    # In a thread because name resolution obeys no time-out.
    probe = threading.Thread(target=lambda: answers.append(_ask(repository, files)), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return answers[0] if answers else Weights(cached=False, reachable=False)


def _ask(repository: str, files: Sequence[str]) -> Weights:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for file in files:
        try:
            found = get_hf_file_metadata(hf_hub_url(repository, file), timeout=PROBE_SECONDS)
            return Weights(cached=False, reachable=True, size=found.size)
        except EntryNotFoundError:
            continue
        except Exception:  # no network, no such repository, no access: all mean "not from there"
            break
    return Weights(cached=False, reachable=False)

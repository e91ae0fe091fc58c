"""Gradients of a large batch in the memory of a small one: GradCache (Gao et al. 2021, section 3.2).

A contrastive loss needs the rows of the whole batch, but not the towers' inner states. So the batch is
embedded without them; the loss gives a gradient for each row; and each chunk is embedded once more, with
its inner states, and handed its rows' gradients. That costs a second forward pass.
"""

from __future__ import annotations

from typing import Callable, Iterator

import torch

Embed = Callable[[torch.Tensor], torch.Tensor]


def backward(
    embed_images: Embed, embed_texts: Embed, pixels: torch.Tensor, tokens: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *, chunk: int,
) -> float:
    """Add the gradients of the batch's loss to the parameters', and return the loss.

    pixels (n, ...), tokens (m, t)  embedded at most `chunk` rows at a time: (n, d), (m, d)
    loss                            of all rows; what else it has parameters for gets its gradients too

    Dropout falls alike both times. Batch normalisation sees a chunk for a batch, and sees it twice. What fits
    into one chunk is embedded once.
    """
    images, texts = _Side(embed_images, pixels, chunk), _Side(embed_texts, tokens, chunk)
    value = loss(images.rows, texts.rows)
    value.backward()
    after = _random_states(pixels.device)
    images.backward()
    texts.backward()
    _set_random_states(after, pixels.device)
    return value.item()


class _Side:
    """One tower's rows (n, d), leaves of the loss's graph."""

    def __init__(self, embed: Embed, inputs: torch.Tensor, chunk: int):
        self._embed, self._chunks, self._size = embed, inputs.split(chunk), chunk
        self._states, rows = [], []
        once = len(self._chunks) == 1
        with torch.set_grad_enabled(once):
            for one in self._chunks:
                self._states.append(_random_states(one.device))
                rows.append(embed(one))
        self._kept = rows if once else None
        self.rows = torch.cat(rows).detach().requires_grad_()

    def backward(self) -> None:
        for rows, gradient in zip(self._kept or self._again(), self.rows.grad.split(self._size)):
            if not rows.requires_grad:
                return  # a frozen tower
            rows.backward(gradient)

    def _again(self) -> Iterator[torch.Tensor]:
        for one, state in zip(self._chunks, self._states):
            _set_random_states(state, one.device)
            yield self._embed(one)


def _random_states(device: torch.device) -> list[torch.Tensor]:
    """Of the generators that dropout may draw from: the CPU's, and the GPU's that is in use."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)

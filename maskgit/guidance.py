"""Classifier-free guidance and the schedules of its scale."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .sub_code_heads import Logits, SubCodeLogits, logits_given


def guide(conditional: Logits, unconditional: Logits, guidance_scale: float) -> Logits:
    """Return uncond + s (cond - uncond) for each sub-code; exactly uncond at s = 0 and cond at s = 1."""

    def guided(with_label: SubCodeLogits, without: SubCodeLogits, earlier: Sequence[Tensor] = ()) -> Tensor:
        return torch.lerp(logits_given(without, earlier), logits_given(with_label, earlier), guidance_scale)

    return tuple(
        guided(*pair) if isinstance(pair[0], Tensor) else partial(guided, *pair)
        for pair in zip(conditional, unconditional, strict=True)
    )


def constant_guidance(guidance_scale: float, progress: float) -> float:
    """Return the same scale for every pass."""
    return guidance_scale


def linear_guidance(guidance_scale: float, progress: float) -> float:
    """Return a scale that rises linearly from 1, which is no guidance, to the full scale in the last pass."""
    return 1 + (guidance_scale - 1) * progress


def cosine_guidance(guidance_scale: float, progress: float) -> float:
    """Return a scale that rises from 1 to the full scale along half a cosine, slowly at both ends."""
    return 1 + (guidance_scale - 1) * (1 - math.cos(math.pi * progress)) / 2


GUIDANCE_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": constant_guidance,
    "linear": linear_guidance,
    "cosine": cosine_guidance,
}
"""Functions from the guidance scale and the progress of a pass, in (0, 1], to the scale of the pass."""

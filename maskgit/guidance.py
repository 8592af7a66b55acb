"""Classifier-free guidance and the schedules of its scale."""

import math
from collections.abc import Callable

import torch

from .sampling import Logits


def guide(conditional: Logits, unconditional: Logits, guidance_scale: float) -> Logits:
    """Return uncond + s (cond - uncond) for each sub-code; exactly uncond at s = 0 and cond at s = 1."""
    return tuple(
        torch.lerp(without, with_label, guidance_scale)
        for with_label, without in zip(conditional, unconditional, strict=True)
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

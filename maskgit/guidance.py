"""Classifier-free guidance: from the unconditional prediction to the conditional one, and beyond."""

import math
from collections.abc import Callable

import torch

from .sampling import Logits


def guide(conditional: Logits, unconditional: Logits, guidance_scale: float) -> Logits:
    """uncond + s (cond - uncond), for each sub-code: exactly the one at s = 0 and the other at s = 1."""
    return tuple(
        torch.lerp(without, with_label, guidance_scale)
        for with_label, without in zip(conditional, unconditional, strict=True)
    )


def constant_guidance(guidance_scale: float, progress: float) -> float:
    """The same scale in every pass."""
    return guidance_scale


def linear_guidance(guidance_scale: float, progress: float) -> float:
    """From 1, no guidance, in a straight line to the full scale in the last pass."""
    return 1 + (guidance_scale - 1) * progress


def cosine_guidance(guidance_scale: float, progress: float) -> float:
    """From 1 to the full scale along half a cosine: slow at both ends."""
    return 1 + (guidance_scale - 1) * (1 - math.cos(math.pi * progress)) / 2


GUIDANCE_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": constant_guidance,
    "linear": linear_guidance,
    "cosine": cosine_guidance,
}
"""From the guidance scale and the progress of a pass, in (0, 1], to the scale of that pass."""

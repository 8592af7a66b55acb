"""Which codes are hidden: schedules and random masks. In a mask True is hidden."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MaskSchedule = Callable[[Float[Tensor, " b"]], Float[Tensor, " b"]]
"""From progress to the share of codes that is still hidden: 1 at 0, 0 at 1, falling between."""


def cosine_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Share of codes still hidden after `progress` of the decoding: 1 at 0, 0 at 1 (MaskGIT, section 3.3)."""
    return torch.cos(progress * math.pi / 2)


def random_mask(
    mask_ratio: Float[Tensor, " b"], num_codes: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "b n"]:
    """Hide exactly ceil(ratio * n) codes of each row, at least one, at random places.

    Args:
        mask_ratio: in [0, 1].
        num_codes: the n of a row.
        generator: on the CPU, whatever the device of `mask_ratio`: a seed means the same mask everywhere.
    """
    num_masked = (mask_ratio * num_codes).ceil().clamp(1, num_codes)
    noise = torch.rand(len(mask_ratio), num_codes, generator=generator)
    return rank(noise).to(mask_ratio.device) < num_masked[:, None]


def training_mask(
    batch_size: int,
    num_codes: int,
    schedule: MaskSchedule = cosine_schedule,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "b n"]:
    """Masks at as many points of the decoding, on the CPU: of ratio schedule(r), r uniform in [0, 1).

    The r of a batch lie 1 / b apart: each is uniform, together they cover the decoding evenly, and the loss of a
    batch varies less than with independent ones.
    """
    evenly_spaced = torch.arange(batch_size) / batch_size
    progress = (torch.rand(1, generator=generator) + evenly_spaced) % 1
    return random_mask(schedule(progress), num_codes, generator)


def rank(values: Float[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Place of each value in its sorted row, 0 for the smallest; equal values never share a rank."""
    return values.argsort(dim=-1, stable=True).argsort(dim=-1)

"""Which codes are hidden: schedules and random masks. In a mask True is hidden."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

MaskSchedule = Callable[[Float[Tensor, " b"]], Float[Tensor, " b"]]
"""From progress to the share of codes that is still hidden: 1 at 0, 0 at 1, never rising between."""

LOG_SCHEDULE_CODES = 256


def cosine_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Share of codes still hidden after `progress` of the decoding: 1 at 0, 0 at 1 (MaskGIT, section 3.3)."""
    return torch.cos(progress * math.pi / 2)


def linear_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - progress: every pass settles as many codes."""
    return 1 - progress


def square_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - progress^2: few codes at first, close to the cosine."""
    return 1 - progress.square()


def cubic_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - progress^3: fewer still at first."""
    return 1 - progress**3


def arccos_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """arccos(progress) / (pi / 2), the inverse of the cosine: many at first and many at last."""
    return progress.arccos() / (math.pi / 2)


def log_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-log(progress) / log(N), no more than 1, with N = 256: most codes in the first passes.

    MaskGIT takes as N the codes of its grid, 16 x 16. A schedule does not know the grid, so that number stands; what
    it changes in larger or smaller ones is where the fall begins, at 1 / N.
    """
    return (-progress.log() / math.log(LOG_SCHEDULE_CODES)).clamp(0, 1)


SCHEDULES: dict[str, MaskSchedule] = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "square": square_schedule,
    "cubic": cubic_schedule,
    "arccos": arccos_schedule,
    "log": log_schedule,
}


def num_hidden_after_each_pass(
    num_hidden: Int[Tensor, " b"], num_steps: int, schedule: MaskSchedule = cosine_schedule
) -> list[Int[Tensor, " b"]]:
    """How many codes of each sample are hidden at the start and after each pass, on the CPU.

    After a pass floor(schedule(progress) * start) are left, at least one fewer than before it, none after the last.
    """
    progress = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    counts = [num_hidden]
    for share in schedule(progress)[:-1]:
        # A share that rounding has put just below a whole number of codes, as 1 - 0.9 of 10, means that number.
        wanted = (share * num_hidden + 1e-9).floor().long()
        counts.append(wanted.minimum(counts[-1] - 1).clamp(min=0))
    return [*counts, torch.zeros_like(num_hidden)]


def random_mask(
    mask_ratio: Float[Tensor, " b"], num_codes: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "b n"]:
    """Hide exactly ceil(ratio * n) codes of each row, at least one, at random places.

    Args:
        mask_ratio: in [0, 1].
        num_codes: the n of a row.
        generator: on the CPU, whatever the device of `mask_ratio`: a seed means the same mask everywhere.
    """
    return mask_where_lowest(
        torch.rand(len(mask_ratio), num_codes, generator=generator, dtype=torch.float32), mask_ratio
    )


def training_mask(
    batch_size: int,
    num_codes: int,
    schedule: MaskSchedule = cosine_schedule,
    generator: torch.Generator | None = None,
    rows: slice = slice(None),
) -> Bool[Tensor, "_ n"]:
    """Masks at as many points of the decoding, on the CPU: of ratio schedule(r), r uniform in [0, 1).

    The r of a batch lie 1 / b apart: each is uniform, together they cover the decoding evenly, and the loss of a
    batch varies less than with independent ones.

    Args:
        rows: those of the batch that are wanted; what they are does not depend on it.
    """
    evenly_spaced = torch.arange(batch_size, dtype=torch.float32) / batch_size
    progress = (torch.rand(1, generator=generator, dtype=torch.float32) + evenly_spaced) % 1
    noise = torch.rand(batch_size, num_codes, generator=generator, dtype=torch.float32)
    return mask_where_lowest(noise[rows], schedule(progress)[rows])


def mask_where_lowest(noise: Float[Tensor, "b n"], mask_ratio: Float[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Hide exactly ceil(ratio * n) codes of each row, at least one: those of the lowest noise."""
    num_codes = noise.shape[1]
    num_masked = (mask_ratio * num_codes).ceil().clamp(1, num_codes)
    return rank(noise).to(mask_ratio.device) < num_masked[:, None]


def lowest(
    values: Float[Tensor, "b n"], num_lowest: Int[Tensor, " b"], among: Bool[Tensor, "b n"]
) -> Bool[Tensor, "b n"]:
    """True at exactly the `num_lowest` lowest values of each row among the places allowed; of equal ones the first.

    Args:
        num_lowest: no more than there are places allowed.
    """
    last = values.shape[-1]
    return rank(rank(values).masked_fill(~among, last)) < num_lowest[:, None]


def rank(values: Num[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Place of each value in its sorted row, 0 for the smallest; equal values never share a rank."""
    return values.argsort(dim=-1, stable=True).argsort(dim=-1)

"""Mask schedules and random masks. True means hidden."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

MaskSchedule = Callable[[Float[Tensor, " b"]], Float[Tensor, " b"]]
"""Non-increasing function from progress to the share of hidden codes: 1 at progress 0, 0 at progress 1."""

LOG_SCHEDULE_CODES = 256


def cosine_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """cos(progress * pi / 2) (MaskGIT, section 3.3)."""
    return torch.cos(progress * math.pi / 2)


def linear_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - progress: every pass keeps the same number of codes."""
    return 1 - progress


def square_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - progress^2: few codes in the first passes, similar to the cosine."""
    return 1 - progress.square()


def cubic_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - progress^3: even fewer codes in the first passes."""
    return 1 - progress**3


def arccos_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """arccos(progress) / (pi / 2), the inverse of the cosine: many codes in the first and last passes."""
    return progress.arccos() / (math.pi / 2)


def log_schedule(progress: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-log(progress) / log(N) with N = 256, at most 1: most codes in the first passes.

    In MaskGIT, N is the number of codes of its grid, 16 x 16. Here it is fixed, since schedules do not depend on the
    grid. The share falls below 1 at progress 1 / N.
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
    """Return the number of hidden codes of each sample at the start and after each pass, on the CPU.

    After a pass, floor(schedule(progress) * start) codes are hidden, at least one fewer than before the pass. After
    the last pass none are hidden.
    """
    progress = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    counts = [num_hidden]
    for share in schedule(progress)[:-1]:
        # 1e-9 undoes rounding errors: (1 - 0.9) * 10 is slightly less than 1 code.
        wanted = (share * num_hidden + 1e-9).floor().long()
        counts.append(wanted.minimum(counts[-1] - 1).clamp(min=0))
    return [*counts, torch.zeros_like(num_hidden)]


def random_mask(
    mask_ratio: Float[Tensor, " b"], num_codes: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "b n"]:
    """Hide exactly ceil(ratio * n) codes of each row, at least one, at random positions.

    Args:
        mask_ratio: in [0, 1].
        num_codes: n, the number of codes of a row.
        generator: CPU generator, also if `mask_ratio` is on another device: masks do not depend on the device.
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
    """Draw training masks with ratio schedule(r), r uniform in [0, 1), on the CPU.

    The r of a batch are 1 / b apart (stratified sampling): each is uniform, and the loss of a batch has less variance
    than with independent ones.

    Args:
        rows: rows of the batch to return. Their values do not depend on this choice.
    """
    evenly_spaced = torch.arange(batch_size, dtype=torch.float32) / batch_size
    progress = (torch.rand(1, generator=generator, dtype=torch.float32) + evenly_spaced) % 1
    noise = torch.rand(batch_size, num_codes, generator=generator, dtype=torch.float32)
    return mask_where_lowest(noise[rows], schedule(progress)[rows])


def mask_where_lowest(noise: Float[Tensor, "b n"], mask_ratio: Float[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Hide exactly ceil(ratio * n) codes of each row, at least one: those with the lowest noise."""
    num_codes = noise.shape[1]
    num_masked = (mask_ratio * num_codes).ceil().clamp(1, num_codes)
    return rank(noise).to(mask_ratio.device) < num_masked[:, None]


def lowest(
    values: Float[Tensor, "b n"], num_lowest: Int[Tensor, " b"], among: Bool[Tensor, "b n"]
) -> Bool[Tensor, "b n"]:
    """Return True at the `num_lowest` lowest values of each row. Of equal values, the first are chosen.

    Args:
        num_lowest: at most the number of positions in `among`.
        among: True at the positions to choose from.
    """
    last = values.shape[-1]
    return rank(rank(values).masked_fill(~among, last)) < num_lowest[:, None]


def rank(values: Num[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return the index of each value in its sorted row, 0 for the smallest. Equal values have different ranks."""
    return values.argsort(dim=-1, stable=True).argsort(dim=-1)

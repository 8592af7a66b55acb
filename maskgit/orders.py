"""In which order hidden codes are settled: which proposals of a pass stay, which places are hidden again."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Proposal(NamedTuple):
    """What a pass of the decoding proposes."""

    codes: Int[Tensor, "b t h w"]  # proposals where codes are hidden, settled and given codes elsewhere
    log_prob: Float[Tensor, "b n"]  # how sure the model is of its proposals; 0 where codes are settled
    is_masked: Bool[Tensor, "b n"]  # True where a code is proposed
    chance: Float[Tensor, "b n"]  # uniform in [0, 1), drawn anew for every place and pass
    progress: float  # of this pass, in (0, 1]: 1 is the last


@runtime_checkable
class Order(Protocol):
    """From a proposal to a number for each place: the highest stay, the lowest are hidden again."""

    revises: ClassVar[bool]
    """Whether codes settled in earlier passes may be hidden again. Codes given from the start never are."""

    def __call__(self, proposal: Proposal, /) -> Float[Tensor, "b n"]: ...


@dataclass(frozen=True)
class ConfidenceOrder:
    """The surest first: by log-probability, with Gumbel noise that falls to 0 with the last pass (MAGVIT)."""

    revises: ClassVar[bool] = False

    choice_temperature: float = 4.5
    """Scale of the noise; 0 is none."""

    def __post_init__(self) -> None:
        _check_choice_temperature(self.choice_temperature)

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        return proposal.log_prob + annealed_noise(proposal, self.choice_temperature)


@dataclass(frozen=True)
class RandomOrder:
    """Any place as likely as any other."""

    revises: ClassVar[bool] = False

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        return proposal.chance


@dataclass(frozen=True)
class HaltonOrder:
    """Places in the order of a Halton sequence, so that those of a pass lie far apart in time and space.

    The same for every sample, whatever the model predicts (for images: Besnier et al. 2025, "Halton Scheduler for
    Masked Generative Image Transformer").
    """

    revises: ClassVar[bool] = False

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        _, t, h, w = proposal.codes.shape
        visit = torch.tensor(halton_visits((t, h, w)), device=proposal.chance.device)
        return -visit.to(proposal.chance.dtype).expand_as(proposal.chance)


@dataclass(frozen=True)
class CriticOrder:
    """The most plausible stay: a critic judges all codes that were not given after each pass, settled ones too.

    (Token-Critic, Lezama et al. 2022.)
    """

    revises: ClassVar[bool] = True

    criticize: Callable[[Int[Tensor, "b t h w"]], Float[Tensor, "b n"]]
    """From a filled grid to a logit for each place: how likely its code is as in the data."""
    choice_temperature: float = 1.0
    """Scale of the Gumbel noise on these logits, which falls to 0 with the last pass; 0 is none."""

    def __post_init__(self) -> None:
        _check_choice_temperature(self.choice_temperature)

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        plausibility = self.criticize(proposal.codes).float()
        return plausibility + annealed_noise(proposal, self.choice_temperature)


def annealed_noise(proposal: Proposal, scale: float) -> Float[Tensor, "b n"]:
    """Gumbel noise of the scale times the part of the decoding that is still to come."""
    return scale * (1 - proposal.progress) * gumbel(proposal.chance)


def gumbel(uniform: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Standard Gumbel noise from uniform noise in [0, 1); always finite."""
    return -(-uniform.clamp(min=torch.finfo(uniform.dtype).tiny).log()).log()


@lru_cache(maxsize=32)
def halton_visits(grid: tuple[int, int, int]) -> tuple[int, ...]:
    """When each cell of the grid, in row-major order, is first met by a Halton sequence over t, h and w.

    Every cell is met once: later points in it are passed over. The bases are 5, 2 and 3, the smaller and so the more
    even ones for space, and the sequence begins in the middle of the grid instead of in a corner.
    """
    num_cells = math.prod(grid)
    first_point = torch.full((num_cells,), -1)
    num_points = num_cells
    while (first_point < 0).any():
        num_points *= 4
        t, h, w = (_halton_cells(num_points, base, size) for base, size in zip((5, 2, 3), grid, strict=True))
        cell = (t * grid[1] + h) * grid[2] + w
        first_point.scatter_reduce_(0, cell, torch.arange(num_points), "amin", include_self=False)
    return tuple(first_point.argsort().argsort().tolist())


def _halton_cells(num_points: int, base: int, size: int) -> Int[Tensor, " p"]:
    """In which of `size` equal parts of [0, 1) the first points of a van der Corput sequence fall, moved by a half.

    A point is its number with the digits mirrored at the point, here as a fraction in whole numbers: no rounding
    moves one over an edge.
    """
    number = torch.arange(num_points)
    numerator, denominator = torch.zeros_like(number), 1
    while denominator < num_points:
        numerator = numerator * base + number % base
        number = number // base
        denominator *= base
    return (2 * numerator + denominator) * size // (2 * denominator) % size


def _check_choice_temperature(choice_temperature: float) -> None:
    if not (choice_temperature >= 0 and math.isfinite(choice_temperature)):
        raise ValueError(f"choice_temperature must be finite and not negative, got {choice_temperature}")

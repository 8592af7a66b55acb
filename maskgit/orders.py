"""Orders of decoding: which proposed codes of a pass are kept and which are hidden again."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Proposal(NamedTuple):
    """Codes proposed by a pass of the decoding."""

    codes: Int[Tensor, "b t h w"]  # proposed codes at hidden positions; kept and given codes elsewhere
    log_prob: Float[Tensor, "b n"]  # log-probabilities of the proposed codes; 0 at kept and given ones
    is_masked: Bool[Tensor, "b n"]  # True where a code is proposed
    chance: Float[Tensor, "b n"]  # uniform in [0, 1), new for every position and pass
    progress: float  # of this pass, in (0, 1]; 1 is the last pass
    first_chance: Float[Tensor, "b n"]  # `chance` of the first pass


@runtime_checkable
class Order(Protocol):
    """Function from a proposal to a score of each position. The lowest-scored positions are hidden again."""

    revises: ClassVar[bool]
    """Whether codes kept in earlier passes may be hidden again. Given codes are never hidden."""

    def __call__(self, proposal: Proposal, /) -> Float[Tensor, "b n"]: ...


@dataclass(frozen=True)
class ConfidenceOrder:
    """Most confident codes first: log-probability plus Gumbel noise that decreases to 0 in the last pass (MAGVIT)."""

    revises: ClassVar[bool] = False

    choice_temperature: float = 4.5
    """Scale of the noise; 0 for none."""

    def __post_init__(self) -> None:
        _check_choice_temperature(self.choice_temperature)

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        return proposal.log_prob + annealed_noise(proposal, self.choice_temperature)


@dataclass(frozen=True)
class RandomOrder:
    """Uniformly random order."""

    revises: ClassVar[bool] = False

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        return proposal.chance


@dataclass(frozen=True)
class HaltonOrder:
    """Order of a Halton sequence: the positions of a pass are far apart in time and space.

    The sequence is shifted along each axis, with wrap-around, by random numbers of the sample. It does not depend on
    the predictions (for images: Besnier et al. 2025, "Halton Scheduler for Masked Generative Image Transformer").
    """

    revises: ClassVar[bool] = False

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        sizes = proposal.codes.shape[1:]
        visits = torch.tensor(halton_visits((sizes[0], sizes[1], sizes[2])), device=proposal.chance.device).view(sizes)
        chances = proposal.first_chance[:, torch.arange(3) % proposal.first_chance.shape[1]]
        shifted = [
            (torch.arange(size, device=visits.device) + (size * chance[:, None]).long()) % size
            for size, chance in zip(sizes, chances.unbind(dim=1), strict=True)
        ]
        t, h, w = (shifted[0][:, :, None, None], shifted[1][:, None, :, None], shifted[2][:, None, None, :])
        visit = visits[t, h, w]
        return -rearrange(visit, "b t h w -> b (t h w)").to(proposal.chance.dtype)


@dataclass(frozen=True)
class CriticOrder:
    """Most plausible codes first, as scored by a critic (Token-Critic, Lezama et al. 2022).

    Codes kept in earlier passes are scored again and may be hidden again. Given codes are not.
    """

    revises: ClassVar[bool] = True

    criticize: Callable[[Int[Tensor, "b t h w"]], Float[Tensor, "b n"]]
    """Function from a complete grid to a logit for each position: high if the code is likely from the data."""
    choice_temperature: float = 1.0
    """Scale of the Gumbel noise on the logits, which decreases to 0 in the last pass; 0 for none."""

    def __post_init__(self) -> None:
        _check_choice_temperature(self.choice_temperature)

    def __call__(self, proposal: Proposal) -> Float[Tensor, "b n"]:
        plausibility = self.criticize(proposal.codes).float()
        return plausibility + annealed_noise(proposal, self.choice_temperature)


def annealed_noise(proposal: Proposal, scale: float) -> Float[Tensor, "b n"]:
    """Return Gumbel noise times `scale` times the remaining share of the decoding."""
    return scale * (1 - proposal.progress) * gumbel(proposal.chance)


def gumbel(uniform: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return standard Gumbel noise from uniform noise in [0, 1); always finite."""
    return -(-uniform.clamp(min=torch.finfo(uniform.dtype).tiny).log()).log()


@lru_cache(maxsize=32)
def halton_visits(grid: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the order in which a Halton sequence visits the cells of the grid: the rank of each, in row-major order.

    The bases for t, h and w are 5, 2 and 3: the smaller bases, which cover an axis more evenly, are for space. The
    sequence starts in the middle of the grid instead of in a corner.
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
    """Divide [0, 1) into `size` cells and return the cell of each of the first points of a van der Corput sequence.

    A point is its number with the digits mirrored at the radix point, plus 1 / 2, modulo 1. Points are fractions of
    integers, so that no rounding moves one to another cell.
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
        raise ValueError(f"choice_temperature must be finite and at least 0, got {choice_temperature}")

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import iterative_decode
from magvit2_pytorch.maskgit.orders import (
    ConfidenceOrder,
    CriticOrder,
    HaltonOrder,
    Order,
    Proposal,
    RandomOrder,
    gumbel,
    halton_visits,
)

GRIDS = [(5, 4, 4), (5, 8, 8), (5, 16, 16), (17, 16, 16), (9, 8, 8), (9, 4, 4), (1, 8, 8), (1, 16, 16), (5, 8, 12)]
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75)


def a_proposal(grid: tuple[int, int, int] = (2, 3, 4), batch_size: int = 2, **changes: Any) -> Proposal:
    places = (batch_size, math.prod(grid))
    proposal = Proposal(
        codes=torch.randint(32, (batch_size, *grid)),
        log_prob=-torch.rand(places) * 5,
        is_masked=torch.rand(places) < 0.5,
        chance=torch.rand(places),
        progress=0.25,
        first_chance=torch.rand(places),
    )
    return proposal._replace(**changes)


def discrepancy(visited: Tensor) -> Tensor:
    """How unevenly the visited cells of each grid lie, as root mean square over all boxes at a corner of the grid.

    A box is off by the difference between its share of the visited cells and its share of all cells (the L2 star
    discrepancy on a grid, here from each of the eight corners, so that none is favoured).
    """
    squares = []
    for corner in itertools.product((False, True), repeat=3):
        axes = [axis + 1 for axis, far in enumerate(corner) if far]
        inside = visited.flip(axes).double().cumsum(1).cumsum(2).cumsum(3)
        of_all = torch.ones_like(inside).cumsum(1).cumsum(2).cumsum(3)
        off = inside / inside[:, -1:, -1:, -1:] - of_all / of_all[:, -1:, -1:, -1:]
        squares.append(off.square().mean(dim=(1, 2, 3)))
    return torch.stack(squares).mean(dim=0).sqrt()


def visited_first(visits: Tensor, grid: tuple[int, int, int], share: float) -> Tensor:
    return (visits < max(1, int(share * math.prod(grid)))).unflatten(-1, grid)


@pytest.mark.parametrize("grid", [*GRIDS, (1, 1, 1), (3, 2, 4), (1, 1, 7), (30, 1, 2), (2, 3, 5), (7, 6, 10)])
def test_the_halton_sequence_visits_every_cell_once(grid: tuple[int, int, int]) -> None:
    assert sorted(halton_visits(grid)) == list(range(math.prod(grid)))


def test_the_first_cells_are_those_of_the_sequence_itself() -> None:
    def mirrored(number: int, base: int) -> float:
        value, place = 0.0, 1 / base
        while number:
            value, number, place = value + number % base * place, number // base, place / base
        return value

    grid = (6, 11, 7)
    expected: list[tuple[int, ...]] = []
    for number in range(100):
        point = [(mirrored(number, base) + 0.5) % 1 for base in (5, 2, 3)]
        cell = tuple(math.floor(x * size + 1e-9) % size for x, size in zip(point, grid, strict=True))
        if cell not in expected:
            expected.append(cell)

    visits = torch.tensor(halton_visits(grid)).view(grid)
    assert [tuple((visits == step).nonzero()[0].tolist()) for step in range(len(expected))] == expected


@pytest.mark.parametrize("grid", GRIDS)
def test_the_halton_order_spreads_more_evenly_than_random_ones(grid: tuple[int, int, int]) -> None:
    halton = torch.tensor([halton_visits(grid)])
    at_random = torch.stack([torch.randperm(math.prod(grid)) for _ in range(32)])

    of_random = torch.stack([discrepancy(visited_first(at_random, grid, share)) for share in SHARES], dim=1)
    of_halton = torch.stack([discrepancy(visited_first(halton, grid, share)) for share in SHARES], dim=1)
    beside_random = (of_halton / of_random.mean(dim=0))[0]

    assert beside_random.max() < 1
    assert beside_random.mean() < 0.75
    assert beside_random.mean() < (of_random / of_random.mean(dim=0)).mean(dim=1).min()


@pytest.mark.parametrize("grid", [(5, 16, 16), (5, 8, 8), (17, 16, 16)])
def test_the_halton_order_shares_its_places_out_to_frames_rows_and_columns(grid: tuple[int, int, int]) -> None:
    halton = torch.tensor([halton_visits(grid)])

    for share, axis in itertools.product((0.1, 0.25, 0.5), range(3)):
        visited = visited_first(halton, grid, share)[0].double()
        of_slices = visited.mean(dim=[other for other in range(3) if other != axis])
        spread_of_random = math.sqrt(share * (1 - share) * grid[axis] / math.prod(grid))
        assert (of_slices - share).square().mean().sqrt() < spread_of_random


def test_each_sample_has_its_own_shift_of_the_halton_order_whatever_is_predicted() -> None:
    grid, first_chance = (2, 3, 4), torch.rand(50, 24)
    ranks = [
        HaltonOrder()(a_proposal(grid, batch_size=50, first_chance=first_chance)).argsort(descending=True).argsort()
        for _ in range(2)
    ]

    assert torch.equal(*ranks)
    visits = torch.tensor(halton_visits(grid)).view(grid)
    shifts = {tuple(visits.roll(shift, (0, 1, 2)).flatten().tolist()) for shift in itertools.product(*map(range, grid))}
    of_samples = {tuple(rank.tolist()) for rank in ranks[0]}
    assert of_samples <= shifts
    assert len(of_samples) > 12
    unshifted = a_proposal(grid, first_chance=torch.zeros(2, 24))
    assert torch.equal(HaltonOrder()(unshifted)[0], -visits.flatten().float())
    single = a_proposal((1, 1, 2), first_chance=torch.rand(2, 2))
    assert HaltonOrder()(single).sort().values.tolist() == [[-1, 0]] * 2


def test_all_passes_of_a_sample_are_told_the_noise_of_the_first() -> None:
    proposals: list[Proposal] = []

    class Remembering(RandomOrder):
        def __call__(self, proposal: Proposal) -> Tensor:
            proposals.append(proposal)
            return super().__call__(proposal)

    iterative_decode(
        lambda codes, _: (torch.zeros(len(codes), 24, 8),),
        torch.full((2, 2, 3, 4), 8),
        mask_id=8,
        vocab_sizes=(8,),
        generators=torch.Generator().manual_seed(0),
        num_steps=3,
        order=Remembering(),
    )

    assert all(torch.equal(proposal.first_chance, proposals[0].chance) for proposal in proposals)
    assert not torch.equal(proposals[1].chance, proposals[0].chance)


@pytest.mark.parametrize("progress", [0.25, 0.75, 1.0])
def test_the_confidence_is_the_log_probability_with_noise_that_dies_out(progress: float) -> None:
    proposal = a_proposal(progress=progress)

    stay = ConfidenceOrder(4.5)(proposal)

    torch.testing.assert_close(stay, proposal.log_prob + 4.5 * (1 - progress) * gumbel(proposal.chance))
    assert torch.equal(ConfidenceOrder(0.0)(proposal), proposal.log_prob)


def test_the_critic_judges_the_filled_grid_with_noise_that_dies_out() -> None:
    def criticize(codes: Tensor) -> Tensor:
        return codes.flatten(1).sin()

    proposal = a_proposal()
    plausibility = proposal.codes.flatten(1).sin()

    torch.testing.assert_close(
        CriticOrder(criticize, 2.0)(proposal), plausibility + 2.0 * 0.75 * gumbel(proposal.chance)
    )
    assert torch.equal(CriticOrder(criticize, 2.0)(proposal._replace(progress=1.0)), plausibility)


def test_the_random_order_does_not_care_for_the_model() -> None:
    proposal = a_proposal()

    assert torch.equal(RandomOrder()(proposal), RandomOrder()(proposal._replace(log_prob=-proposal.log_prob)))
    assert torch.equal(RandomOrder()(proposal), proposal.chance)


def test_only_the_critic_revises() -> None:
    orders: list[Order] = [ConfidenceOrder(), RandomOrder(), HaltonOrder(), CriticOrder(lambda codes: codes.flatten(1))]

    assert [order.revises for order in orders] == [False, False, False, True]


def test_the_gumbel_noise_has_its_mean_and_spread_and_is_finite() -> None:
    noise = gumbel(torch.rand(100, 1000, generator=torch.Generator().manual_seed(0)))

    assert abs(noise.mean() - 0.5772) < 0.02
    assert abs(noise.std() - math.pi / math.sqrt(6)) < 0.02
    assert gumbel(torch.tensor([[0.0, 1 - 2**-24]])).isfinite().all()


@pytest.mark.parametrize("choice_temperature", [-1.0, math.inf, math.nan])
def test_a_noise_that_cannot_be_is_refused(choice_temperature: float) -> None:
    message = f"choice_temperature must be finite and at least 0, got {choice_temperature}"

    with pytest.raises(ValueError, match=message):
        ConfidenceOrder(choice_temperature)
    with pytest.raises(ValueError, match=message):
        CriticOrder(lambda codes: codes.flatten(1), choice_temperature)

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit.masking import (
    LOG_SCHEDULE_CODES,
    SCHEDULES,
    MaskSchedule,
    cosine_schedule,
    lowest,
    num_hidden_after_each_pass,
    random_mask,
    rank,
    training_mask,
)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_falls_from_one_to_zero(schedule: MaskSchedule) -> None:
    share = schedule(torch.linspace(0, 1, 1001, dtype=torch.float64))

    assert share[0] == 1
    assert abs(share[-1]) < 1e-15
    assert (share.diff() <= 0).all()
    assert (share[share < 1].diff() < 0).all()
    torch.testing.assert_close(schedule(torch.linspace(0, 1, 1001)), share.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "progress", "share"),
    [
        ("cosine", 1 / 2, math.sqrt(0.5)),
        ("cosine", 2 / 3, 1 / 2),
        ("linear", 0.3, 0.7),
        ("square", 0.3, 0.91),
        ("cubic", 0.3, 0.973),
        ("arccos", 1 / 2, 2 / 3),
        ("arccos", math.sqrt(0.5), 1 / 2),
        ("log", 1 / LOG_SCHEDULE_CODES, 1.0),
        ("log", LOG_SCHEDULE_CODES**-0.25, 1 / 4),
        ("log", 1e-9, 1.0),
    ],
)
def test_a_schedule_is_what_its_name_says(name: str, progress: float, share: float) -> None:
    assert SCHEDULES[name](torch.tensor([progress], dtype=torch.float64)).item() == pytest.approx(share, abs=1e-12)


def test_the_inverse_of_the_cosine_is_the_arccos() -> None:
    progress = torch.linspace(0, 1, 50, dtype=torch.float64)

    torch.testing.assert_close(SCHEDULES["arccos"](cosine_schedule(progress)), progress)


POLYNOMIALS: dict[str, Callable[[Fraction], Fraction]] = {
    "linear": lambda progress: 1 - progress,
    "square": lambda progress: 1 - progress**2,
    "cubic": lambda progress: 1 - progress**3,
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_the_counts_are_those_of_exact_fractions(name: str) -> None:
    for num_steps, num_hidden in itertools.product(range(1, 25), (1, 2, 7, 10, 80, 320, 1000)):
        counts = num_hidden_after_each_pass(torch.tensor([num_hidden]), num_steps, SCHEDULES[name])

        expected = [num_hidden]
        for step in range(1, num_steps + 1):
            wanted = math.floor(POLYNOMIALS[name](Fraction(step, num_steps)) * num_hidden)
            expected.append(max(0, min(wanted, expected[-1] - 1)))
        assert torch.cat(counts).tolist() == expected


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_pass_has_fewer_hidden_until_none_is_left(schedule: MaskSchedule) -> None:
    draw = random.Random(0)
    for _ in range(50):
        num_hidden = torch.tensor([draw.randint(0, 500) for _ in range(4)])
        counts = torch.stack(num_hidden_after_each_pass(num_hidden, draw.randint(1, 30), schedule))

        assert torch.equal(counts[0], num_hidden)
        assert ((counts.diff(dim=0) < 0) | (counts[1:] == 0)).all()
        assert (counts >= 0).all()
        assert (counts[-1] == 0).all()


def test_the_last_pass_leaves_nothing_hidden_whatever_the_schedule() -> None:
    counts = num_hidden_after_each_pass(torch.tensor([7, 2]), 4, schedule=torch.ones_like)

    assert torch.stack(counts).tolist() == [[7, 2], [6, 1], [5, 0], [4, 0], [0, 0]]


def test_a_mask_hides_exactly_the_share_asked_for_and_at_least_one() -> None:
    ratio = torch.tensor([0.0, 1e-6, 0.25, 0.253, 0.5, 0.999, 1.0])

    mask = random_mask(ratio, 80)

    assert mask.sum(dim=1).tolist() == [1, 1, 20, 21, 40, 80, 80]


def test_a_mask_hides_every_place_equally_often() -> None:
    mask = random_mask(torch.full((4000,), 0.3), 10, torch.Generator().manual_seed(0))

    frequency = mask.float().mean(dim=0)

    assert (frequency - 0.3).abs().max() < 4 * math.sqrt(0.3 * 0.7 / 4000)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_masks_of_training_cover_the_decoding_evenly(schedule: MaskSchedule) -> None:
    mask = training_mask(500, 1000, schedule, torch.Generator().manual_seed(0))

    ratio = mask.double().mean(dim=1).sort(descending=True).values
    expected = schedule((torch.arange(500, dtype=torch.float64) + 0.5) / 500)

    assert ((ratio - expected).abs() <= slack(schedule) + 0.001).all()


def slack(schedule: MaskSchedule) -> Tensor:
    """How much a schedule falls over the 1 / 500 of the decoding that a mask may come from."""
    edges = schedule(torch.arange(501, dtype=torch.float64) / 500)
    return -edges.diff()


def test_each_training_mask_by_itself_is_at_a_uniform_point_of_the_decoding() -> None:
    generator = torch.Generator().manual_seed(0)

    ratios = torch.stack([training_mask(3, 200, generator=generator).float().mean(dim=1) for _ in range(800)])
    progress = ratios.acos() * 2 / math.pi

    assert (progress.mean(dim=0) - 0.5).abs().max() < 4 * math.sqrt(1 / 12 / 800)
    assert (progress.std(dim=0) - math.sqrt(1 / 12)).abs().max() < 0.03


def test_the_same_generator_gives_the_same_mask_and_another_one_another() -> None:
    masks = [training_mask(4, 50, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]

    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_equal_values_never_share_a_rank() -> None:
    values = torch.tensor([[2.0, 2.0, -math.inf, 2.0, math.inf, math.inf]])

    assert sorted(rank(values)[0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert rank(torch.tensor([[0.3, 0.1, 0.2]])).tolist() == [[2, 0, 1]]


def test_the_lowest_are_sought_only_where_allowed_whatever_the_values() -> None:
    draw = random.Random(0)
    choices = torch.tensor([-math.inf, -1.0, 0.0, 0.5, math.inf])
    for _ in range(100):
        values = choices[torch.randint(5, (3, 12))]
        among = torch.rand(3, 12) < 0.6
        num_lowest = torch.tensor([draw.randint(0, int(row.sum())) for row in among])

        chosen = lowest(values, num_lowest, among)

        assert torch.equal(chosen.sum(dim=1), num_lowest)
        assert not (chosen & ~among).any()
        for row in range(3):
            inside, outside = values[row][chosen[row]], values[row][among[row] & ~chosen[row]]
            assert not len(inside) or not len(outside) or inside.max() <= outside.min()


def test_some_rows_of_a_training_mask_are_those_of_the_whole() -> None:
    whole, some = (
        training_mask(6, 50, generator=torch.Generator().manual_seed(1), rows=rows)
        for rows in (slice(None), slice(2, 4))
    )

    assert torch.equal(some, whole[2:4])

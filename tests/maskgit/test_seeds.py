from typing import Any

import numpy as np
import pytest
import torch

from magvit2_pytorch.maskgit.seeds import sample_generators, seeded_generator


def numbers(generators: list[torch.Generator]) -> list[int]:
    return [int(torch.randint(2**40, (), generator=generator)) for generator in generators]


def test_each_sample_of_a_seed_draws_from_the_seed_and_its_own_number() -> None:
    expected = numbers([seeded_generator(7, sample) for sample in range(3)])

    assert numbers(sample_generators(3, 7)) == expected
    assert numbers(sample_generators(1, 7)) == expected[:1]
    assert len({*expected}) == 3


def test_a_seed_for_each_sample_is_as_a_call_of_its_own() -> None:
    assert numbers(sample_generators(2, [5, 9])) == [
        *numbers(sample_generators(1, 5)),
        *numbers(sample_generators(1, 9)),
    ]


def test_seeds_of_other_libraries_are_taken_alike() -> None:
    for seeds in (np.array([5, 9]), torch.tensor([5, 9]), (np.int64(5), torch.tensor(9))):
        assert numbers(sample_generators(2, seeds)) == numbers(sample_generators(2, [5, 9]))
    assert numbers(sample_generators(2, np.int64(5))) == numbers(sample_generators(2, 5))
    with pytest.raises(ValueError, match="one for each of 2 samples, got a list of 3"):
        sample_generators(2, np.array([5, 9, 1]))


def test_one_generator_gives_each_sample_a_seed_in_turn() -> None:
    together = numbers(sample_generators(3, generators=torch.Generator().manual_seed(1)))

    assert numbers(sample_generators(2, generators=torch.Generator().manual_seed(1))) == together[:2]
    assert len({*together}) == 3


def test_generators_are_taken_as_they_are() -> None:
    given = [torch.Generator().manual_seed(seed) for seed in range(2)]

    assert sample_generators(2, generators=given) == given


def test_without_a_seed_torchs_own_decides() -> None:
    torch.manual_seed(5)
    first, other = (numbers(sample_generators(2)) for _ in range(2))
    torch.manual_seed(5)

    assert numbers(sample_generators(2)) == first != other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": [1, -4, 2]}, "seed must be an integer >= 0, got -4"),
        ({"seed": [1, 2]}, "seed must be one value or one for each of 3 samples, got a list of 2"),
        (
            {"generators": [torch.Generator()]},
            "generators must be one value or one for each of 3 samples, got a list of 1",
        ),
        ({"seed": 1, "generators": torch.Generator()}, "not both"),
    ],
)
def test_seeds_that_make_no_sense_are_refused_in_words(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sample_generators(3, **arguments)

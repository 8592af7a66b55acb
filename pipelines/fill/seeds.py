"""Generators of random numbers from seeds: one for each sample."""

from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import torch

from ...choices import as_list, is_several, whole_number


def seeded_generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose numbers are a function of `key` alone, well mixed.

    Raises:
        ValueError: a negative number in the key.
    """
    if min(key) < 0:
        raise ValueError(f"a seed must not be negative, got {min(key)}")
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def sample_generators(
    num_samples: int,
    seed: SupportsIndex | Sequence[SupportsIndex] | None = None,
    generators: torch.Generator | Sequence[torch.Generator] | None = None,
) -> list[torch.Generator]:
    """One generator for each sample, which does not depend on the samples beside it.

    Args:
        seed: an integer, from which with its own number each sample gets its generator; or one integer a sample, which
            then is as a call of its own with that integer. None: torch's global generator decides.
        generators: in place of a seed, one for each sample, or one that gives each sample a seed in turn.

    Raises:
        ValueError: both, others than one or one a sample, negative seeds, or generators that are not on the CPU.
    """
    if generators is None:
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        seeds = [whole_number("seed", one, 0) for one in as_list(seed)]
        own = is_several(seed)
        keys = [(one, 0) for one in seeds] if own else [(seeds[0], sample) for sample in range(num_samples)]
        _check_number("seed", len(keys), num_samples)
        return [seeded_generator(*key) for key in keys]
    if seed is not None:
        raise ValueError("give a seed or generators, not both")
    given = [generators] if isinstance(generators, torch.Generator) else list(generators)
    for generator in given:
        if generator.device.type != "cpu":
            raise ValueError(f"generators must be on the CPU, so that a seed means one result; got {generator.device}")
    if isinstance(generators, torch.Generator):
        seeds = torch.randint(2**63 - 1, (num_samples,), generator=generators)
        return [torch.Generator().manual_seed(own) for own in seeds.tolist()]
    _check_number("generators", len(given), num_samples)
    return given


def _check_number(name: str, number: int, num_samples: int) -> None:
    if number != num_samples:
        raise ValueError(f"{name} must be one, or one for each of {num_samples} videos; got {number}")

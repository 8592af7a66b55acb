"""Random number generators: one for each sample, from seeds or as given."""

from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import torch

from ..choices import as_list, is_several, whole_number


def seeded_generator(*key: int) -> torch.Generator:
    """Return a CPU generator whose random numbers depend on `key` alone. Similar keys give unrelated numbers.

    Raises:
        ValueError: if a number of the key is negative.
    """
    if min(key) < 0:
        raise ValueError(f"seed must not be negative, got {min(key)}")
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def sample_generators(
    num_samples: int,
    seed: SupportsIndex | Sequence[SupportsIndex] | None = None,
    generators: torch.Generator | Sequence[torch.Generator] | None = None,
) -> list[torch.Generator]:
    """Return one generator for each sample, independent of the other samples of the batch.

    Args:
        seed: an integer, sample i uses the generator of (seed, i); or one integer per sample, each sample gets the
            result of a call for it alone with that seed. None: torch's global generator draws the seed.
        generators: CPU generators instead of a seed: one for each sample, or one that draws a seed for each sample.

    Raises:
        ValueError: if both are given, if a sequence does not have one element per sample, if a seed is negative, or if
            a generator is not on the CPU.
    """
    if generators is None:
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        seeds = [whole_number("seed", one, 0) for one in as_list(seed)]
        keys = [(one, 0) for one in seeds] if is_several(seed) else [(seeds[0], index) for index in range(num_samples)]
        _check_number("seed", len(keys), num_samples)
        return [seeded_generator(*key) for key in keys]
    if seed is not None:
        raise ValueError("pass either seed or generators, not both")
    given = [generators] if isinstance(generators, torch.Generator) else list(generators)
    for generator in given:
        if generator.device.type != "cpu":
            raise ValueError(
                f"generators must be on the CPU, so that results do not depend on the device; got {generator.device}"
            )
    if isinstance(generators, torch.Generator):
        drawn = torch.randint(2**63 - 1, (num_samples,), generator=generators)
        return [torch.Generator().manual_seed(one) for one in drawn.tolist()]
    _check_number("generators", len(given), num_samples)
    return given


def _check_number(name: str, number: int, num_samples: int) -> None:
    if number != num_samples:
        raise ValueError(f"{name} must be one value or one for each of {num_samples} samples, got a list of {number}")

"""Generators of random numbers from seeds."""

import numpy as np
import torch


def seeded_generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose numbers are a function of `key` alone, well mixed.

    Raises:
        ValueError: a negative number in the key.
    """
    if min(key) < 0:
        raise ValueError(f"a seed must not be negative, got {min(key)}")
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))

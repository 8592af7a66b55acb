"""Order of several sources in training."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int

BLOCK = 120  # samples per block, each of which contains every source by its share
SOURCES = 2**31 + 1  # marks the seeds of the order, so that they differ from the other seeds


def source_at(position: int, shares: Sequence[float], seed: int) -> tuple[int, int]:
    """Return the source of the sample at a position in the endless sequence of samples, and its position among the
    samples of this source.

    Both are functions of the arguments. Shares are rounded to multiples of 1 / 120; every source has at least one
    sample in each block of 120.
    """
    if len(shares) == 1:
        return 0, position
    block, place = divmod(position, BLOCK)
    order = block_order(tuple(shares), seed, block)
    source = int(order[place])
    return source, block * samples_per_block(shares)[source] + int((order[:place] == source).sum())


@lru_cache(maxsize=4)
def block_order(shares: tuple[float, ...], seed: int, block: int) -> Int[np.ndarray, " BLOCK"]:
    """Return the source of each sample of a block."""
    sources = np.repeat(np.arange(len(shares)), samples_per_block(shares))
    return np.random.default_rng((seed, SOURCES, block)).permutation(sources)


def samples_per_block(shares: Sequence[float]) -> list[int]:
    """Return how many samples of each source a block has: at least one, and `BLOCK` in total.

    >>> samples_per_block([0.5, 0.25, 0.25])
    [60, 30, 30]
    """
    numbers = [1] * len(shares)
    for _ in range(BLOCK - len(shares)):
        missing = [share * BLOCK - number for share, number in zip(shares, numbers, strict=True)]
        numbers[missing.index(max(missing))] += 1
    return numbers

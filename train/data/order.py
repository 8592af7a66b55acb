"""Random order of any number of items, in memory that does not depend on the number."""

from functools import lru_cache

import numpy as np

ROUNDS = 6
MASK = 2**64 - 1


def shuffled(position: int, num_items: int, *key: int) -> int:
    """Return the item at a position of a random order of `range(num_items)`, which is given by the key.

    A Feistel network permutes the smallest set of 4^k numbers that contains all items (Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002); numbers that are no items are followed until they lead to one.
    """
    half = max(1, ((num_items - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = round_keys(key)
    while True:
        left, right = position >> half, position & mask
        for round_key in keys:
            left, right = right, left ^ (hashed(right ^ round_key) & mask)
        position = left << half | right
        if position < num_items:
            return position


@lru_cache(maxsize=64)
def round_keys(key: tuple[int, ...]) -> list[int]:
    return np.random.default_rng(key).integers(2**64, size=ROUNDS, dtype=np.uint64).tolist()


def hashed(value: int) -> int:
    """Return a hash of 64 bits: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)

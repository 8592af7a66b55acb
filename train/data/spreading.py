"""Choice of a few rows that are spread over labels and files."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

Item = TypeVar("Item")


def spread(labels: Sequence[int], files: Sequence[Hashable], num_rows: int) -> Int[np.ndarray, " rows"]:
    """Choose rows that are spread over labels, files and the rows of each file. They are in order and always the same.

    Args:
        labels: label of each row.
        files: file of each row.
        num_rows: number of rows to choose; all if there are not more.
    """
    if len(labels) <= num_rows:
        return np.arange(len(labels))
    rows_of: dict[int, dict[Hashable, list[int]]] = {}
    for row, (label, file) in enumerate(zip(labels, files, strict=True)):
        rows_of.setdefault(label, {}).setdefault(file, []).append(row)
    queues = [in_turn([spread_out(rows) for rows in spread_out([*of.values()])]) for of in rows_of.values()]
    return np.sort(in_turn(queues)[:num_rows])


def spread_out(items: Sequence[Item]) -> list[Item]:
    """Return items in an order of which each beginning is spread over all of them: first, middle, quarters, ...

    >>> spread_out("abcdefgh")
    ['a', 'e', 'c', 'g', 'b', 'f', 'd', 'h']
    """
    num_bits = max(1, (len(items) - 1).bit_length())
    places = (int(f"{number:0{num_bits}b}"[::-1], 2) for number in range(2**num_bits))
    return [items[place] for place in places if place < len(items)]


def in_turn(queues: Sequence[Sequence[Item]]) -> list[Item]:
    """Return the first item of each queue, then the second of each, and so on."""
    longest = max(map(len, queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]

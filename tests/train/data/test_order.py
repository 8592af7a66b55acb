from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, permutations

import pytest

from magvit2_pytorch.train.data.order import round_keys, shuffled


def order(num_items: int, *key: int) -> tuple[int, ...]:
    return tuple(shuffled(position, num_items, *key) for position in range(num_items))


def are_equally_frequent(kinds: Iterable[object], num_kinds: int) -> bool:
    """Whether chi-squared is at most four standard deviations larger than where all kinds are equally frequent."""
    counts = Counter(kinds)
    expected = counts.total() / num_kinds
    chi_squared = sum(count**2 for count in counts.values()) / expected - counts.total()
    return len(counts) <= num_kinds and chi_squared < num_kinds - 1 + 4 * (2 * (num_kinds - 1)) ** 0.5


@pytest.mark.parametrize("num_items", [*range(1, 71), 1000])
def test_each_item_comes_once(num_items: int) -> None:
    assert sorted(order(num_items, 0, num_items)) == list(range(num_items))


def test_the_order_is_a_function_of_all_numbers_of_the_key() -> None:
    keys = [(seed, epoch) for seed in range(5) for epoch in range(5)] + [(1, 2, 3), (1, 3, 2)]
    orders = [order(12, *key) for key in keys]

    round_keys.cache_clear()

    assert [order(12, *key) for key in reversed(keys)] == orders[::-1]
    assert len(set(orders)) == len(keys)


@pytest.mark.parametrize("num_items", [2, 3, 4])
def test_all_orders_of_few_items_are_about_equally_frequent(num_items: int) -> None:
    orders = [*permutations(range(num_items))]

    drawn = [order(num_items, 5, epoch) for epoch in range(30 * len(orders))]

    assert set(drawn) == set(orders)
    assert are_equally_frequent(drawn, len(orders))


@pytest.mark.parametrize(("num_items", "num_epochs"), [(10, 1200), (17, 300)])
def test_items_and_pairs_of_items_are_about_equally_frequent_at_any_place(num_items: int, num_epochs: int) -> None:
    places = (0, 1, num_items - 1)
    epochs = [[shuffled(place, num_items, 7, epoch) for place in places] for epoch in range(num_epochs)]

    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert are_equally_frequent([items[first] for items in epochs], num_items)
        assert are_equally_frequent([(items[first], items[second]) for items in epochs], num_items * (num_items - 1))
        assert are_equally_frequent([(items[first] - items[second]) % num_items for items in epochs], num_items - 1)
    in_a_row = [(before[0], after[0]) for before, after in pairwise(epochs)]
    assert are_equally_frequent(in_a_row, num_items**2)


@pytest.mark.parametrize("num_items", [10**6 + 3, 10**12])
def test_very_many_items_need_no_list(num_items: int) -> None:
    places = [*range(300), *range(num_items - 300, num_items)]

    items = [shuffled(place, num_items, 0, 0) for place in places]

    assert len(set(items)) == 600
    assert 0 <= min(items) < 0.02 * num_items < 0.98 * num_items < max(items) < num_items
    assert abs(sum(items) / 600 / num_items - 0.5) < 0.05
    rising = sum(after > before for before, after in pairwise(items))
    assert 200 < rising < 400

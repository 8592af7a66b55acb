from collections import Counter

import numpy as np
import pytest

from magvit2_pytorch.train.data.spreading import spread, spread_out


def test_all_rows_are_chosen_if_there_are_not_more() -> None:
    assert spread([0, 1, 0], ["a", "b", "c"], 3).tolist() == [0, 1, 2]
    assert spread([0, 1, 0], ["a", "b", "c"], 9).tolist() == [0, 1, 2]


def test_labels_come_first_then_files_then_the_rows_of_a_file() -> None:
    labels = [0] * 1000 + [1] * 30
    files = [f"{row // 100}" for row in range(1000)] + [f"x{row // 10}" for row in range(30)]

    rows = spread(labels, files, 16)

    assert Counter(labels[row] for row in rows) == {0: 8, 1: 8}
    of_first = [files[row] for row in rows if labels[row] == 0]
    assert len(set(of_first)) == 8
    of_second = Counter(files[row] for row in rows if labels[row] == 1)
    assert sorted(of_second.values()) == [2, 3, 3]


def test_the_rows_of_a_file_are_far_from_each_other() -> None:
    rows = spread([0] * 1000, ["a"] * 1000, 8)

    assert np.diff(rows).min() > 80


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 100])
def test_each_item_comes_once(length: int) -> None:
    assert sorted(spread_out(range(length))) == list(range(length))

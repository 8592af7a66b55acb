import logging

import numpy as np
import pytest
import torch

from magvit2_pytorch.labels import label_index, natural_order, normalized

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_both_spellings_of_an_accent_are_one_label() -> None:
    assert normalized(DECOMPOSED) == normalized(COMPOSED) == COMPOSED
    assert label_index(DECOMPOSED, ["bar", COMPOSED]) == 1
    assert label_index(COMPOSED, ["bar", DECOMPOSED]) == 1
    assert label_index(COMPOSED, [DECOMPOSED, COMPOSED]) == 1  # an old model may have both


def test_bytes_that_are_not_utf8_can_be_written_and_found() -> None:
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")

    assert normalized(raw).encode() == rb"caf\udce9"
    assert label_index(raw, ["bar", normalized(raw)]) == 1


def test_numbers_are_sorted_by_value() -> None:
    assert sorted(["10", "2", "1", "0"], key=natural_order) == ["0", "1", "2", "10"]
    assert sorted(["take 10", "take 9", "Take", "7", "\u0664", "01", "1"], key=natural_order) == [
        *("01", "1", "7", "Take", "take 9", "take 10", "\u0664")
    ]


def test_names_without_numbers_stay_in_the_order_of_their_characters() -> None:
    names = ["HandStandPushups", "HandstandPushups", "big_buck_bunny", "city_towers", "sintel", "\u00e9tude"]

    assert sorted([names[3], *names[:3], *names[4:]], key=natural_order) == names


@pytest.mark.parametrize("index", [1, np.int64(1), torch.tensor(1), "1", "walk"])
def test_a_label_is_found_by_name_and_by_index(index, caplog) -> None:
    assert label_index(index, ["run", "walk"]) == 1
    assert not caplog.messages


@pytest.mark.parametrize("label", ["jog", 2, -1, True, "2", "-1"])
def test_an_unknown_label_is_refused(label) -> None:
    with pytest.raises(ValueError, match=r"unknown label .* must be one of run, walk"):
        label_index(label, ["run", "walk"])


def test_a_string_of_digits_is_a_name_where_names_are_numbers() -> None:
    assert label_index("2", ["0", "1", "10", "2"]) == 3
    with pytest.raises(ValueError, match="unknown label '3'"):
        label_index("3", ["0", "1", "10", "2"])


def test_an_index_that_could_be_taken_for_a_name_is_told(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert label_index(2, ["0", "1", "10", "2"]) == 2
    assert caplog.messages == ["label 2 is an index and selects '10'; to select by name, pass a string"]

    caplog.clear()
    assert label_index(1, ["0", "1", "2"]) == 1
    assert not caplog.messages

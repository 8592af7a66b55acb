from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from magvit2_pytorch.train.data.index import DrawnIndex, RangeIndex, Window, WindowIndex, Windows
from magvit2_pytorch.train.data.windows import Ranges

SPAN = 4
RANGES = [(0, 3, 7), (0, 10, 15), (1, 0, 3), (3, 5, 20), (4, 1, 9), (4, 9, 9)]
LABELS = np.array([1, 0, 2, 0, 1], np.int32)  # of the files
DRAWN = DrawnIndex(num_clips=10, num_labels=3)


@pytest.fixture
def index() -> RangeIndex:
    return RangeIndex.of(Ranges.of(RANGES), SPAN, LABELS)


def one_pass(index: WindowIndex, key: tuple[int, ...] | None) -> list[Window]:
    return [index.window(number, key) for number in range(len(index))]


def listed(windows: Windows) -> list[Window]:
    return [Window(*values) for values in zip(*(column.tolist() for column in windows), strict=True)]


def firsts_in(windows: list[Window], place: int) -> list[int]:
    """First frames of the windows inside one of the `RANGES`."""
    file, start, stop = RANGES[place]
    return [
        window.first_frame
        for window in windows
        if window.number == file and start <= window.first_frame <= window.first_frame + SPAN <= stop
    ]


def test_the_windows_of_a_pass_lie_side_by_side_in_their_ranges(index: RangeIndex) -> None:
    for key in [None, *((seed, number) for seed in range(5) for number in range(20))]:
        windows = one_pass(index, key)

        numbers = [(stop - start) // SPAN for _, start, stop in RANGES]
        assert [len(firsts_in(windows, place)) for place in range(len(RANGES))] == numbers == [1, 1, 0, 3, 2, 0]
        assert len(windows) == len(index) == sum(numbers)
        for place in range(len(RANGES)):
            assert {after - before for before, after in pairwise(firsts_in(windows, place))} <= {SPAN}
        assert [window.label for window in windows] == [LABELS[window.number] for window in windows]


def test_every_phase_that_leaves_room_for_all_windows_is_equally_frequent(index: RangeIndex) -> None:
    phases = Counter[tuple[int, int]]()
    for number in range(800):
        windows = one_pass(index, (3, number))
        phases[firsts_in(windows, 3)[0] - 5, firsts_in(windows, 1)[0] - 10] += 1
        assert firsts_in(windows, 0) == [3]
        assert firsts_in(windows, 4) == [1, 5]

    assert set(phases) == {(phase, other) for phase in range(4) for other in range(2)}
    assert all(abs(count - 100) < 40 for count in phases.values())  # four standard deviations; so both are independent


def test_a_pass_is_a_function_of_its_key(index: RangeIndex) -> None:
    keys = [(seed, number) for seed in range(2) for number in range(10)]
    passes = [one_pass(index, key) for key in keys]

    assert index.varies
    assert [one_pass(index, key) for key in reversed(keys)] == passes[::-1]
    assert passes[:10] != passes[10:]


def test_every_window_is_inside_a_range_and_the_passes_have_those_of_all_phases(index: RangeIndex) -> None:
    brute_force = [
        Window(file, first, int(LABELS[file]))
        for file, start, stop in RANGES
        for first in range(start, stop - SPAN + 1)
    ]
    with_a_phase = {
        Window(file, start + phase + place * SPAN, int(LABELS[file]))
        for file, start, stop in RANGES
        for phase in range((stop - start) % SPAN + 1)
        for place in range((stop - start) // SPAN)
    }

    assert listed(index.every_window()) == brute_force
    assert {window for number in range(60) for window in one_pass(index, (0, number))} == with_a_phase
    assert with_a_phase <= set(brute_force)


def test_without_a_key_windows_are_in_the_middle_of_their_range(index: RangeIndex) -> None:
    windows = one_pass(index, None)

    assert listed(index.middle_windows()) == windows
    for place in (0, 1, 3, 4):
        _, start, stop = RANGES[place]
        firsts = firsts_in(windows, place)
        before, after = firsts[0] - start, stop - (firsts[-1] + SPAN)
        assert before <= after <= before + 1


@pytest.mark.parametrize("length", range(SPAN, 14))
def test_no_frame_is_always_left_out_and_those_in_the_middle_never_are(length: int) -> None:
    index = RangeIndex.of(Ranges.of([(0, 0, length)]), SPAN, np.zeros(1, np.int32))
    shown = np.zeros(length, int)
    for number in range(40):
        for _, first, _ in one_pass(index, (0, number)):
            shown[first : first + SPAN] += 1

    num_left_out = length % SPAN
    assert shown.min() > 0
    assert set(shown[num_left_out : length - num_left_out]) <= {40}
    assert shown.sum() == 40 * (length - num_left_out)


def test_the_runs_of_labels_are_those_of_the_windows(index: RangeIndex) -> None:
    counts, labels = index.label_runs()

    assert np.repeat(labels, counts).tolist() == [window.label for window in one_pass(index, (0, 0))]
    assert len(counts) == 4


@pytest.mark.parametrize("number", [-1, 7, 100])
def test_a_number_outside_the_pass_is_refused(index: RangeIndex, number: int) -> None:
    with pytest.raises(IndexError, match=rf"window must be in \[0, 7\), got {number}"):
        index.window(number, (0, 0))


@pytest.mark.parametrize("ranges", [[], [(0, 0, SPAN - 1), (1, 5, 5)]])
def test_ranges_that_are_too_short_have_no_windows(ranges: list[tuple[int, int, int]]) -> None:
    index = RangeIndex.of(Ranges.of(ranges), SPAN, LABELS)

    assert len(index) == 0
    assert listed(index.every_window()) == listed(index.middle_windows()) == []
    assert index.label_runs().counts.tolist() == []
    with pytest.raises(IndexError, match=r"window must be in \[0, 0\), got 0"):
        index.window(0, (0, 0))


def test_windows_of_one_frame_are_all_frames_in_every_pass() -> None:
    index = RangeIndex.of(Ranges.of(RANGES), 1, LABELS)

    frames = [(file, frame) for file, start, stop in RANGES for frame in range(start, stop)]

    for windows in (one_pass(index, (0, 0)), one_pass(index, None), listed(index.every_window())):
        assert [(window.number, window.first_frame) for window in windows] == frames


def test_drawn_clips_are_the_same_in_every_pass_and_their_labels_take_turns() -> None:
    windows = [Window(number, 0, number % 3) for number in range(10)]

    assert len(DRAWN) == 10
    assert not DRAWN.varies
    assert one_pass(DRAWN, None) == one_pass(DRAWN, (0, 0)) == one_pass(DRAWN, (1, 5)) == windows
    assert listed(DRAWN.every_window()) == listed(DRAWN.middle_windows()) == windows
    counts, labels = DRAWN.label_runs()
    assert np.repeat(labels, counts).tolist() == [window.label for window in windows]

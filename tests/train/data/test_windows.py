import numpy as np
import pytest

from magvit2_pytorch.train.data.windows import FrameRange, Timeline, choose_heldout, too_few_frames

SPAN = 5


def covered(starts, span: int) -> set[int]:
    return {frame for start in starts for frame in range(int(start), int(start) + span)}


def test_every_window_between_the_cuts_is_found() -> None:
    timeline = Timeline(20, cuts=(7, 10))

    brute_force = [
        start for start in range(20 - SPAN + 1) if not any(start < cut <= start + SPAN - 1 for cut in timeline.cuts)
    ]

    assert timeline.window_starts(SPAN).tolist() == brute_force == [0, 1, 2, 10, 11, 12, 13, 14, 15]


def test_no_window_touches_a_taken_frame() -> None:
    taken = [FrameRange(3, 5), FrameRange(18, 25)]

    starts = Timeline(20, cuts=()).window_starts(SPAN, without=taken)

    assert starts.tolist() == [5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_a_video_shorter_than_a_window_has_none() -> None:
    assert Timeline(SPAN - 1, cuts=()).window_starts(SPAN).tolist() == []


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3])
def test_about_the_asked_for_share_is_held_out_in_whole_blocks(fraction: float) -> None:
    timelines = {f"{index}.avi": Timeline(60 + index, cuts=(20 + index,)) for index in range(40)}

    blocks = choose_heldout(timelines, SPAN, fraction, seed=0)

    num_windows = sum(len(timeline.window_starts(SPAN)) for timeline in timelines.values())
    num_held_out = sum(stop - start - SPAN + 1 for ranges in blocks.values() for start, stop in ranges)
    assert abs(num_held_out / num_windows - fraction) < 0.01
    for name, ranges in blocks.items():
        held_out_frames = [frame for block in ranges for frame in range(*block)]
        assert len(set(held_out_frames)) == len(held_out_frames)
        for start, stop in ranges:
            assert start in timelines[name].window_starts(stop - start)


def test_no_training_window_comes_within_two_frames_of_a_held_out_block() -> None:
    timeline = Timeline(300, cuts=(100, 170))
    blocks = choose_heldout({"a": timeline}, SPAN, 0.2, seed=3)["a"]

    trained = covered(timeline.window_starts(SPAN, without=[block.with_margin() for block in blocks]), SPAN)

    held_out = {frame for block in blocks for frame in range(*block)}
    assert held_out
    assert trained
    assert min(abs(a - b) for a in held_out for b in trained) == 3


def test_the_blocks_of_a_file_depend_on_the_seed_and_not_on_the_order_of_files() -> None:
    timelines = {f"{index}.avi": Timeline(90, cuts=()) for index in range(12)}

    chosen = choose_heldout(timelines, SPAN, 0.1, seed=0)

    assert choose_heldout(dict(reversed(timelines.items())), SPAN, 0.1, seed=0) == chosen
    assert choose_heldout(timelines, SPAN, 0.1, seed=1) != chosen


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_video_that_suffices_gives_one_window_to_each_side(seed: int) -> None:
    timeline = Timeline(2 * SPAN + 2, cuts=())

    (block,) = choose_heldout({"a": timeline}, SPAN, 0.05, seed)["a"]

    assert block.stop - block.start == SPAN
    assert len(timeline.window_starts(SPAN, without=[block.with_margin()])) == 1


@pytest.mark.parametrize("num_frames", [SPAN, 2 * SPAN + 1])
def test_too_little_video_has_nothing_to_hold_out_and_is_counted(num_frames: int) -> None:
    timelines = {"a": Timeline(num_frames, cuts=())}

    assert choose_heldout(timelines, SPAN, 0.05, seed=0) == {"a": []}
    words = too_few_frames(timelines, SPAN)
    assert f"found {num_frames} frames in 1 files with {num_frames - SPAN + 1} windows" in words
    assert f"at least {2 * SPAN + 2} frames" in words


def test_two_short_videos_suffice() -> None:
    timelines = {name: Timeline(SPAN, cuts=()) for name in "ab"}

    blocks = choose_heldout(timelines, SPAN, 0.05, seed=0)

    assert sorted(len(ranges) for ranges in blocks.values()) == [0, 1]


def test_a_window_of_one_frame_needs_no_special_case() -> None:
    blocks = choose_heldout({"a": Timeline(40, cuts=(20,))}, 1, 0.1, seed=0)["a"]

    assert sum(stop - start for start, stop in blocks) == 4
    assert np.array_equal(Timeline(3, cuts=(1, 2)).window_starts(1), [0, 1, 2])


@pytest.mark.parametrize(("num_pictures", "num_held_out"), [(1, 0), (2, 1), (10, 1), (200, 20)])
def test_pictures_are_held_out_as_a_whole(num_pictures: int, num_held_out: int) -> None:
    pictures = {f"{index}.png": Timeline(1, cuts=()) for index in range(num_pictures)}

    chosen = choose_heldout(pictures, 1, 0.1, seed=0)

    held_out = {name for name, ranges in chosen.items() if ranges}
    assert len(held_out) == num_held_out
    assert all(chosen[name] == [FrameRange(0, 1)] for name in held_out)
    more = choose_heldout(pictures, 1, 0.3, seed=0)
    assert {name for name, ranges in more.items() if ranges} >= held_out

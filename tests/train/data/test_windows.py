import hashlib
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import pytest

from magvit2_pytorch.train.data.windows import (
    Ranges,
    choose_heldout,
    file_keys,
    longest_shots,
    mixed,
    shots,
    too_few_frames,
)

SPAN = 5
Range = tuple[int, int, int]  # file, start, stop
Video = tuple[int, tuple[int, ...]]  # number of frames, cuts


def listed(ranges: Ranges) -> list[Range]:
    return list(zip(ranges.file.tolist(), ranges.start.tolist(), ranges.stop.tolist(), strict=True))


def shots_of(videos: Iterable[Video]) -> Ranges:
    num_frames, cuts = zip(*videos, strict=True)
    num_cuts = np.array([len(of_video) for of_video in cuts], np.int32)
    return shots(lengths(num_frames), np.array([cut for of_video in cuts for cut in of_video], np.int32), num_cuts)


def lengths(num_frames: Iterable[int]) -> np.ndarray:
    return np.array([*num_frames], np.int32)


def window_starts(ranges: Ranges, span: int = SPAN) -> list[tuple[int, int]]:
    """File and first frame of every window."""
    return [(file, first) for file, start, stop in listed(ranges) for first in range(start, stop - span + 1)]


def frames_of(ranges: Iterable[Range]) -> set[tuple[int, int]]:
    return {(file, frame) for file, start, stop in ranges for frame in range(start, stop)}


def held_out(
    videos: Mapping[str, Video], span: int = SPAN, *, fraction: float, seed: int = 0
) -> dict[str, list[tuple[int, int]]]:
    """Start and stop of the blocks of each video, in order."""
    names = [*videos]
    num_frames = lengths(length for length, _ in videos.values())
    chosen = choose_heldout(shots_of(videos.values()), num_frames, file_keys(seed, names), span, fraction)
    blocks: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for file, start, stop in sorted(listed(chosen)):
        blocks[names[file]].append((start, stop))
    return blocks


def random_videos(numbers: np.random.Generator) -> list[Video]:
    """One to four videos of up to 20 frames, some of them without any."""
    videos = []
    for num_frames in numbers.integers(0, 21, numbers.integers(1, 5)).tolist():
        cuts = numbers.choice(max(1, num_frames), numbers.integers(0, max(1, min(5, num_frames))), replace=False)
        videos.append((num_frames, tuple(sorted(cut for cut in cuts.tolist() if 0 < cut < num_frames))))
    return videos


def random_ranges(numbers: np.random.Generator, num_files: int) -> list[Range]:
    """Ranges that may overlap each other and the ends of files."""
    files = numbers.integers(0, num_files, numbers.integers(0, 7)).tolist()
    starts = numbers.integers(-6, 25, len(files)).tolist()
    return [(file, start, start + int(numbers.integers(1, 9))) for file, start in zip(files, starts, strict=True)]


def test_every_window_between_the_cuts_is_found() -> None:
    cuts = (7, 10)

    brute_force = [start for start in range(20 - SPAN + 1) if not any(start < cut <= start + SPAN - 1 for cut in cuts)]

    assert [first for _, first in window_starts(shots_of([(20, cuts)]))] == brute_force
    assert brute_force == [0, 1, 2, 10, 11, 12, 13, 14, 15]


def test_shots_are_what_lies_between_the_cuts_of_each_file() -> None:
    for seed in range(40):
        videos = random_videos(np.random.default_rng(seed))
        brute_force = [
            (file, start, stop)
            for file, (num_frames, cuts) in enumerate(videos)
            for start, stop in zip((0, *cuts), (*cuts, num_frames), strict=True)
        ]

        found = shots_of(videos)

        assert listed(found) == brute_force
        assert len(found) == len(brute_force)
        assert found.lengths.tolist() == [stop - start for _, start, stop in brute_force]
        for span in (1, SPAN):
            assert found.num_starts(span).sum() == len(window_starts(found, span))
        assert longest_shots(found, len(videos)).tolist() == [
            max(stop - start for file, start, stop in brute_force if file == number) for number in range(len(videos))
        ]


def test_what_is_left_of_ranges_has_all_frames_but_the_taken_ones() -> None:
    for seed in range(200):
        numbers = np.random.default_rng(seed)
        videos = random_videos(numbers)
        ranges = [one for one in listed(shots_of(videos)) if numbers.random() < 0.8]
        taken = random_ranges(numbers, len(videos))
        taken_frames = frames_of(taken)
        brute_force = []
        for file, start, stop in ranges:
            is_free = [False, *((file, frame) not in taken_frames for frame in range(start, stop)), False]
            ends = [start + place for place, (before, here) in enumerate(pairwise(is_free)) if before != here]
            brute_force += [(file, *pair) for pair in zip(ends[::2], ends[1::2], strict=True)]

        in_any_order = Ranges.of(ranges).select(numbers.permutation(len(ranges)))
        left = in_any_order.without(Ranges.of(taken), lengths(length for length, _ in videos))

        assert listed(left) == brute_force
        assert frames_of(listed(left)) == frames_of(ranges) - taken_frames


def test_no_window_touches_a_taken_frame() -> None:
    taken = Ranges.of([(0, 3, 5), (0, 18, 25)])

    left = shots_of([(20, ())]).without(taken, lengths([20]))

    assert [first for _, first in window_starts(left)] == [5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_what_is_taken_from_one_file_is_left_in_the_files_beside_it() -> None:
    taken = Ranges.of([(1, 0, 6)]).with_margin()

    left = shots_of([(6, ()), (6, ()), (6, ())]).without(taken, lengths([6, 6, 6]))

    assert listed(taken) == [(1, -2, 8)]
    assert listed(left) == [(0, 0, 6), (2, 0, 6)]


def test_a_video_shorter_than_a_window_has_none() -> None:
    assert shots_of([(SPAN - 1, ())]).num_starts(SPAN).tolist() == [0]


def test_a_range_is_within_others_if_one_of_them_has_all_its_frames() -> None:
    for seed in range(40):
        numbers = np.random.default_rng(seed)
        videos = [*random_videos(numbers), (20, (4, 11))]
        others = [one for one in listed(shots_of(videos)) if one[1] < one[2] and numbers.random() < 0.7] or [(0, 3, 4)]
        ranges = random_ranges(numbers, len(videos)) + random_ranges(numbers, len(videos)) + others

        are_within = Ranges.of(ranges).are_within(Ranges.of(others))

        assert are_within.tolist() == [
            any(frames_of([one]) <= frames_of([other]) for other in others) for one in ranges
        ]


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3])
def test_about_the_asked_for_share_is_held_out_in_whole_blocks(fraction: float) -> None:
    videos = {f"{index}.avi": (60 + index, (20 + index,)) for index in range(40)}

    blocks = held_out(videos, fraction=fraction)

    num_windows = len(window_starts(shots_of(videos.values())))
    num_held_out = sum(stop - start - SPAN + 1 for ranges in blocks.values() for start, stop in ranges)
    assert abs(num_held_out / num_windows - fraction) < 0.01
    for name, ranges in blocks.items():
        held_out_frames = [frame for start, stop in ranges for frame in range(start, stop)]
        assert len(set(held_out_frames)) == len(held_out_frames)
        for start, stop in ranges:
            assert (0, start) in window_starts(shots_of([videos[name]]), stop - start)


def test_no_training_window_comes_within_two_frames_of_a_held_out_block() -> None:
    video = (300, (100, 170))
    blocks = Ranges.of((0, *block) for block in held_out({"a": video}, fraction=0.2, seed=3)["a"])

    left = shots_of([video]).without(blocks.with_margin(), lengths([300]))

    held_out_frames = {frame for _, frame in frames_of(listed(blocks))}
    trained = {frame for _, first in window_starts(left) for frame in range(first, first + SPAN)}
    assert held_out_frames
    assert trained
    assert min(abs(a - b) for a in held_out_frames for b in trained) == 3


def test_the_blocks_of_a_file_depend_on_the_seed_and_not_on_the_order_of_files() -> None:
    videos = {f"{index}.avi": (90, ()) for index in range(12)}

    chosen = held_out(videos, fraction=0.1)

    assert held_out(dict(reversed(videos.items())), fraction=0.1) == chosen
    assert held_out(videos, fraction=0.1, seed=1) != chosen


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_video_that_suffices_gives_one_window_to_each_side(seed: int) -> None:
    video = (2 * SPAN + 2, ())

    ((start, stop),) = held_out({"a": video}, fraction=0.05, seed=seed)["a"]

    assert stop - start == SPAN
    block = Ranges.of([(0, start, stop)])
    assert len(window_starts(shots_of([video]).without(block.with_margin(), lengths([2 * SPAN + 2])))) == 1


@pytest.mark.parametrize("num_frames", [SPAN, 2 * SPAN + 1])
def test_too_little_video_has_nothing_to_hold_out_and_is_counted(num_frames: int) -> None:
    video = (num_frames, ())

    assert held_out({"a": video}, fraction=0.05) == {"a": []}
    words = too_few_frames(shots_of([video]), lengths([num_frames]), SPAN)
    assert f"found {num_frames} frames in 1 files with {num_frames - SPAN + 1} windows" in words
    assert f"at least {2 * SPAN + 2} frames" in words


def test_two_short_videos_suffice() -> None:
    blocks = held_out(dict.fromkeys("ab", (SPAN, ())), fraction=0.05)

    assert sorted(len(ranges) for ranges in blocks.values()) == [0, 1]


def test_something_is_always_left_for_training_and_something_held_out_of_two_videos() -> None:
    for seed in range(60):
        videos = {str(number): video for number, video in enumerate(random_videos(np.random.default_rng(seed)))}
        all_shots, num_frames = shots_of(videos.values()), lengths(length for length, _ in videos.values())

        blocks = held_out(videos, fraction=0.49, seed=seed)

        taken = Ranges.of((int(name), *block) for name, ranges in blocks.items() for block in ranges)
        left = window_starts(all_shots.without(taken.with_margin(), num_frames))
        assert left or not len(taken)
        if len({file for file, _ in window_starts(all_shots)}) > 1:
            assert len(taken)
        assert all((file, start) in window_starts(all_shots, stop - start) for file, start, stop in listed(taken))


def test_a_window_of_one_frame_needs_no_special_case() -> None:
    blocks = held_out({"a": (40, (20,))}, 1, fraction=0.1)["a"]

    assert sum(stop - start for start, stop in blocks) == 4
    assert window_starts(shots_of([(3, (1, 2))]), 1) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(("num_pictures", "num_held_out"), [(1, 0), (2, 1), (10, 1), (200, 20)])
def test_pictures_are_held_out_as_a_whole(num_pictures: int, num_held_out: int) -> None:
    pictures = {f"{index}.png": (1, ()) for index in range(num_pictures)}

    chosen = held_out(pictures, 1, fraction=0.1)

    names = {name for name, ranges in chosen.items() if ranges}
    assert len(names) == num_held_out
    assert all(chosen[name] == [(0, 1)] for name in names)
    more = held_out(pictures, 1, fraction=0.3)
    assert {name for name, ranges in more.items() if ranges} >= names


def test_a_hundred_thousand_files_are_split_as_well_as_few() -> None:
    numbers = np.random.default_rng(0)
    num_frames = numbers.integers(17, 120, 100_000).astype(np.int32)
    num_cuts = (numbers.random(len(num_frames)) < 0.5).astype(np.int32)
    all_shots = shots(
        num_frames, (numbers.random(len(num_frames)) * num_frames).astype(np.int32)[num_cuts > 0], num_cuts
    )
    keys = file_keys(0, map(str, range(len(num_frames))))

    chosen = choose_heldout(all_shots, num_frames, keys, 17, 0.05)
    left = all_shots.without(chosen.with_margin(), num_frames)

    share = chosen.num_starts(17).sum() / all_shots.num_starts(17).sum()
    assert share == pytest.approx(0.05, abs=1e-4)
    assert chosen.are_within(all_shots).all()
    assert left.are_within(all_shots).all()
    is_taken = np.zeros(num_frames.sum() + 1, int)
    offsets = np.cumsum(num_frames, dtype=np.int64) - num_frames
    for ranges, sign in ((chosen, 1), (left, 1)):
        np.add.at(is_taken, offsets[ranges.file] + ranges.start, sign)
        np.add.at(is_taken, offsets[ranges.file] + ranges.stop, -sign)
    assert is_taken.cumsum().max() == 1
    margins = num_frames.sum() - chosen.lengths.sum() - left.lengths.sum()
    assert 0 < margins <= 4 * len(chosen)


def test_keys_of_files_do_not_depend_on_the_machine() -> None:
    digest = hashlib.sha256("3/walk/ä.mp4".encode()).digest()

    assert file_keys(3, ["walk/ä.mp4", "b"])[0] == int.from_bytes(digest[:8], "little")
    assert len({*file_keys(0, "ab").tolist(), *file_keys(1, "ab").tolist()}) == 4
    assert file_keys(0, []).tolist() == []


def test_the_hash_is_that_of_splitmix64() -> None:
    """The first numbers that it gives for the seed 1234567."""
    states = np.array([1234567, (1234567 + 0x9E3779B97F4A7C15) % 2**64], np.uint64)

    assert mixed(states).tolist() == [6457827717110365317, 3203168211198807973]

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from magvit2_pytorch.train.data import DataConfig, TrainingBatches, TrainingWindows, VideoData, load_data
from magvit2_pytorch.train.data.batches import IMAGES
from magvit2_pytorch.train.data.index import RangeIndex
from magvit2_pytorch.train.data.order import shuffled
from magvit2_pytorch.train.data.video_data import ClipReader
from magvit2_pytorch.train.data.windows import Ranges

Batch = dict[str, Tensor]
Place = tuple[int, int]  # file and first frame


class Asked(NamedTuple):
    place: Place
    offset: tuple[float, float]
    flip: bool


def of_ranges(windows: TrainingWindows, places: Sequence[int], num_frames: Sequence[int]) -> TrainingWindows:
    """The windows in the first frames of some ranges."""
    index = windows.index
    assert isinstance(index, RangeIndex)
    file, start = index.ranges.file[[*places]], index.ranges.start[[*places]]
    assert (index.ranges.lengths[[*places]] >= num_frames).all()
    ranges = Ranges(file, start, start + np.array(num_frames, np.int32))
    return replace(windows, index=replace(index, ranges=ranges))


@pytest.fixture
def few(shipped: VideoData) -> VideoData:
    """Ten windows, so that epochs are short. In their ranges, 17, 8, 1 and 2 phases are possible."""
    return replace(
        shipped,
        train=of_ranges(shipped.train, (0, 1, 20, 55), (33, 92, 17, 52)),
        fingerprint="few",
    )


@pytest.fixture
def joint(few: VideoData, shipped_config: DataConfig) -> VideoData:
    """The same windows and seven images, which are 0.3 of the batches."""
    images = load_data(replace(shipped_config, num_frames=1), progress=False).train
    return replace(few, image_ratio=0.3, images=of_ranges(images, (0, 5, 40), (3, 1, 3)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What is asked of the readers of clips from now on."""
    asked: list[Asked] = []
    original = ClipReader.clip

    def remember(reader: ClipReader, number: int, first_frame: int, *, offset: tuple[float, float], flip: bool):
        asked.append(Asked((number, first_frame), offset, flip))
        return original(reader, number, first_frame, offset=offset, flip=flip)

    monkeypatch.setattr(ClipReader, "clip", remember)
    return asked


def places_of_pass(windows: TrainingWindows, key: tuple[int, ...]) -> list[Place]:
    return [windows.window(index, key)[:2] for index in range(len(windows))]


def take(batches, num_batches: int) -> list[Batch]:
    return list(islice(iter(batches), num_batches))


def are_equal(some: list[Batch], others: list[Batch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a["video"], b["video"]) and torch.equal(a["label"], b["label"])
        for a, b in zip(some, others, strict=True)
    )


def is_image(batch: Batch) -> bool:
    return batch["video"].shape[2] == 1


def both_kinds(batches: list[Batch]) -> bool:
    return len({is_image(batch) for batch in batches}) == 2


@pytest.mark.parametrize("source", ["few", "joint"])
def test_a_batch_is_a_pure_function_of_seed_and_number(source: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(source)
    batches = TrainingBatches(data, batch_size=4, seed=0)
    in_order = take(batches, 6)

    backwards = [TrainingBatches(data, batch_size=4, seed=0).batch(index) for index in reversed(range(6))]

    assert are_equal(in_order, backwards[::-1])
    assert both_kinds(in_order) == (source == "joint")
    assert not are_equal(in_order, take(TrainingBatches(data, batch_size=4, seed=1), 6))


def test_a_batch_does_not_depend_on_global_random_numbers(few: VideoData) -> None:
    first = TrainingBatches(few, batch_size=4, seed=0).batch(2)
    torch.rand(3)
    np.random.default_rng().random()

    assert are_equal([first], [TrainingBatches(few, batch_size=4, seed=0).batch(2)])


@pytest.mark.parametrize("source", ["few", "joint"])
def test_a_resumed_run_goes_on_with_the_next_batch(source: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(source)
    straight = take(TrainingBatches(data, batch_size=3, seed=0), 75)

    for start in (5, 64, 66):
        resumed = take(TrainingBatches(data, batch_size=3, seed=0, start=start), 9)

        assert are_equal(resumed, straight[start : start + 9])


@pytest.mark.parametrize("source", ["few", "joint"])
def test_processes_side_by_side_see_what_one_would_see(source: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(source)
    alone = take(TrainingBatches(data, batch_size=6, seed=0, start=2), 5)
    parts = [
        take(TrainingBatches(data, batch_size=2, seed=0, start=2, process_index=rank, num_processes=3), 5)
        for rank in range(3)
    ]
    assert both_kinds(alone) == (source == "joint")

    joined = [{key: torch.cat([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]

    assert are_equal(joined, alone)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on a machine with one core
def test_workers_change_nothing(joint: VideoData) -> None:
    batches = TrainingBatches(joint, batch_size=2, seed=0, start=3)

    alone = take(DataLoader(batches, batch_size=None), 5)
    with_workers = take(DataLoader(batches, batch_size=None, num_workers=2, prefetch_factor=1), 5)

    assert are_equal(alone, take(batches, 5))
    assert are_equal(with_workers, alone)
    assert both_kinds(alone)


def test_every_window_comes_once_per_epoch_in_a_new_order(few: VideoData, asked: list[Asked]) -> None:
    take(TrainingBatches(few, batch_size=4, seed=0), 100)

    epochs = [[one.place for one in asked[start : start + 10]] for start in range(0, 400, 10)]
    passes = [places_of_pass(few.train, (0, epoch)) for epoch in range(40)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(windows) for windows in passes]
    orders = {tuple(map(windows.index, epoch)) for windows, epoch in zip(passes, epochs, strict=True)}
    assert len(orders) == 40
    offsets = np.array([one.offset for one in asked])
    assert len(np.unique(offsets)) == 800
    assert np.abs(offsets.mean(axis=0) - 0.5).max() < 0.05
    assert 150 < sum(one.flip for one in asked) < 250


def test_an_epoch_is_one_pass_over_the_frames(few: VideoData, asked: list[Asked]) -> None:
    ranges = [(33, 1), (92, 5), (17, 1), (52, 3)]  # frames and windows of each
    assert isinstance(few.train.index, RangeIndex)
    starts = list(zip(few.train.index.ranges.file.tolist(), few.train.index.ranges.start.tolist(), strict=True))

    take(TrainingBatches(few, batch_size=10, seed=0), 30)

    phases = []
    for first in range(0, 300, 10):
        places = [one.place for one in asked[first : first + 10]]
        frames = [(file, frame) for file, start in places for frame in range(start, start + 17)]
        assert len(set(frames)) == len(frames) == sum(num_windows * 17 for _, num_windows in ranges)
        phase = []
        for (file, start), (num_frames, num_windows) in zip(starts, ranges, strict=True):
            shown = [frame for number, frame in frames if number == file and start <= frame < start + num_frames]
            assert sorted(shown) == list(range(min(shown), min(shown) + num_windows * 17))
            phase.append(min(shown) - start)
        phases.append(phase)
    for drawn, (num_frames, _) in zip(zip(*phases, strict=True), ranges, strict=True):
        assert set(drawn) <= set(range(num_frames % 17 + 1))
        assert len(set(drawn)) > (num_frames % 17 + 1) / 2
    assert len(set(map(tuple, phases))) > 25


def test_images_come_between_the_batches_of_videos(few: VideoData, joint: VideoData) -> None:
    videos = take(TrainingBatches(few, batch_size=3, seed=0), 40)

    mixed = take(TrainingBatches(joint, batch_size=3, seed=0), 100)

    assert are_equal([batch for batch in mixed if not is_image(batch)][:40], videos)
    assert all(batch["video"].shape == (3, 3, 1, 64, 64) for batch in mixed if is_image(batch))


def test_every_image_comes_once_per_epoch_in_a_new_order(joint: VideoData, asked: list[Asked]) -> None:
    assert joint.images is not None
    images = places_of_pass(joint.images, (0, IMAGES, 0))

    batches = take(TrainingBatches(joint, batch_size=3, seed=0), 128)

    are_images = np.repeat([is_image(batch) for batch in batches], 3)
    places = [one.place for one, shows_image in zip(asked, are_images, strict=True) if shows_image]
    epochs = [tuple(places[start : start + 7]) for start in range(0, len(places) - 6, 7)]
    assert len(places) == 3 * 38  # floor(0.3 * 128)
    assert len(set(images)) == 7
    assert all(sorted(epoch) == sorted(images) for epoch in epochs)
    assert len(set(epochs)) > 14


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.5, 0.99])
def test_the_share_of_images_is_kept_and_their_places_are_drawn(joint: VideoData, ratio: float) -> None:
    def places(seed: int) -> np.ndarray:
        batches = TrainingBatches(replace(joint, image_ratio=ratio), batch_size=3, seed=seed)
        return np.diff([batches.num_image_batches(index) for index in range(6401)])

    drawn = places(seed=0)

    assert set(drawn) == {0, 1}
    assert abs(drawn.sum() - 6400 * ratio) <= 1
    for every in (2, 5, 16):  # what happens at every so many-th step meets as many images as any other step
        assert abs(drawn[every - 1 :: every].mean() - ratio) < 4 * (ratio * (1 - ratio) / (6400 / every)) ** 0.5
    assert not np.array_equal(drawn, places(seed=1))


def test_a_share_of_images_without_images_is_refused(few: VideoData) -> None:
    with pytest.raises(ValueError, match=r"image_ratio is 0\.5, but the data has no images"):
        TrainingBatches(replace(few, image_ratio=0.5), batch_size=2, seed=0)


def test_shapes_are_never_mirrored(shapes: VideoData) -> None:
    batches = TrainingBatches(shapes, batch_size=64, seed=0)
    order = [shuffled(position, len(shapes.train), 0, 0) for position in range(64)]
    clips = shapes.train.every_window()

    batch = batches.batch(0)

    assert torch.equal(batch["video"], torch.from_numpy(np.stack([clips.pixels(index) for index in order])))
    assert batch["label"].tolist() == clips.table[order]["label"]


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"seed": -1}, {"start": -1}, {"process_index": 2, "num_processes": 2}]
)
def test_a_setting_that_cannot_be_is_refused_by_name(few: VideoData, wrong: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"batch_size": 2, "seed": 0} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        TrainingBatches(few, **settings)


def test_with_a_zoom_half_of_the_clips_are_random_squares_of_the_detailed_frames(
    folder_config: DataConfig, write_video
) -> None:
    y, x = np.mgrid[:16, :24]  # twice the resolution; the colour of a pixel tells its place
    write_video(
        Path(folder_config.sources[0], "a.mkv"),
        np.stack([10 * y, 10 * x, 0 * x], -1).astype(np.uint8)[None].repeat(20, 0),
    )
    plain, zoomed = (load_data(replace(folder_config, zoom=zoom), progress=False) for zoom in (1.0, 2.0))

    num_whole, sides, places = 0, [], set()
    for position in range(300):
        pixels, _ = TrainingBatches(zoomed, batch_size=1, seed=0).example(position)
        if np.array_equal(pixels, TrainingBatches(plain, batch_size=1, seed=0).example(position)[0]):
            num_whole += 1
            continue
        y, x = (np.sort(pixels[channel, 0].mean(axis=1 - channel)) / 10 + 0.5 for channel in (0, 1))
        step = (y[-1] - y[0]) / 7
        sides.append(round(8 * step))
        top, left = y[0] - step / 2, x[0] - step / 2
        places.add((round(top), round(left)))
        assert max(abs(step - sides[-1] / 8), abs(top - round(top)), abs(left - round(left))) < 0.15
        assert np.abs(np.diff(x) - step).max() < 0.2

    assert 120 < num_whole < 180
    assert set(sides) == set(range(8, 17))
    assert len(places) > 60


def test_only_training_clips_of_files_are_magnified(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.sources[0], "a.mkv"), noise(40, height=16, width=24))
    plain, zoomed = (load_data(replace(folder_config, zoom=zoom), progress=False) for zoom in (1.0, 2.0))
    drawn = load_data(DataConfig(path="arcade", resolution=16, num_frames=5, zoom=2.0), progress=False)

    trained = [data.train.every_window() for data in (plain, zoomed)]
    for before, after in ((plain.heldout, zoomed.heldout), trained):
        assert before.table[:] == after.table[:]
        assert all(torch.equal(before.video(row), after.video(row)) for row in range(len(before)))
    assert zoomed.fingerprint != plain.fingerprint
    assert drawn.largest_side is None

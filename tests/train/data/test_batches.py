from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from magvit2_pytorch.train.data import TrainingBatches, VideoData

Batch = dict[str, Tensor]


@pytest.fixture
def few(shipped: VideoData) -> VideoData:
    """Ten windows, so that epochs are short."""
    return VideoData(
        labels=shipped.labels,
        train=shipped.train.select(range(0, 1000, 100)),
        heldout=shipped.heldout,
        allows_flip=True,
        fingerprint="few",
    )


def take(batches, num_batches: int) -> list[Batch]:
    return list(islice(iter(batches), num_batches))


def are_equal(some: list[Batch], others: list[Batch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a["video"], b["video"]) and torch.equal(a["label"], b["label"])
        for a, b in zip(some, others, strict=True)
    )


def test_a_batch_is_a_pure_function_of_seed_and_number(few: VideoData) -> None:
    batches = TrainingBatches(few, batch_size=4, seed=0)
    in_order = take(batches, 6)

    backwards = [TrainingBatches(few, batch_size=4, seed=0).batch(index) for index in reversed(range(6))]

    assert are_equal(in_order, backwards[::-1])
    assert not are_equal(in_order, take(TrainingBatches(few, batch_size=4, seed=1), 6))


def test_a_batch_does_not_depend_on_global_random_numbers(few: VideoData) -> None:
    first = TrainingBatches(few, batch_size=4, seed=0).batch(2)
    torch.rand(3)
    np.random.default_rng().random()

    assert are_equal([first], [TrainingBatches(few, batch_size=4, seed=0).batch(2)])


def test_a_resumed_run_goes_on_with_the_next_batch(few: VideoData) -> None:
    straight = take(TrainingBatches(few, batch_size=3, seed=0), 9)

    resumed = take(TrainingBatches(few, batch_size=3, seed=0, start=5), 4)

    assert are_equal(resumed, straight[5:])


def test_processes_side_by_side_see_what_one_would_see(few: VideoData) -> None:
    alone = take(TrainingBatches(few, batch_size=6, seed=0, start=2), 5)
    parts = [
        take(TrainingBatches(few, batch_size=2, seed=0, start=2, process_index=rank, num_processes=3), 5)
        for rank in range(3)
    ]

    joined = [{key: torch.cat([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]

    assert are_equal(joined, alone)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on a machine with one core
def test_workers_change_nothing(few: VideoData) -> None:
    batches = TrainingBatches(few, batch_size=2, seed=0, start=3)

    alone = take(DataLoader(batches, batch_size=None), 5)
    with_workers = take(DataLoader(batches, batch_size=None, num_workers=2, prefetch_factor=1), 5)

    assert are_equal(alone, take(batches, 5))
    assert are_equal(with_workers, alone)


def test_every_window_comes_once_per_epoch_in_a_new_order(few: VideoData, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, tuple[float, float], bool]] = []
    original = type(few.train).pixels_and_label

    def remember(clips, index, *, offset, flip):
        asked.append((index, offset, flip))
        return original(clips, index, offset=offset, flip=flip)

    monkeypatch.setattr(type(few.train), "pixels_and_label", remember)
    take(TrainingBatches(few, batch_size=4, seed=0), 100)

    epochs = [[index for index, _, _ in asked[start : start + 10]] for start in range(0, 400, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 40
    offsets = np.array([offset for _, offset, _ in asked])
    assert len(np.unique(offsets)) == 800
    assert np.abs(offsets.mean(axis=0) - 0.5).max() < 0.05
    assert 150 < sum(flip for _, _, flip in asked) < 250


def test_shapes_are_never_mirrored(shapes: VideoData) -> None:
    batches = TrainingBatches(shapes, batch_size=64, seed=0)
    order = np.random.default_rng((0, 0)).permutation(len(shapes.train))

    batch = batches.batch(0)

    assert torch.equal(batch["video"], torch.stack([shapes.train.video(int(index)) for index in order[:64]]))


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"seed": -1}, {"start": -1}, {"process_index": 2, "num_processes": 2}]
)
def test_a_setting_that_cannot_be_is_refused_by_name(few: VideoData, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        TrainingBatches(few, **({"batch_size": 2, "seed": 0} | wrong))

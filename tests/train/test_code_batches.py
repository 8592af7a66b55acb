"""Batches of codes from a table and of clips that are encoded when they are used: the same stream."""

import io
import math
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.train.code_batches import (
    ClipBatches,
    CodeBatches,
    RowBatches,
    encoded_batch,
    times_in_an_epoch,
)
from magvit2_pytorch.train.codes import Encoder, encoded, pixels_of, row_of
from magvit2_pytorch.train.contexts import find_contexts
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.index import DrawnIndex, RangeIndex
from magvit2_pytorch.train.data.transfer import pixels_on
from magvit2_pytorch.train.data.windows import Ranges
from magvit2_pytorch.train.task_mix import WeightedTask, conditions_of

GRID = (3, 2, 2)
MASK_ID = 2**6
MIX = (
    WeightedTask(name="class_generation"),
    WeightedTask(name="dynamic_inpainting", weight=2.0),
    WeightedTask(name="class_frame_prediction"),
)
KINDS = ("table", "online")

Make = Callable[..., RowBatches]


@pytest.fixture
def tokenizer() -> VideoTokenizer:
    layers = ("residual", "compress_space")
    return VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=MASK_ID, patch_size=(2, 4, 4)).eval()


def loaded(videos: Path) -> VideoData:
    return load_data(DataConfig(path=str(videos), resolution=16, num_frames=5), progress=False)


@pytest.fixture
def data(videos: Path) -> VideoData:
    """Two labels with six and four windows in each pass. None is blank."""
    return loaded(videos)


@pytest.fixture
def fading(videos: Path, write_video, noise) -> VideoData:
    """Two more labels: a short and wide video, and one that fades to grey. Its windows are blank from the third or the
    fourth one on, depending on the pass."""
    texture = noise(1, 16, 16).astype(float)
    contrast = np.linspace(0.6, 0, 39)[:, None, None, None]
    write_video(videos / "fading" / "a.mkv", (120 + contrast * (texture - 120)).astype(np.uint8))
    write_video(videos / "rare" / "b.mkv", noise(9, 16, 28))
    return loaded(videos)


@pytest.fixture
def make(tokenizer: VideoTokenizer, tmp_path: Path) -> Make:
    """Makes batches of either kind."""

    def make_batches(kind: str, data: VideoData, passes: int = 3, **settings: object) -> RowBatches:
        settings = {"seed": 3, "batch_size": 4} | settings
        conditions = conditions_of(settings.get("mix", ()))  # type: ignore[arg-type]
        if kind == "online":
            return ClipBatches(data, passes, **settings)
        table = encoded(tokenizer, data, tmp_path / "codes", passes=passes, conditions=conditions, progress=False)
        return CodeBatches(data, table, GRID, mask_id=MASK_ID, **settings)

    return make_batches


@pytest.fixture
def complete(tokenizer: VideoTokenizer) -> Callable[..., dict[str, Tensor]]:
    """Gives a batch of either kind with its codes."""

    def complete_batch(batches: RowBatches, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(batches, CodeBatches):
            return batch
        encoder = Encoder(tokenizer, batches.data, conditions_of(batches.mix), "no")
        converted = batch | {"video": pixels_on(torch.device("cpu"), batch["video"])}
        return encoded_batch(converted, encoder, batches.mix, MASK_ID)

    return complete_batch


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values.dtype == theirs[name].dtype
        assert torch.equal(values, theirs[name]), name


def joined(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def epoch_of(batches: RowBatches, epoch: int = 0) -> list[int]:
    """The rows of an epoch."""
    first = epoch * batches.rows_per_epoch
    return [batches.row(position) for position in range(first, first + batches.rows_per_epoch)]


def are_blank(data: VideoData, rows: range) -> list[bool]:
    """Judged by the pixels of the clips' whole frames."""
    frames = (data.train.reader.source.frames(*row_of(data, row).window[:2]) for row in rows)
    return [float(pixels.std() / 255) < 0.06 for pixels in frames]


@pytest.mark.parametrize("mix", [(), MIX])
@pytest.mark.parametrize("label_balance", [0.0, 1.0])
def test_the_table_and_clips_that_are_encoded_when_they_are_used_give_the_same_stream(
    fading: VideoData, videos: Path, make: Make, complete, mix: tuple[WeightedTask, ...], label_balance: float
) -> None:
    safetensors.torch.save_file({"context": torch.randn(3, 4)}, videos / "left" / "bar.context.safetensors")
    settings = {
        "mix": mix,
        "contexts": find_contexts(videos, fading.train.reader.source.names()),
        "label_balance": label_balance,
        "batch_size": 6,
    }
    table, online = (make(kind, fading, **settings) for kind in KINDS)

    assert table.rows_per_epoch == online.rows_per_epoch
    num_batches = 2 * math.ceil(table.rows_per_epoch / 6)  # two epochs
    streams = [[complete(batches, batch) for batch in islice(batches, num_batches)] for batches in (table, online)]

    for ours, theirs in zip(*streams, strict=True):
        assert_equal(ours, theirs)
    for batch in streams[0]:
        assert batch.keys() == {
            *("codes", "labels", "context", "context_padding"),
            *(("tasks", "condition_codes") if mix else ()),
        }
        assert batch["codes"].shape == (6, *GRID)
    whole = joined(streams[0])
    assert len(whole["codes"].unique(dim=0)) > 20
    assert 0 < int(whole["context_padding"].all(dim=1).sum()) < len(whole["labels"])
    if mix:
        assert whole["tasks"].unique().tolist() == [0, 1, 2]
        assert torch.equal((whole["condition_codes"] == MASK_ID).flatten(1).all(dim=1), whole["tasks"] == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_comes_once_in_each_epoch(kind: str, data: VideoData, make: Make) -> None:
    batches = make(kind, data)

    first, second = (epoch_of(batches, epoch) for epoch in range(2))

    assert sorted(first) == sorted(second) == list(range(3 * len(data.train)))
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_blank_row_never_comes_and_another_one_comes_in_its_place(kind: str, fading: VideoData, make: Make) -> None:
    rows = range(3 * len(fading.train))
    blank = {row for row, is_blank in zip(rows, are_blank(fading, rows), strict=True) if is_blank}
    assert {row % len(fading.train) for row in blank} == {2, 3, 4}
    assert 6 < len(blank) < 9  # not the same windows in each pass
    batches = make(kind, fading)

    epochs = [epoch_of(batches, epoch) for epoch in range(20)]

    for epoch in epochs:
        assert len(epoch) == len(rows)
        assert {*epoch} == {*rows} - blank
    times = Counter(row for epoch in epochs for row in epoch)
    drawn = {row: number - 20 for row, number in times.items()}
    assert sum(drawn.values()) == 20 * len(blank)
    assert len([row for row, number in drawn.items() if number]) > 0.7 * len(drawn)  # not always the same ones


@pytest.mark.parametrize("kind", KINDS)
def test_data_with_nothing_but_blank_windows_is_refused(
    kind: str, make: Make, tmp_path: Path, write_video, noise
) -> None:
    for name in "ab":
        write_video(tmp_path / "grey" / f"{name}.mkv", noise(20, 16, 16) // 32 + 120)
    data = loaded(tmp_path / "grey")

    with pytest.raises(ValueError, match="all training windows are blank, so there is nothing to train on"):
        make(kind, data)


def test_the_only_window_that_is_not_blank_is_found(
    fading: VideoData, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = make("online", fading)
    monkeypatch.setattr(type(batches), "is_blank", lambda self, row: row != 7)

    assert {batches.row(position) for position in range(100)} == {7}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_rare_labels_are_oversampled_as_asked(
    kind: str, balance: float, videos: Path, make: Make, write_video, noise
) -> None:
    write_video(videos / "left" / "long.mkv", noise(80, 16, 16))
    write_video(videos / "rare" / "short.mkv", noise(9, 16, 16))
    write_video(videos / "middle" / "a.mkv", noise(17, 16, 16, seed=1))
    write_video(videos / "middle" / "b.mkv", noise(13, 16, 16, seed=2))
    data = loaded(videos)
    labels = [row_of(data, row).window.label for row in range(3 * len(data.train))]
    of_label = Counter(labels[: len(data.train)])
    most = max(of_label.values())
    assert len({round((most / number) ** share) for number in of_label.values() for share in (0.5, 1.0)}) > 4
    batches = make(kind, data, label_balance=balance)

    epochs = [Counter(epoch_of(batches, epoch)) for epoch in range(2)]

    for times in epochs:
        assert times == {row: round((most / of_label[label]) ** balance) for row, label in enumerate(labels)}
    drawn = Counter(
        label for index in range(batches.rows_per_epoch // 4 + 1) for label in batches.batch(index)["labels"].tolist()
    )
    expected = {label: 3 * number * round((most / number) ** balance) for label, number in of_label.items()}
    assert {*drawn} == {*expected}
    assert all(abs(drawn[label] - number) <= 4 for label, number in expected.items())  # the last batch is not whole


def test_every_window_comes_at_least_once() -> None:
    num_windows = np.array([5, 2, 0, 7])

    assert times_in_an_epoch(num_windows, 0.0)[[0, 1, 3]].tolist() == [1, 1, 1]
    assert times_in_an_epoch(num_windows, 0.5)[[0, 1, 3]].tolist() == [1, 2, 1]
    assert times_in_an_epoch(num_windows, 1.0)[[0, 1, 3]].tolist() == [1, 4, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mix", [(), MIX])
def test_processes_share_a_batch_and_any_batch_can_come_first(
    kind: str, fading: VideoData, make: Make, mix: tuple[WeightedTask, ...]
) -> None:
    def batches_of(**settings: int) -> RowBatches:
        return make(kind, fading, mix=mix, label_balance=0.5, **settings)

    whole = list(islice(batches_of(), 5))
    halves = [batches_of(batch_size=2, process_index=r, num_processes=2) for r in range(2)]
    later = next(iter(batches_of(start=4)))

    for index, batch in enumerate(whole):
        assert_equal(batch, joined([half.batch(index) for half in halves]))
        assert len(batch["labels"]) == 4
        assert ("tasks" in batch) == bool(mix)
    assert_equal(whole[4], later)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
@pytest.mark.parametrize("kind", KINDS)
def test_workers_share_the_batches(kind: str, fading: VideoData, make: Make) -> None:
    batches = make(kind, fading, mix=MIX)

    received = islice(DataLoader(batches, batch_size=None, num_workers=2), 5)

    for index, batch in enumerate(received):
        assert_equal(batch, batches.batch(index))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_carried_to_a_worker_without_the_tokenizer(kind: str, data: VideoData, make: Make) -> None:
    """It may be on a GPU, whose memory not every system can share with a process that was not forked."""

    class Carrier(pickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            assert not isinstance(obj, torch.nn.Module)
            return NotImplemented

    batches, carried = make(kind, data, mix=MIX), io.BytesIO()

    Carrier(carried).dump(batches)

    assert_equal(pickle.loads(carried.getvalue()).batch(3), batches.batch(3))


def test_the_tasks_of_a_mix_come_by_weight_each_with_its_condition_codes(data: VideoData, make: Make) -> None:
    batches, plain = make("table", data, batch_size=400, mix=MIX), make("table", data, batch_size=400)
    assert isinstance(batches, CodeBatches)

    batch, other = batches.batch(0), batches.batch(1)

    assert torch.equal(batch["codes"], plain.batch(0)["codes"])
    for index, share in enumerate((0.25, 0.5, 0.25)):
        is_of_task = batch["tasks"] == index
        assert abs(is_of_task.float().mean() - share) < 4 * math.sqrt(share * (1 - share) / 400)
        column = (None, "dynamic_inpainting", "frame_prediction")[index]
        for place in is_of_task.nonzero()[:5, 0].tolist():
            expected = [MASK_ID] * 12 if column is None else batches.table[batches.row(place)][column].tolist()
            assert batch["condition_codes"][place].flatten().tolist() == expected
    assert not torch.equal(batch["tasks"], other["tasks"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_brings_the_embeddings_of_its_video(kind: str, data: VideoData, videos: Path, make: Make) -> None:
    context = torch.randn(3, 4)
    safetensors.torch.save_file({"context": context}, videos / "left" / "bar.context.safetensors")
    contexts = find_contexts(videos, data.train.reader.source.names())

    batch = make(kind, data, batch_size=8, contexts=contexts).batch(0)

    is_left = batch["labels"] == data.labels.index("left")
    assert is_left.any()
    assert not is_left.all()
    assert torch.equal(batch["context"], torch.where(is_left[:, None, None], context, 0))
    assert torch.equal(batch["context_padding"], ~is_left[:, None].expand(8, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_another_order_of_the_same_rows(
    kind: str, data: VideoData, make: Make, complete, tokenizer: VideoTokenizer
) -> None:
    def rows_of(seed: int) -> list[tuple[int, ...]]:
        batches = make(kind, data, seed=seed, batch_size=3 * len(data.train))
        batch = complete(batches, batches.batch(0))
        return [
            (label, *codes.flatten().tolist())
            for label, codes in zip(batch["labels"].tolist(), batch["codes"], strict=True)
        ]

    first, second = rows_of(3), rows_of(4)

    assert first != second
    assert sorted(first) == sorted(second)


def test_without_a_number_of_passes_each_epoch_has_a_new_one(fading: VideoData) -> None:
    endless = ClipBatches(fading, None, batch_size=1, seed=3)
    num_windows = len(fading.train)

    assert endless.rows_per_epoch == num_windows
    for epoch in (0, 1, 2, 1000):
        rows = range(epoch * num_windows, (epoch + 1) * num_windows)
        shown = {row for row, is_blank in zip(rows, are_blank(fading, rows), strict=True) if not is_blank}
        assert {*epoch_of(endless, epoch)} == shown
    batch = endless.batch(1000 * num_windows)
    (row,) = batch["rows"].tolist()
    assert row // num_windows == 1000
    assert torch.equal(batch["video"][0], torch.from_numpy(pixels_of(fading, row)))


def test_the_first_pass_of_endless_passes_is_that_of_one_pass(fading: VideoData, make: Make, complete) -> None:
    endless = ClipBatches(fading, None, batch_size=4, seed=3)
    table = make("table", fading, passes=1)

    for index in range(len(fading.train) // 4):
        assert_equal(complete(endless, endless.batch(index)), table.batch(index))


def test_drawn_clips_are_counted_by_their_labels_without_a_row_for_each() -> None:
    shapes = load_data(DataConfig(path="shapes", resolution=16, num_frames=5, drawn_clips=30), progress=False)
    assert isinstance(shapes.train.index, DrawnIndex)
    batches = ClipBatches(shapes, 1, batch_size=5, seed=0, label_balance=1.0)
    of_label = Counter(number % len(shapes.labels) for number in range(30))

    times = Counter(epoch_of(batches))

    most = max(of_label.values())
    assert times == {row: round(most / of_label[row % len(shapes.labels)]) for row in range(30)}
    batch = batches.batch(2)
    assert batch["labels"].tolist() == [row % len(shapes.labels) for row in batch["rows"].tolist()]


class AllShown(RowBatches):
    """Numbers of rows, none of which is blank."""

    def is_blank(self, row: int) -> bool:
        return False

    def batch(self, index: int) -> dict[str, Tensor]:
        return {"rows": torch.tensor([self.row(position) for position in self.positions(index)])}


def test_an_epoch_of_more_rows_than_fit_into_memory_is_shuffled(data: VideoData) -> None:
    ranges = Ranges.of([(0, 0, 2_000_000_000), (1, 0, 1_000_000_000)])
    index = RangeIndex.of(ranges, 5, np.array([0, 1], np.int32))
    much = replace(data, train=replace(data.train, index=index))
    batches = AllShown(much, 10_000, label_balance=1.0, batch_size=1000, seed=3)

    rows = batches.batch(0)["rows"].numpy()

    assert batches.rows_per_epoch == 10_000 * (400_000_000 + 2 * 200_000_000)
    assert len({*rows.tolist()}) == 1000
    assert rows.min() >= 0
    assert rows.max() < 10_000 * 600_000_000
    assert abs((rows % 600_000_000 < 400_000_000).mean() - 0.5) < 0.07  # four standard deviations
    assert abs((rows < 5_000 * 600_000_000).mean() - 0.5) < 0.07

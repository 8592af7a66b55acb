import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.pipelines.fill.regions import encode_condition
from magvit2_pytorch.train import codes
from magvit2_pytorch.train.codes import CodeBatches, encoded, fingerprint, row_region, times_in_an_epoch
from magvit2_pytorch.train.contexts import find_contexts
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.task_mix import WeightedTask

GRID = (3, 2, 2)
MASK_ID = 2**6
CONDITIONS = ("frame_prediction", "dynamic_inpainting")
MIX = (
    WeightedTask(name="class_generation"),
    WeightedTask(name="dynamic_inpainting", weight=2.0),
    WeightedTask(name="class_frame_prediction"),
)


@pytest.fixture
def data(videos: Path) -> VideoData:
    return load_data(DataConfig(path=str(videos), resolution=16, num_frames=5), progress=False)


@pytest.fixture
def tokenizer() -> VideoTokenizer:
    layers = ("residual", "compress_space")
    return VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=MASK_ID, patch_size=(2, 4, 4)).eval()


def test_each_row_holds_the_codes_of_its_window(tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path) -> None:
    table = encoded(tokenizer, data, tmp_path / "codes", progress=False)

    assert len(table) == 2 * len(data.train)
    for row in (0, 5, len(data.train) + 3, len(table) - 1):
        entry = table[row]
        video = data.train.video(entry["window"], flip=entry["flip"])[None]
        with torch.no_grad():
            assert entry["codes"] == tokenizer.encode(video).flatten().tolist()
        assert entry["label"] == data.train.table[entry["window"]]["label"]
    assert [path.name for path in (tmp_path / "codes").iterdir()] == [fingerprint(tokenizer, data)]


def test_each_row_holds_the_condition_codes_of_its_tasks_the_same_at_every_time(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path / "codes", conditions=CONDITIONS, progress=False)
    again = encoded(tokenizer, data, tmp_path / "others", conditions=CONDITIONS, progress=False)
    plain = encoded(tokenizer, data, tmp_path / "codes", progress=False)

    assert table["codes"][:] == plain["codes"][:]
    assert all(table[task][:] == again[task][:] for task in CONDITIONS)
    for row in (0, 5, len(data.train) + 3, len(table) - 1):
        entry = table[row]
        video = data.train.video(entry["window"], flip=entry["flip"])[None]
        for task in CONDITIONS:
            known = row_region(task, entry["window"], entry["flip"], video.shape[2:])[None]
            assert entry[task] == encode_condition(tokenizer, video, known).codes.flatten().tolist()
    regions = {
        row_region("dynamic_inpainting", window, flip, (5, 16, 16)) for window in (0, 1) for flip in (False, True)
    }
    assert len({tuple(region.flatten().tolist()) for region in regions}) == 4


def test_other_tasks_have_other_keys(tokenizer: VideoTokenizer, data: VideoData) -> None:
    keys = [fingerprint(tokenizer, data, conditions) for conditions in ((), CONDITIONS[:1], CONDITIONS[1:], CONDITIONS)]

    assert len(set(keys)) == 4
    assert keys[0] == fingerprint(tokenizer, data)


def test_other_weights_and_other_data_have_other_keys(tokenizer: VideoTokenizer, data: VideoData, videos: Path) -> None:
    key = fingerprint(tokenizer, data)
    unflipped = load_data(DataConfig(path=str(videos), resolution=16, num_frames=5, flip=False), progress=False)

    assert fingerprint(tokenizer, unflipped) != key
    assert fingerprint(tokenizer, replace(data)) == key
    with torch.no_grad():
        next(tokenizer.encoder.parameters())[0] += 1e-3
    assert fingerprint(tokenizer, data) != key


def shards_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of every finished shard."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*.arrow"))}


def test_after_an_interruption_only_unfinished_shards_are_encoded(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "ROWS_PER_SHARD", 20)
    monkeypatch.setattr(codes, "BATCH_SIZE", 6)
    whole = encoded(tokenizer, data, tmp_path / "whole", progress=False)
    undisturbed = {name: content for name, (_, content) in shards_in(tmp_path / "whole").items()}
    assert len(undisturbed) == math.ceil(len(whole) / 20) > 3

    rows, num_left = codes.Encoder.rows, 10

    def interrupted(self: codes.Encoder, keys: list[tuple[int, bool]]) -> list[dict[str, object]]:
        nonlocal num_left
        num_left -= 1
        if num_left == 0:
            raise KeyboardInterrupt
        return rows(self, keys)

    monkeypatch.setattr(codes.Encoder, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoded(tokenizer, data, tmp_path / "codes", progress=False)
    finished = shards_in(tmp_path / "codes")
    assert 0 < len(finished) < len(undisturbed)

    again = encoded(tokenizer, data, tmp_path / "codes", progress=False)

    after = shards_in(tmp_path / "codes")
    assert {name: content for name, (_, content) in after.items()} == undisturbed
    assert all(after[name] == shard for name, shard in finished.items())
    assert again[:] == whole[:]


def test_shards_of_other_processes_are_waited_for_and_not_encoded(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "ROWS_PER_SHARD", 8)
    encoded_rows: list[tuple[int, bool]] = []
    rows = codes.Encoder.rows

    def counted(self: codes.Encoder, keys: list[tuple[int, bool]]) -> list[dict[str, object]]:
        encoded_rows.extend(keys)
        return rows(self, keys)

    monkeypatch.setattr(codes.Encoder, "rows", counted)
    monkeypatch.setattr(codes, "log_work", lambda *_: None)

    with ThreadPoolExecutor(3) as executor:
        tables = list(executor.map(lambda _: encoded(tokenizer, data, tmp_path, progress=False), range(3)))

    assert len(encoded_rows) == len(set(encoded_rows)) == len(tables[0])
    assert all(table[:] == tables[0][:] for table in tables)


@pytest.mark.parametrize("num_bytes_left", [0, 100, -1])
def test_a_damaged_shard_is_named_and_encoded_again(
    tokenizer: VideoTokenizer,
    data: VideoData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_bytes_left: int,
) -> None:
    monkeypatch.setattr(codes, "ROWS_PER_SHARD", 20)
    encoded(tokenizer, data, tmp_path, progress=False)
    before = shards_in(tmp_path)
    (path, *_) = sorted(tmp_path.rglob("*.arrow"))
    path.write_bytes(path.read_bytes()[:num_bytes_left])

    encoded(tokenizer, data, tmp_path, progress=False)

    after = shards_in(tmp_path)
    assert f"{path} is damaged" in caplog.text
    assert "it is encoded again" in caplog.text
    assert after[path.name][1] == before[path.name][1]
    assert all(after[name] == shard for name, shard in before.items() if name != path.name)


def test_what_encoding_takes_is_logged_before_it_starts(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        encoded(tokenizer, data, tmp_path, progress=False)
        encoded(tokenizer, data, tmp_path, progress=False)

    (message,) = [message for message in caplog.messages if message.startswith("encoding")]
    assert f"encoding {2 * len(data.train)} rows of codes: 0 MB, about 0." in message


def test_codes_of_another_precision_are_a_table_of_their_own(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    dtypes = []
    tokenizer.encoder.register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))

    for precision in ("no", "bf16"):
        encoded(tokenizer, data, tmp_path / "codes", precision=precision, progress=False)

    assert len(list((tmp_path / "codes").iterdir())) == 2
    assert set(dtypes) == {torch.float32, torch.bfloat16}


def test_every_row_that_is_not_blank_comes_once_in_each_epoch(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path, progress=False)
    shown = int((~np.asarray(table["is_blank"][:])).sum())
    batches = CodeBatches(table, GRID, batch_size=1, seed=3, mask_id=MASK_ID)

    rows = [batches.row(place) for place in range(2 * shown)]

    assert sorted(rows[:shown]) == sorted(rows[shown:]) == list(range(shown))
    assert rows[:shown] != rows[shown:]


def test_rare_labels_are_oversampled_as_asked(tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path) -> None:
    table = encoded(tokenizer, data, tmp_path, progress=False)
    shown = np.flatnonzero(~np.asarray(table["is_blank"][:]))
    rare, common = shown[:2], shown[2:]
    labels = np.zeros(len(table), np.int64)
    labels[rare] = 1
    table = table.remove_columns("label").add_column("label", labels.tolist()).add_column("row", [*range(len(table))])
    ratio = len(common) / len(rare)
    assert ratio > 4  # so that each balance expects another number

    for balance in (0.0, 0.5, 1.0):
        batches = CodeBatches(table, GRID, batch_size=1, seed=3, mask_id=MASK_ID, label_balance=balance)
        epoch = [batches.table[batches.row(place)]["row"] for place in range(len(batches.table))]
        times = np.bincount(epoch, minlength=len(table))

        assert (times[common] == 1).all()
        assert (times[rare] == round(ratio**balance)).all()
        assert times.sum() == len(epoch) == times[shown].sum()


def test_every_window_comes_at_least_once() -> None:
    labels = np.array([3] * 7 + [1] * 2 + [0] * 5)

    assert times_in_an_epoch(labels, 0.0).tolist() == [1] * 14
    assert times_in_an_epoch(labels, 0.5).tolist() == [1] * 7 + [2] * 2 + [1] * 5
    assert times_in_an_epoch(labels, 1.0).tolist() == [1] * 7 + [4] * 2 + [1] * 5


def joined(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_processes_share_a_batch_and_any_batch_can_come_first(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path, conditions=CONDITIONS, progress=False)

    for mix in ((), MIX):
        settings = {"seed": 3, "mask_id": MASK_ID, "mix": mix}
        whole = list(islice(CodeBatches(table, GRID, batch_size=4, **settings), 5))
        halves = [
            CodeBatches(table, GRID, batch_size=2, process_index=r, num_processes=2, **settings) for r in range(2)
        ]
        later = next(iter(CodeBatches(table, GRID, batch_size=4, start=4, **settings)))

        for index, batch in enumerate(whole):
            together = joined([half.batch(index) for half in halves])
            assert all(torch.equal(batch[name], together[name]) for name in batch)
        assert all(torch.equal(whole[4][name], later[name]) for name in later)
        assert whole[0]["codes"].shape == (4, *GRID)
        assert ("tasks" in whole[0]) == bool(mix)


def test_the_tasks_of_a_mix_come_by_weight_each_with_its_condition_codes(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path, conditions=CONDITIONS, progress=False)
    batches = CodeBatches(table, GRID, batch_size=400, seed=3, mask_id=MASK_ID, mix=MIX)
    plain = CodeBatches(table, GRID, batch_size=400, seed=3, mask_id=MASK_ID)

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


def test_a_window_brings_the_embeddings_of_its_video(
    tokenizer: VideoTokenizer, data: VideoData, videos: Path, tmp_path: Path
) -> None:
    context = torch.randn(3, 4)
    safetensors.torch.save_file({"context": context}, videos / "left" / "bar.context.safetensors")
    table = encoded(tokenizer, data, tmp_path, progress=False)
    contexts = find_contexts(videos, data.train.table["file"][:])

    batch = CodeBatches(table, GRID, batch_size=8, seed=3, mask_id=MASK_ID, contexts=contexts).batch(0)

    is_left = batch["labels"] == data.labels.index("left")
    assert is_left.any()
    assert not is_left.all()
    assert torch.equal(batch["context"], torch.where(is_left[:, None, None], context, 0))
    assert torch.equal(batch["context_padding"], ~is_left[:, None].expand(8, 3))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_workers_share_the_batches(tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path) -> None:
    batches = CodeBatches(
        encoded(tokenizer, data, tmp_path, progress=False), GRID, batch_size=4, seed=3, mask_id=MASK_ID
    )

    loaded = islice(DataLoader(batches, batch_size=None, num_workers=2), 5)

    for index, batch in enumerate(loaded):
        assert torch.equal(batch["codes"], batches.batch(index)["codes"])

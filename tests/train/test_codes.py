import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.pipelines.fill.regions import encode_condition
from magvit2_pytorch.pipelines.media.video_files import write_frames
from magvit2_pytorch.train import codes
from magvit2_pytorch.train.codes import CodesConfig, clip_of, default_passes, encoded, fingerprint, row_of, row_region
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.index import RangeIndex
from magvit2_pytorch.train.data.video_data import to_video
from magvit2_pytorch.train.data.windows import Ranges

CONDITIONS = ("frame_prediction", "dynamic_inpainting")


@pytest.fixture
def data(videos: Path) -> VideoData:
    return load_data(DataConfig(path=str(videos), resolution=16, num_frames=5), progress=False)


@pytest.fixture
def tokenizer() -> VideoTokenizer:
    layers = ("residual", "compress_space")
    return VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=2**6, patch_size=(2, 4, 4)).eval()


def with_range(data: VideoData, num_frames: int) -> VideoData:
    """Data with one long range of frames. It can be counted, not read."""
    index = RangeIndex.of(Ranges.of([(0, 0, num_frames)]), 5, np.zeros(1, np.int32))
    return replace(data, train=replace(data.train, index=index))


def places(data: VideoData, pass_number: int) -> list[tuple[int, int]]:
    """File and first frame of each window of a pass."""
    rows = (row_of(data, pass_number * len(data.train) + index) for index in range(len(data.train)))
    return [(window.number, window.first_frame) for window, _, _ in rows]


def test_each_row_holds_the_codes_of_its_window(tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path) -> None:
    table = encoded(tokenizer, data, tmp_path / "codes", passes=3, progress=False)

    assert len(table) == 3 * len(data.train)
    for row in range(len(table)):
        entry = table[row]
        video = to_video(data.train.reader.clip(entry["file"], entry["first_frame"], flip=entry["flip"]))[None]
        with torch.no_grad():
            assert entry["codes"] == tokenizer.encode(video).flatten().tolist()
        assert data.labels[entry["label"]] == Path(data.train.reader.source.name(entry["file"])).parent.name
        window, _, flip = row_of(data, row)
        assert (entry["file"], entry["first_frame"], entry["label"], entry["flip"]) == (*window, flip)
        assert not entry["is_blank"]
    assert [path.name for path in (tmp_path / "codes").iterdir()] == [fingerprint(tokenizer, data, passes=3)]


def test_each_row_holds_the_condition_codes_of_its_tasks_the_same_at_every_time(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path / "codes", passes=2, conditions=CONDITIONS, progress=False)
    again = encoded(tokenizer, data, tmp_path / "others", passes=2, conditions=CONDITIONS, progress=False)
    plain = encoded(tokenizer, data, tmp_path / "codes", passes=2, progress=False)

    assert table["codes"][:] == plain["codes"][:]
    assert all(table[task][:] == again[task][:] for task in CONDITIONS)
    for row in (0, 5, len(data.train) + 3, len(table) - 1):
        entry = table[row]
        video = to_video(data.train.reader.clip(entry["file"], entry["first_frame"], flip=entry["flip"]))[None]
        for task in CONDITIONS:
            known = row_region(task, row, video.shape[2:])[None]
            assert entry[task] == encode_condition(tokenizer, video, known).codes.flatten().tolist()
    regions = {row_region("dynamic_inpainting", row, (5, 16, 16)) for row in range(4)}
    assert len({tuple(region.flatten().tolist()) for region in regions}) == 4


def test_each_pass_has_its_own_windows_flips_and_crops_of_the_same_files(videos: Path) -> None:
    data = load_data(DataConfig(path=str(videos), resolution=16, num_frames=8), progress=False)
    per_pass = [places(data, number) for number in range(100)]
    rows = [row_of(data, number) for number in range(100 * len(data.train))]

    assert len({tuple(windows) for windows in per_pass}) > 6
    for windows in per_pass:
        assert [file for file, _ in windows] == [file for file, _ in per_pass[0]]
        for (file, first), (next_file, after) in pairwise(windows):
            assert next_file != file or after >= first + 8  # no frame is in two windows of a pass
    shown = {place for windows in per_pass for place in windows}
    assert shown == {  # of 30 frames of one file and the last 10 of the other one, wherever three windows or one fit
        *((0, phase + 8 * place) for phase in range(7) for place in range(3)),
        *((1, 20 + phase) for phase in range(3)),
    }
    for index in range(len(data.train)):
        of_window = rows[index :: len(data.train)]
        assert {flip for _, _, flip in of_window} == {False, True}
        assert len({offset for _, offset, _ in of_window}) == 100
    assert all(0 <= share < 1 for _, offset, _ in rows for share in offset)
    assert 0.3 < np.mean([flip for _, _, flip in rows]) < 0.7


def test_where_flips_are_not_allowed_rows_are_the_same_but_for_the_flips(data: VideoData) -> None:
    unflipped = replace(data, allows_flip=False)

    for number in range(3 * len(data.train)):
        window, offset, flip = row_of(data, number)
        assert row_of(data, number) == (window, offset, flip)
        assert row_of(unflipped, number) == (window, offset, False)


def test_crops_are_at_the_place_of_their_row(tokenizer: VideoTokenizer, videos: Path) -> None:
    shade = np.linspace(10, 200, 48, dtype=np.uint8)[None, None, :, None]
    frames = np.broadcast_to(shade, (30, 16, 48, 3)) + np.arange(30, dtype=np.uint8)[:, None, None, None]
    for label in ("left", "right"):
        (videos / label / "bar.gif").unlink()
        write_frames(videos / label / "wide.mp4", frames, fps=10)
    data = load_data(DataConfig(path=str(videos), resolution=16, num_frames=5), progress=False)
    lefts = []

    for number in range(5 * len(data.train)):
        (file, first_frame, _), (_, share), flip = row_of(data, number)
        whole = data.train.reader.source.frames(file, first_frame)
        clip = clip_of(data, number)
        crops = [to_video(np.moveaxis(whole[:, :, left : left + 16], 3, 0)) for left in range(33)]
        (left,) = [left for left, crop in enumerate(crops) if torch.equal(clip, crop.flip(-1) if flip else crop)]
        assert abs(left - 32 * share) < 1
        lefts.append(left)

    assert min(lefts) < 5 < 27 < max(lefts)


def test_by_default_there_are_as_many_passes_as_give_about_4096_rows(data: VideoData) -> None:
    assert (default_passes(data) - 1) * len(data.train) < 4096 <= default_passes(data) * len(data.train)
    assert default_passes(data) > 100
    for num_windows, passes in ((4095, 2), (4096, 1), (4097, 1), (1_000_000, 1), (1365, 4), (1366, 3)):
        big = with_range(data, 5 * num_windows + 4)
        assert (len(big.train), default_passes(big)) == (num_windows, passes)
    assert default_passes(load_data(DataConfig(path="shapes", drawn_clips=16))) == 1


def test_the_number_of_passes_can_be_chosen_and_online_there_is_no_last_one(data: VideoData) -> None:
    assert CodesConfig().passes_over(data) == default_passes(data)
    assert CodesConfig(passes=3).passes_over(data) == CodesConfig(passes=3, online=True).passes_over(data) == 3
    assert CodesConfig(online=True).passes_over(data) is None
    with pytest.raises(ValueError, match="passes must be at least 1, got 0"):
        CodesConfig(passes=0)


def test_without_a_number_the_default_passes_are_encoded(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "ROWS_BY_DEFAULT", 2 * len(data.train) + 1)

    table = encoded(tokenizer, data, tmp_path / "codes", progress=False)

    assert len(table) == 3 * len(data.train)
    assert table[:] == encoded(tokenizer, data, tmp_path / "codes", passes=3, progress=False)[:]
    assert len(list((tmp_path / "codes").iterdir())) == 1


def test_more_passes_begin_with_the_same_rows_and_are_a_table_of_their_own(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    one, two = (encoded(tokenizer, data, tmp_path / "codes", passes=passes, progress=False) for passes in (1, 2))

    assert two[: len(one)] == one[:]
    assert two[len(one) :] != one[:]
    assert len(list((tmp_path / "codes").iterdir())) == 2
    assert len({fingerprint(tokenizer, data, passes=passes) for passes in (None, 1, 2, 12)}) == 4


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
    whole = encoded(tokenizer, data, tmp_path / "whole", passes=7, progress=False)
    undisturbed = {name: content for name, (_, content) in shards_in(tmp_path / "whole").items()}
    assert len(undisturbed) == math.ceil(len(whole) / 20) > 3

    rows, num_left = codes.Encoder.rows, 10

    def interrupted(self: codes.Encoder, numbers: range) -> list[dict[str, object]]:
        nonlocal num_left
        num_left -= 1
        if num_left == 0:
            raise KeyboardInterrupt
        return rows(self, numbers)

    monkeypatch.setattr(codes.Encoder, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoded(tokenizer, data, tmp_path / "codes", passes=7, progress=False)
    finished = shards_in(tmp_path / "codes")
    assert 0 < len(finished) < len(undisturbed)

    again = encoded(tokenizer, data, tmp_path / "codes", passes=7, progress=False)

    after = shards_in(tmp_path / "codes")
    assert {name: content for name, (_, content) in after.items()} == undisturbed
    assert all(after[name] == shard for name, shard in finished.items())
    assert again[:] == whole[:]


def test_shards_of_other_processes_are_waited_for_and_not_encoded(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "ROWS_PER_SHARD", 8)
    encoded_rows: list[int] = []
    rows = codes.Encoder.rows

    def counted(self: codes.Encoder, numbers: range) -> list[dict[str, object]]:
        encoded_rows.extend(numbers)
        return rows(self, numbers)

    monkeypatch.setattr(codes.Encoder, "rows", counted)
    monkeypatch.setattr(codes, "log_work", lambda *_: None)

    with ThreadPoolExecutor(3) as executor:
        tables = list(executor.map(lambda _: encoded(tokenizer, data, tmp_path, passes=4, progress=False), range(3)))

    assert sorted(encoded_rows) == list(range(4 * len(data.train)))
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
    encoded(tokenizer, data, tmp_path, passes=7, progress=False)
    before = shards_in(tmp_path)
    (path, *_) = sorted(tmp_path.rglob("*.arrow"))
    path.write_bytes(path.read_bytes()[:num_bytes_left])

    encoded(tokenizer, data, tmp_path, passes=7, progress=False)

    after = shards_in(tmp_path)
    assert f"{path} is damaged" in caplog.text
    assert "it is encoded again" in caplog.text
    assert after[path.name][1] == before[path.name][1]
    assert all(after[name] == shard for name, shard in before.items() if name != path.name)


def test_what_encoding_takes_is_logged_before_it_starts(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        encoded(tokenizer, data, tmp_path, passes=2, progress=False)
        encoded(tokenizer, data, tmp_path, passes=2, progress=False)

    (message,) = [message for message in caplog.messages if message.startswith("encoding")]
    assert f"encoding {2 * len(data.train)} rows of codes: 0 MB, about 0." in message


def test_codes_of_another_precision_are_a_table_of_their_own(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    dtypes = []
    tokenizer.encoder.register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))

    for precision in ("no", "bf16"):
        encoded(tokenizer, data, tmp_path / "codes", passes=1, precision=precision, progress=False)

    assert len(list((tmp_path / "codes").iterdir())) == 2
    assert set(dtypes) == {torch.float32, torch.bfloat16}

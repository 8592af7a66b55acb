from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.train.codes import CodeBatches, encoded, fingerprint
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data

GRID = (3, 2, 2)


@pytest.fixture
def data(videos: Path) -> VideoData:
    return load_data(DataConfig(path=str(videos), resolution=16, num_frames=5), progress=False)


@pytest.fixture
def tokenizer() -> VideoTokenizer:
    layers = ("residual", "compress_space")
    return VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=2**6, patch_size=(2, 4, 4)).eval()


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


def test_other_weights_and_other_data_have_other_keys(tokenizer: VideoTokenizer, data: VideoData, videos: Path) -> None:
    key = fingerprint(tokenizer, data)
    unflipped = load_data(DataConfig(path=str(videos), resolution=16, num_frames=5, flip=False), progress=False)

    assert fingerprint(tokenizer, unflipped) != key
    assert fingerprint(tokenizer, replace(data)) == key
    with torch.no_grad():
        next(tokenizer.encoder.parameters())[0] += 1e-3
    assert fingerprint(tokenizer, data) != key


def test_an_interrupted_encoding_leaves_nothing(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoTokenizer, "encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        encoded(tokenizer, data, tmp_path / "codes", progress=False)

    assert not list((tmp_path / "codes").iterdir())


def test_every_row_that_is_not_blank_comes_once_in_each_epoch(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path, progress=False)
    shown = int((~np.asarray(table["is_blank"][:])).sum())
    batches = CodeBatches(table, GRID, batch_size=1, seed=3)

    rows = [batches.row(place) for place in range(2 * shown)]

    assert sorted(rows[:shown]) == sorted(rows[shown:]) == list(range(shown))
    assert rows[:shown] != rows[shown:]


def joined(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_processes_share_a_batch_and_any_batch_can_come_first(
    tokenizer: VideoTokenizer, data: VideoData, tmp_path: Path
) -> None:
    table = encoded(tokenizer, data, tmp_path, progress=False)
    whole = list(islice(CodeBatches(table, GRID, batch_size=4, seed=3), 5))
    halves = [CodeBatches(table, GRID, batch_size=2, seed=3, process_index=r, num_processes=2) for r in range(2)]
    later = next(iter(CodeBatches(table, GRID, batch_size=4, seed=3, start=4)))

    for index, batch in enumerate(whole):
        together = joined([half.batch(index) for half in halves])
        assert all(torch.equal(batch[name], together[name]) for name in batch)
    assert all(torch.equal(whole[4][name], later[name]) for name in later)
    assert whole[0]["codes"].shape == (4, *GRID)

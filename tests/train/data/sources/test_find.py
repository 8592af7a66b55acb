"""One data set in every form: the same clips, labels and held-out set from each."""

import csv
import io
import json
import logging
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.cache import decoded_frames
from magvit2_pytorch.train.data.cache.stored_videos import StoredVideos
from magvit2_pytorch.train.data.report import write_skipped
from magvit2_pytorch.train.data.video_data import StoredFrames

LABELS = ("jump", "run", "sit", "walk")
FORMS = ("folder", "csv", "jsonl", "tars", "range of tars", "table", "parquet", "folder of parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_video) -> Path:
    """Twenty short videos of four labels, one with a cut, one cut off, two that cannot be read; in every form."""
    root = tmp_path_factory.mktemp("made")
    generator = np.random.default_rng(0)
    for number in range(20):
        frames = generator.integers(0, 255, (30, 4, 6, 3), dtype=np.uint8).repeat(2, 1).repeat(2, 2)
        frames = (frames * 0.02 + frames[:1] * 0.9).astype(np.uint8)
        if number == 3:
            frames[14:] = 255 - frames[14:]
        path = root / f"folder/{LABELS[number % 4]}/{number:02d}.mkv"
        write_video(path, frames)
        if number == 7:
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        if number in (8, 13):
            path.write_bytes(b"broken")
    files = sorted((root / "folder").rglob("*.mkv"))
    rows = [{"path": path.relative_to(root / "folder").as_posix(), "label": path.parent.name} for path in files]

    with (root / "folder/list.csv").open("w", newline="") as file:
        lines = [[row["path"], row["label"]] for row in reversed(rows)]
        csv.writer(file).writerows([["path", "label"], *lines])
    (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for shard in range(3):
        (root / "tars").mkdir(exist_ok=True)
        with tarfile.open(root / f"tars/{shard:03d}.tar", "w") as archive:
            for path, row in list(zip(files, rows, strict=True))[shard::3]:
                archive.add(path, row["path"])
                label = tarfile.TarInfo(row["path"].replace(".mkv", ".cls"))
                label.size = len(row["label"])
                archive.addfile(label, io.BytesIO(row["label"].encode()))
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=list(LABELS))}
    )
    columns = {
        "video": [{"bytes": path.read_bytes(), "path": row["path"]} for path, row in zip(files, rows, strict=True)],
        "label": [row["label"] for row in rows],
    }
    table = datasets.Dataset.from_dict(columns, features=features)
    table.save_to_disk(root / "table")
    table.to_parquet(root / "file.parquet")
    (root / "hub").mkdir()
    table.to_parquet(root / "hub/train-00000-of-00001.parquet")
    return root


@pytest.fixture(scope="module")
def load(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., VideoData]:
    cache = tmp_path_factory.mktemp("cache")
    places: dict[str, dict[str, str]] = {
        "folder": {"path": str(made / "folder")},
        "csv": {"path": str(made / "folder/list.csv")},
        "jsonl": {"path": str(made / "list.jsonl"), "root": str(made / "folder")},
        "tars": {"path": str(made / "tars")},
        "range of tars": {"path": str(made / "tars/{000..002}.tar")},
        "table": {"path": str(made / "table")},
        "parquet": {"path": str(made / "file.parquet")},
        "folder of parquet": {"path": str(made / "hub")},
    }

    def load_form(form: str, **settings: object) -> VideoData:
        config = DataConfig(resolution=8, num_frames=5, heldout_fraction=0.1, cache_dir=str(cache))
        return load_data(replace(config, **places[form], **settings), progress=False)

    return load_form


def rows_of(data: VideoData) -> list[list[tuple[str, int, int]]]:
    return [
        list(zip(clips.table["file"], clips.table["first_frame"], clips.table["label"], strict=True))
        for clips in (data.train.every_window(), data.heldout)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_the_same_clips_labels_and_held_out_set(form: str, load: Callable[..., VideoData]) -> None:
    expected, data = load("folder"), load(form)

    assert data.labels == expected.labels == LABELS
    assert rows_of(data) == rows_of(expected)
    assert data.fingerprint == expected.fingerprint
    windows, expected_windows = data.train.every_window(), expected.train.every_window()
    for index in range(0, len(windows), 41):
        assert torch.equal(windows.video(index), expected_windows.video(index))
    assert [data.train.window(index, (1, 2)) for index in range(len(data.train))] == [
        expected.train.window(index, (1, 2)) for index in range(len(expected.train))
    ]
    assert data.report
    unreadable = {one.name for one in data.report.skipped if one.kind == "unreadable"}
    assert unreadable == {"jump/08.mkv", "run/13.mkv"}


def test_the_forms_share_their_decoded_frames(load: Callable[..., VideoData], monkeypatch: pytest.MonkeyPatch) -> None:
    load("folder")
    monkeypatch.setattr(decoded_frames, "open_frames", lambda path: pytest.fail(f"{path} is decoded again"))

    for form in FORMS:
        load(form)


def test_a_source_that_is_nothing_of_this_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "film.doc").touch()

    for name, reason in (("film.doc", "is a file of another kind"), ("nowhere", "does not exist")):
        with pytest.raises(
            FileNotFoundError, match=rf"{name} {reason}; allowed are a folder of videos, a list .*hf://"
        ):
            load_data(DataConfig(path=str(tmp_path / name)))


def test_sections_and_rates_choose_frames(tmp_path: Path, write_video) -> None:
    frames = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    write_video(tmp_path / "a.mkv", frames)  # 25 frames per second
    (tmp_path / "list.csv").write_text("path,start,end\na.mkv,0.4,1.2\na.mkv,1.2,2\n")
    config = DataConfig(path=str(tmp_path / "list.csv"), resolution=8, num_frames=2, cache_dir=str(tmp_path / "cache"))

    def stored(**settings: float) -> dict[str, list[int]]:
        data = load_data(replace(config, heldout_fraction=0.1, **settings), progress=False)
        videos = stored_videos(data)
        return {video.name: video.frames(0, video.num_frames, 1)[:, 0, 0, 0].tolist() for video in videos}

    assert stored() == {"a.mkv@0.4-1.2": list(range(10, 30)), "a.mkv@1.2-2": list(range(30, 50))}
    assert stored(fps=12.5) == {"a.mkv@0.4-1.2": list(range(10, 30, 2)), "a.mkv@1.2-2": list(range(30, 50, 2))}
    assert stored(fps=50.0)["a.mkv@0.4-1.2"][:5] == [10, 10, 11, 11, 12]


def stored_videos(data: VideoData) -> StoredVideos:
    source = data.train.reader.source
    assert isinstance(source, StoredFrames)
    return source.videos


def test_a_cut_is_found_at_any_rate(tmp_path: Path, write_video, noise) -> None:
    write_video(tmp_path / "videos/a.mkv", np.concatenate([noise(31, seed=0), noise(29, seed=1)]))
    config = DataConfig(path=str(tmp_path / "videos"), resolution=8, num_frames=3, cache_dir=str(tmp_path / "cache"))

    data = load_data(replace(config, fps=5.0), progress=False)

    videos = stored_videos(data)
    assert videos.num_frames.tolist() == [12]
    assert (videos.num_cuts.tolist(), videos.cuts.tolist()) == ([1], [7])  # frames 0, 5, ..., 30 are before it


def test_a_rate_is_refused_for_the_shipped_clips_and_if_times_are_unknown(tmp_path: Path, write_video, noise) -> None:
    with pytest.raises(ValueError, match=r"fps must be None for the source 'clips'.* got 8.0; use frame_stride"):
        load_data(DataConfig(fps=8.0))
    with pytest.raises(ValueError, match=r"fps must be positive and at most 1000, got 0"):
        DataConfig(fps=0)


def test_the_report_counts_and_every_skipped_file_is_listed(
    load: Callable[..., VideoData], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data = load("csv", num_frames=20)

    report = data.report
    assert report
    assert (report.num_files, report.num_cuts, report.num_windows) == (17 - 1, 0, len(data.train))
    assert report.num_heldout == len(data.heldout)
    assert report.labels == {"jump": 4, "run": 4, "sit": 5, "walk": 3}
    assert report.hours == pytest.approx(16 * 29 / 25 / 3600, rel=0.1)
    assert "16 files, " in caplog.messages[-1]
    assert "files per label: jump 4, run 4, sit 5, walk 3" in caplog.messages[-1]

    write_skipped(tmp_path, [report])

    with (tmp_path / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["file"], row["reason"][:7]) for row in rows} == {
        ("jump/08.mkv", "Invalid"),
        ("run/13.mkv", "Invalid"),
        ("walk/03.mkv", "a clip "),
        ("walk/07.mkv", "a clip "),
    }


def test_only_the_first_skipped_files_are_named(tmp_path: Path, write_video, noise, caplog) -> None:
    write_video(tmp_path / "videos/good.mkv", noise(30))
    for number in range(40):
        (tmp_path / f"videos/{number:02d}.mp4").write_bytes(b"broken")
        (tmp_path / f"videos/{number:02d}.txt").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "videos/still.png")

    load_data(DataConfig(path=str(tmp_path / "videos"), num_frames=3, cache_dir=str(tmp_path / "cache")))

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message[:14] for message in warnings[:5]] == [f"skipped {number:02d}.mp4"[:14] for number in range(5)]
    assert warnings[5] == "... and 35 more; skipped.csv in the run's folder has all of them"
    assert "81 of 82 files" in warnings[6]
    assert len(warnings) == 7

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from magvit2_pytorch.train.data import Clips, DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.shipped import HELDOUT_LIST
from magvit2_pytorch.train.data.video_data import StoredFrames


def listed() -> list[tuple[str, int]]:
    with HELDOUT_LIST.open() as file:
        return [(row["file"], int(row["first_frame"])) for row in csv.DictReader(file)]


def windows(clips: Clips) -> list[tuple[str, int]]:
    return list(zip(clips.table["file"], clips.table["first_frame"], strict=True))


def frames_of(clips: Clips, span: int) -> set[tuple[str, int]]:
    return {(file, frame) for file, first in windows(clips) for frame in range(first, first + span)}


def psnr(video: torch.Tensor, other: torch.Tensor) -> float:
    return -10 * float((video - other).square().mean().log10())


def test_the_held_out_clips_are_the_listed_ones(shipped: VideoData) -> None:
    assert windows(shipped.heldout) == listed()
    assert len(shipped.heldout) == 28


def test_the_yardsticks_of_the_held_out_clips_are_the_published_ones(shipped: VideoData) -> None:
    video = torch.stack([(shipped.heldout.video(index) + 1) / 2 for index in range(len(shipped.heldout))])

    assert psnr(video, video.mean(dim=(2, 3, 4), keepdim=True)) == pytest.approx(14.70, abs=0.01)
    assert psnr(video, video[:, :, :1]) == pytest.approx(21.29, abs=0.01)


@pytest.mark.parametrize(("num_frames", "stride"), [(17, 1), (1, 1), (5, 2), (9, 4)])
def test_training_keeps_off_the_held_out_frames(
    shipped_config: DataConfig, shipped: VideoData, num_frames: int, stride: int
) -> None:
    config = replace(shipped_config, num_frames=num_frames, frame_stride=stride)
    data = load_data(config, progress=False)

    trained = frames_of(data.train, config.span)
    held_out = frames_of(data.heldout, config.span) | {
        (file, frame) for file, first in listed() for frame in range(first, first + 17)
    }

    assert set(windows(data.heldout)) <= set(listed())
    for distance in range(-2, 3):
        assert not trained & {(file, frame + distance) for file, frame in held_out}
    assert trained & {(file, frame + 3) for file, frame in held_out}


@pytest.mark.parametrize(("num_frames", "stride"), [(17, 1), (9, 4)])
def test_no_clip_spans_a_cut(shipped_config: DataConfig, shipped: VideoData, num_frames: int, stride: int) -> None:
    config = replace(shipped_config, num_frames=num_frames, frame_stride=stride)
    data = load_data(config, progress=False)
    source = data.train.source
    assert isinstance(source, StoredFrames)
    cuts = {name: video.timeline.cuts for name, video in source.videos.items()}

    def spans_a_cut(window: tuple[str, int]) -> bool:
        return any(window[1] < cut < window[1] + config.span for cut in cuts[window[0]])

    assert not any(map(spans_a_cut, windows(data.train)))
    assert windows(data.heldout) == [window for window in listed() if not spans_a_cut(window)]


def test_clips_that_fit_nowhere_are_refused(shipped_config: DataConfig) -> None:
    with pytest.raises(ValueError, match="no training window of 300 frames fits"):
        load_data(replace(shipped_config, num_frames=300), progress=False)


def test_a_planted_cut_is_never_inside_a_clip(folder_config: DataConfig, write_video, noise) -> None:
    frames = np.concatenate([noise(20, seed=0), noise(20, seed=1)])
    write_video(Path(folder_config.path, "a.mkv"), frames)

    data = load_data(folder_config, progress=False)

    firsts = [first for clips in (data.train, data.heldout) for _, first in windows(clips)]
    assert 18 not in firsts
    assert 19 not in firsts
    assert {17, 20} & set(firsts)


def test_a_folder_is_split_by_blocks_with_a_margin(folder_config: DataConfig, write_video, noise) -> None:
    for label, seed in (("walk", 0), ("run", 1), ("run", 2)):
        write_video(Path(folder_config.path, label, f"{seed}.mkv"), noise(40, seed=seed))

    data = load_data(replace(folder_config, heldout_fraction=0.2), progress=False)

    assert data.labels == ("run", "walk")
    assert data.allows_flip
    assert 0.15 < len(data.heldout) / (3 * 38) < 0.25
    trained, held_out = frames_of(data.train, 3), frames_of(data.heldout, 3)
    assert not trained & {(file, frame + distance) for file, frame in held_out for distance in range(-2, 3)}
    example = data.train[0]
    assert data.train.table[0]["file"] == f"{data.labels[int(example['label'])]}/1.mkv"


def test_the_windows_of_a_folder_are_all_that_there_are(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.path, "a.mkv"), noise(30))

    data = load_data(folder_config, progress=False)

    (file, first), *rest = windows(data.heldout)
    assert rest in ([], [(file, first + 1)])
    taken = set(range(first - 2, first + len(data.heldout) + 4))
    assert [start for _, start in windows(data.train)] == [
        start for start in range(28) if not taken & {start, start + 1, start + 2}
    ]


def test_unusable_files_are_named_and_counted(folder_config: DataConfig, write_video, noise, caplog) -> None:
    root = Path(folder_config.path)
    write_video(root / "good.mkv", noise(30))
    write_video(root / "short.mkv", noise(2))
    (root / "broken.avi").write_bytes(b"RIFF")

    with caplog.at_level(logging.WARNING):
        data = load_data(folder_config, progress=False)

    assert set(data.train.table["file"]) == {"good.mkv"}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "broken.avi" in messages[0]
    assert "short.mkv: a clip needs 3 frames without a cut, found 2 of 2" in messages[1]
    assert "2 of 3 videos" in messages[2]


def test_a_folder_without_a_usable_video_is_refused(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.path, "short.mkv"), noise(2))

    with pytest.raises(ValueError, match="no usable video among the 1"):
        load_data(folder_config, progress=False)


def test_a_folder_too_small_to_hold_anything_out_is_refused(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.path, "small.mkv"), noise(7))

    with pytest.raises(ValueError, match=r"found 7 frames .* needed 8 frames"):
        load_data(folder_config, progress=False)


def test_the_fingerprint_tells_what_was_changed(folder_config: DataConfig, write_video, noise, tmp_path: Path) -> None:
    path = write_video(Path(folder_config.path, "a.mkv"), noise(30))

    def fingerprint(**changes) -> str:
        return load_data(replace(folder_config, **changes), progress=False).fingerprint

    first = fingerprint()
    changes = [{"num_frames": 4}, {"frame_stride": 2}, {"resolution": 9}, {"seed": 2}, {"heldout_fraction": 0.1}]
    others = [fingerprint(**change) for change in changes]
    assert fingerprint(cache_dir=str(tmp_path / "another")) == first
    write_video(path, noise(31))
    others.append(fingerprint())

    assert len({first, *others}) == len(others) + 1


def test_flipping_can_be_turned_off(shipped_config: DataConfig, shipped: VideoData) -> None:
    assert shipped.allows_flip
    assert not load_data(replace(shipped_config, flip=False), progress=False).allows_flip

import pickle
from pathlib import Path

import datasets
import numpy as np
import torch

from magvit2_pytorch.train.data import DataConfig, VideoData, load_data


def test_a_clip_is_the_square_that_was_asked_for(folder_config: DataConfig, write_video, noise) -> None:
    frames = noise(12, height=8, width=14)
    write_video(Path(folder_config.sources[0], "a.mkv"), frames)
    clips = load_data(folder_config, progress=False).train
    row = clips.table[2]
    window = frames[row["first_frame"] : row["first_frame"] + 3]

    for share, left in [(0.0, 0), (0.5, 3), (1.0, 6)]:
        expected = torch.from_numpy(window[:, :, left : left + 8]).movedim(-1, 0).float() / 127.5 - 1
        torch.testing.assert_close(clips.video(2, offset=(0.3, share)), expected)
    assert torch.equal(clips[2]["video"], clips.video(2))


def test_a_tall_video_is_cropped_from_top_to_bottom(folder_config: DataConfig, write_video, noise) -> None:
    frames = noise(12, height=20, width=8)
    write_video(Path(folder_config.sources[0], "a.mkv"), frames)
    clips = load_data(folder_config, progress=False).train
    first = clips.table[0]["first_frame"]

    bottom = clips.video(0, offset=(1.0, 0.0))

    expected = torch.from_numpy(frames[first : first + 3, 12:]).movedim(-1, 0).float() / 127.5 - 1
    torch.testing.assert_close(bottom, expected)


def test_a_flipped_clip_is_the_mirrored_crop(shipped: VideoData) -> None:
    assert torch.equal(shipped.train.video(100, flip=True), shipped.train.video(100).flip(-1))
    assert not torch.equal(shipped.train.video(100, flip=True), shipped.train.video(100))


def test_clips_are_in_the_range_of_the_models(shipped: VideoData) -> None:
    example = shipped.heldout[3]

    assert example["video"].shape == (3, 17, 64, 64)
    assert example["video"].dtype == torch.float32
    assert -1 <= example["video"].min() < -0.5 < 0.5 < example["video"].max() <= 1
    assert example["label"].dtype == torch.int64
    assert shipped.labels[int(example["label"])] == "big_buck_bunny"


def test_the_table_says_which_windows_are_blank(shipped: VideoData) -> None:
    numbers = np.random.default_rng(0).choice(len(shipped.train), 150, replace=False)
    blank = np.array(shipped.train.table["is_blank"])
    checked = np.concatenate([numbers, np.flatnonzero(blank)[::10]])

    measured = [float(((shipped.train.video(int(index)) + 1) / 2).std(correction=0)) < 0.06 for index in checked]

    assert measured == blank[checked].tolist()
    assert 0 < blank.mean() < 0.15
    assert not any(shipped.heldout.table["is_blank"])


def test_a_grey_picture_is_blank_and_a_dark_one_need_not_be(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.sources[0], "grey.mkv"), noise(20, 8, 8) // 32 + 120)
    write_video(Path(folder_config.sources[0], "dark.mkv"), noise(20, 8, 8) // 2)

    table = load_data(folder_config, progress=False).train.table

    assert set(zip(table["file"], table["is_blank"], strict=True)) == {("grey.mkv", True), ("dark.mkv", False)}


def test_labels_are_named_in_the_table(shipped: VideoData) -> None:
    feature = shipped.train.table.features["label"]

    assert isinstance(feature, datasets.ClassLabel)
    assert tuple(feature.names) == shipped.labels
    for index in range(0, 2000, 97):
        row = shipped.train.table[index]
        assert shipped.labels[row["label"]] == Path(row["file"]).stem


def test_a_selection_keeps_its_clips(shipped: VideoData) -> None:
    selection = shipped.train.select(np.array([7, 3]))

    assert len(selection) == 2
    assert torch.equal(selection.video(1), shipped.train.video(3))


def test_clips_survive_the_way_to_a_worker(shipped: VideoData) -> None:
    received = pickle.loads(pickle.dumps(shipped.heldout))

    assert torch.equal(received.video(5), shipped.heldout.video(5))

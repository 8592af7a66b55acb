import pickle
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from magvit2_pytorch.train.data import Clips, DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.index import Window
from magvit2_pytorch.train.data.video_data import to_video


def places(clips: Clips) -> list[Window]:
    columns = (clips.table[name] for name in ("number", "first_frame", "label"))
    return [Window(*values) for values in zip(*columns, strict=True)]


def test_a_clip_is_the_square_that_was_asked_for(folder_config: DataConfig, write_video, noise) -> None:
    frames = noise(12, height=8, width=14)
    write_video(Path(folder_config.sources[0], "a.mkv"), frames)
    train = load_data(folder_config, progress=False).train
    clips = train.every_window()
    row = clips.table[2]
    window = frames[row["first_frame"] : row["first_frame"] + 3]

    for share, left in [(0.0, 0), (0.5, 3), (1.0, 6)]:
        pixels = train.reader.clip(row["number"], row["first_frame"], offset=(0.3, share))
        assert np.array_equal(pixels, np.moveaxis(window[:, :, left : left + 8], -1, 0))
        expected = torch.from_numpy(pixels).float() / 127.5 - 1
        torch.testing.assert_close(to_video(pixels), expected)
        if share == 0.5:
            torch.testing.assert_close(clips.video(2), expected)
            assert np.array_equal(clips.pixels(2), pixels)
    assert torch.equal(clips[2]["video"], clips.video(2))


def test_a_tall_video_is_cropped_from_top_to_bottom(folder_config: DataConfig, write_video, noise) -> None:
    frames = noise(12, height=20, width=8)
    write_video(Path(folder_config.sources[0], "a.mkv"), frames)
    train = load_data(folder_config, progress=False).train
    number, first, _ = train.window(0, None)

    bottom = train.reader.clip(number, first, offset=(1.0, 0.0))

    assert np.array_equal(bottom, np.moveaxis(frames[first : first + 3, 12:], -1, 0))


def test_the_tables_of_windows_have_what_passes_have(shipped: VideoData) -> None:
    train = shipped.train

    middle = train.middle_windows()

    assert places(middle) == [train.window(index, None) for index in range(len(train))]
    assert {train.window(index, (0, 3)) for index in range(len(train))} <= {*places(train.every_window())}
    for index in (0, 60, len(train) - 1):
        window = train.window(index, None)
        assert middle.table[index]["file"] == train.reader.source.name(window.number)
        assert train.reader.source.names()[window.number] == f"{shipped.labels[window.label]}.mp4"


def test_a_flipped_clip_is_the_mirrored_crop(shipped: VideoData) -> None:
    clips, window = shipped.train.middle_windows(), shipped.train.window(100, None)

    assert torch.equal(clips.video(100, flip=True), clips.video(100).flip(-1))
    assert not torch.equal(clips.video(100, flip=True), clips.video(100))
    pixels = shipped.train.reader.clip(window.number, window.first_frame, offset=(0.2, 0.1), flip=True)
    mirrored = shipped.train.reader.clip(window.number, window.first_frame, offset=(0.2, 0.1))[..., ::-1]
    assert np.array_equal(pixels, mirrored)


def test_clips_are_in_the_range_of_the_models(shipped: VideoData) -> None:
    example = shipped.heldout[3]

    assert example["video"].shape == (3, 17, 64, 64)
    assert example["video"].dtype == torch.float32
    assert -1 <= example["video"].min() < -0.5 < 0.5 < example["video"].max() <= 1
    assert example["label"].dtype == torch.int64
    assert shipped.labels[int(example["label"])] == "big_buck_bunny"


def test_it_is_known_which_windows_are_blank(shipped: VideoData) -> None:
    clips = shipped.train.every_window()
    numbers = np.random.default_rng(0).choice(len(clips), 150, replace=False)
    blank = clips.are_blank()
    checked = np.concatenate([numbers, np.flatnonzero(blank)[::10]])

    measured = [float(((clips.video(int(index)) + 1) / 2).std(correction=0)) < 0.06 for index in checked]

    assert measured == blank[checked].tolist()
    assert clips.select(checked).are_blank().tolist() == measured
    assert [shipped.train.is_blank(window) for window in places(clips.select(checked[-3:]))] == measured[-3:]
    assert 0 < blank.mean() < 0.15
    assert not shipped.heldout.are_blank().any()
    assert clips.select([]).are_blank().tolist() == []


def test_the_share_of_blank_windows_is_that_of_a_pass_or_of_some_of_it(shipped: VideoData) -> None:
    train = shipped.train
    blank = train.middle_windows().are_blank()

    assert train.blank_share(10**6) == train.blank_share(len(train)) == blank.mean() > 0
    assert train.blank_share(2) == blank[[0, -1]].mean()
    assert train.blank_share(len(train) // 2) == pytest.approx(blank.mean(), abs=0.04)


def test_a_grey_picture_is_blank_and_a_dark_one_need_not_be(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.sources[0], "grey.mkv"), noise(20, 8, 8) // 32 + 120)
    write_video(Path(folder_config.sources[0], "dark.mkv"), noise(20, 8, 8) // 2)

    clips = load_data(folder_config, progress=False).train.every_window()

    assert {*zip(clips.table["file"], clips.are_blank(), strict=True)} == {("grey.mkv", True), ("dark.mkv", False)}


def test_labels_are_named_in_the_table(shipped: VideoData) -> None:
    clips = shipped.train.every_window()
    feature = clips.table.features["label"]

    assert isinstance(feature, datasets.ClassLabel)
    assert tuple(feature.names) == shipped.labels
    for index in range(0, 2000, 97):
        row = clips.table[index]
        assert shipped.labels[row["label"]] == Path(row["file"]).stem


def test_a_selection_keeps_its_clips(shipped: VideoData) -> None:
    clips = shipped.train.every_window()
    selection = clips.select(np.array([7, 3]))

    assert len(selection) == 2
    assert torch.equal(selection.video(1), clips.video(3))


def test_a_few_clips_are_spread_over_the_files(shipped: VideoData) -> None:
    few = shipped.train.every_window().spread(20)

    assert Counter(few.table["file"]) == dict.fromkeys(shipped.train.reader.source.names(), 5)


def test_clips_survive_the_way_to_a_worker(shipped: VideoData) -> None:
    clips, train = pickle.loads(pickle.dumps((shipped.heldout, shipped.train)))

    assert torch.equal(clips.video(5), shipped.heldout.video(5))
    window = train.window(5, (0, 0))
    assert window == shipped.train.window(5, (0, 0))
    place = (window.number, window.first_frame)
    assert np.array_equal(train.reader.clip(*place), shipped.train.reader.clip(*place))

import csv
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from magvit2_pytorch.train.data import Clips, DataConfig, TrainingWindows, VideoData, load_data
from magvit2_pytorch.train.data.shipped import HELDOUT_LIST
from magvit2_pytorch.train.data.video_data import StoredFrames


def listed() -> list[tuple[str, int]]:
    with HELDOUT_LIST.open() as file:
        return [(row["file"], int(row["first_frame"])) for row in csv.DictReader(file)]


def windows(clips: Clips | TrainingWindows) -> list[tuple[str, int]]:
    """File and first frame of each clip; for training, of all windows that fit somewhere."""
    table = every(clips).table
    return list(zip(table["file"], table["first_frame"], strict=True))


def every(clips: Clips | TrainingWindows) -> Clips:
    return clips.every_window() if isinstance(clips, TrainingWindows) else clips


def frames_of(clips: Clips | TrainingWindows, span: int) -> set[tuple[str, int]]:
    return {(file, frame) for file, first in windows(clips) for frame in range(first, first + span)}


def of_passes(clips: TrainingWindows, num_passes: int) -> set[tuple[str, int]]:
    """File and first frame of each window of some passes."""
    drawn = (clips.window(index, (0, number)) for number in range(num_passes) for index in range(len(clips)))
    return {(clips.reader.source.name(window.number), window.first_frame) for window in drawn}


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
    assert of_passes(data.train, 2) <= set(windows(data.train))
    for distance in range(-2, 3):
        assert not trained & {(file, frame + distance) for file, frame in held_out}
    assert trained & {(file, frame + 3) for file, frame in held_out}


@pytest.mark.parametrize(("num_frames", "stride"), [(17, 1), (9, 4)])
def test_no_clip_spans_a_cut(shipped_config: DataConfig, shipped: VideoData, num_frames: int, stride: int) -> None:
    config = replace(shipped_config, num_frames=num_frames, frame_stride=stride)
    data = load_data(config, progress=False)
    source = data.train.reader.source
    assert isinstance(source, StoredFrames)
    ends = np.cumsum(source.videos.num_cuts)[:-1]
    cuts = dict(zip(source.names(), np.split(source.videos.cuts, ends), strict=True))
    assert sum(map(len, cuts.values())) > 40

    def spans_a_cut(window: tuple[str, int]) -> bool:
        return any(window[1] < cut < window[1] + config.span for cut in cuts[window[0]])

    assert not any(map(spans_a_cut, windows(data.train)))
    assert windows(data.heldout) == [window for window in listed() if not spans_a_cut(window)]


def test_clips_that_fit_nowhere_are_refused(shipped_config: DataConfig) -> None:
    with pytest.raises(ValueError, match="no training window of 300 frames without a cut"):
        load_data(replace(shipped_config, num_frames=300), progress=False)


def test_a_planted_cut_is_never_inside_a_clip(folder_config: DataConfig, write_video, noise) -> None:
    frames = np.concatenate([noise(20, seed=0), noise(20, seed=1)])
    write_video(Path(folder_config.sources[0], "a.mkv"), frames)

    data = load_data(folder_config, progress=False)

    firsts = [first for clips in (data.train, data.heldout) for _, first in windows(clips)]
    assert 18 not in firsts
    assert 19 not in firsts
    assert {17, 20} & set(firsts)


def test_a_folder_is_split_by_blocks_with_a_margin(folder_config: DataConfig, write_video, noise) -> None:
    for label, seed in (("walk", 0), ("run", 1), ("run", 2)):
        write_video(Path(folder_config.sources[0], label, f"{seed}.mkv"), noise(40, seed=seed))

    data = load_data(replace(folder_config, heldout_fraction=0.2), progress=False)

    assert data.labels == ("run", "walk")
    assert data.allows_flip
    blocks = {(file, 8 * (first // 8)) for file, first in windows(data.heldout)}  # 8 frames, so 6 windows
    assert 0.15 < len(blocks) * 6 / (3 * 38) < 0.25
    in_their_middle = [(file, start + first) for file, start in blocks for first in (1, 4)]
    assert sorted(windows(data.heldout)) == sorted(in_their_middle)
    near = {(file, frame) for file, start in blocks for frame in range(start - 2, start + 8 + 2)}
    assert not frames_of(data.train, 3) & near
    clips = data.train.every_window()
    assert clips.table[0]["file"] == f"{data.labels[int(clips[0]['label'])]}/1.mkv"


def test_the_windows_of_a_folder_are_all_that_there_are(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.sources[0], "a.mkv"), noise(30))

    data = load_data(folder_config, progress=False)

    ((_, first),) = windows(data.heldout)
    taken = set(range(first - 2, first + 5))
    starts = [start for _, start in windows(data.train)]
    assert starts == [start for start in range(28) if not taken & {start, start + 1, start + 2}]
    free = [run for run in (range(first - 2), range(first + 5, 30)) if len(run) >= 3]
    assert len(data.train) == sum(len(run) // 3 for run in free)
    assert {start for _, start in of_passes(data.train, 40)} == {
        run.start + phase + 3 * place
        for run in free
        for phase in range(len(run) % 3 + 1)
        for place in range(len(run) // 3)
    }


def test_unusable_files_are_named_and_counted(folder_config: DataConfig, write_video, noise, caplog) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "good.mkv", noise(30))
    write_video(root / "short.mkv", noise(2))
    (root / "broken.avi").write_bytes(b"RIFF")

    with caplog.at_level(logging.WARNING):
        data = load_data(folder_config, progress=False)

    assert files_of(data.train) == {"good.mkv"}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "broken.avi" in messages[0]
    assert "short.mkv: a clip needs 3 frames without a cut, but the longest shot has 2 of 2 frames" in messages[1]
    assert messages[2].endswith("2 of 3 files in " + str(root) + " are left out: 1 unreadable, 1 too short")


def test_every_file_is_used_or_counted_in_one_line(folder_config: DataConfig, write_video, noise, caplog) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "walk/good.mkv", noise(30))
    write_video(root / "walk/short.mkv", noise(2))
    for name in (
        "walk/a.txt",
        "walk/b.TXT",
        "notes/c.json",
        "walk/no_ending",
        "loose.txt",
        ".hidden",
        "run/broken.mp4",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("text")
    write_pictures(root, noise, "photo/0.png")
    (root / "walk/good.context.safetensors").touch()

    with caplog.at_level(logging.WARNING):
        data = load_data(folder_config, progress=False)

    assert data.labels == ("walk",)
    assert caplog.messages[-1] == (
        f"8 of 9 files in {root} are left out: 3 .txt, 1 .json, 1 without an extension, 1 unreadable, 1 too short, "
        "1 image files (used if num_frames is 1 or image_ratio is above 0); "
        "labels without a usable file: notes, photo, run"
    )
    caplog.clear()
    for path in root.rglob("*"):
        if path.is_file() and path.name != "good.mkv":
            path.unlink()
    load_data(folder_config, progress=False)
    assert not caplog.messages


def test_animated_pictures_are_videos(folder_config: DataConfig, noise) -> None:
    root = Path(folder_config.sources[0])
    root.mkdir()
    for number, ending in enumerate((".webp", ".png", ".apng", ".gif")):
        first, *others = (Image.fromarray(frame) for frame in noise(12, height=8, width=8, seed=number))
        first.save(root / f"a{ending}", save_all=True, append_images=others, duration=40, lossless=True)

    data = load_data(replace(folder_config, heldout_fraction=0.1), progress=False)

    assert files_of(data.train) | files_of(data.heldout) == {"a.webp", "a.png", "a.apng", "a.gif"}


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_both_spellings_of_an_accent_are_one_label(folder_config: DataConfig, write_video, noise) -> None:
    for number, label in enumerate((COMPOSED, DECOMPOSED)):
        write_video(Path(folder_config.sources[0], label, "a.mkv"), noise(30, seed=number))

    data = load_data(folder_config, progress=False)

    assert data.labels == (COMPOSED,)
    assert files_of(data.train) == {f"{COMPOSED}/a.mkv", f"{DECOMPOSED}/a.mkv"}
    assert set(every(data.train).table["label"]) == {0}


def test_names_that_are_not_utf8_are_used(folder_config: DataConfig, write_video, noise, caplog) -> None:
    root = Path(os.fsdecode(os.fsencode(folder_config.sources[0]) + b"\xff"))
    label = os.fsdecode(b"caf\xe9")
    write_video(root / label / "a.mkv", noise(30)).rename(root / label / os.fsdecode(b"\xfc.mkv"))
    (root / label / os.fsdecode(b"broken\xfc.mp4")).touch()

    data = load_data(replace(folder_config, path=str(root)), progress=False)

    assert data.labels == (r"caf\udce9",)
    assert files_of(data.train) == {r"caf\udce9/\udcfc.mkv"}
    assert every(data.train)[0]["video"].shape == (3, 3, 8, 8)
    assert all(message.isascii() for message in caplog.messages)
    assert "skipped" in caplog.messages[0]
    assert r"broken\udcfc.mp4" in caplog.messages[0]
    assert "1 unreadable" in caplog.messages[1]


def test_labels_that_are_numbers_are_in_their_order(folder_config: DataConfig, write_video, noise) -> None:
    for label in ("10", "2", "0", "1"):
        write_video(Path(folder_config.sources[0], label, "a.mkv"), noise(10, seed=int(label)))

    data = load_data(folder_config, progress=False)

    assert data.labels == ("0", "1", "2", "10")
    table = every(data.train).table
    for label, file in zip(table["label"], table["file"], strict=True):
        assert data.labels[label] == file.split("/")[0]


def test_a_folder_without_a_usable_video_is_refused(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.sources[0], "short.mkv"), noise(2))

    with pytest.raises(ValueError, match=r"nothing usable among the 1 files in .* a clip needs 3 frames"):
        load_data(folder_config, progress=False)


def test_a_folder_too_small_to_hold_anything_out_is_refused(folder_config: DataConfig, write_video, noise) -> None:
    write_video(Path(folder_config.sources[0], "small.mkv"), noise(7))

    with pytest.raises(ValueError, match=r"found 7 frames .* at least 8 frames"):
        load_data(folder_config, progress=False)


def test_the_fingerprint_tells_what_was_changed(folder_config: DataConfig, write_video, noise, tmp_path: Path) -> None:
    path = write_video(Path(folder_config.sources[0], "a.mkv"), noise(30))

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


def write_pictures(root: Path, noise, *names: str) -> dict[str, np.ndarray]:
    """Pictures of the stored size, each with a texture of its own."""
    pictures = {name: noise(1, height=8, width=8, seed=100 + number)[0] for number, name in enumerate(names)}
    for name, pixels in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return pictures


def files_of(clips: Clips | TrainingWindows | None) -> set[str]:
    assert clips is not None
    return set(every(clips).table["file"])


def test_pictures_alone_make_clips_of_one_frame(folder_config: DataConfig, noise) -> None:
    names = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(10)]
    pictures = write_pictures(Path(folder_config.sources[0]), noise, *names)

    data = load_data(replace(folder_config, num_frames=1, heldout_fraction=0.2), progress=False)

    assert data.labels == ("cat", "dog")
    assert (len(data.train), len(data.heldout)) == (16, 4)
    assert files_of(data.train) | files_of(data.heldout) == set(names)
    for clips in (every(data.train), data.heldout):
        for index, (name, first_frame) in enumerate(windows(clips)):
            example = clips[index]
            assert first_frame == 0
            assert data.labels[int(example["label"])] == name.split("/")[0]
            expected = torch.from_numpy(pictures[name]).movedim(-1, 0)[:, None] / 127.5 - 1
            torch.testing.assert_close(example["video"], expected)


def test_few_pictures_are_held_out_all_the_same_and_one_is_too_few(folder_config: DataConfig, noise) -> None:
    config, root = replace(folder_config, num_frames=1), Path(folder_config.sources[0])
    write_pictures(root, noise, "0.png")
    with pytest.raises(
        ValueError, match=r"too few frames for a held-out set: found 1 frames in 1 files .* in each of two files"
    ):
        load_data(config, progress=False)

    write_pictures(root, noise, "0.png", "1.png")
    data = load_data(config, progress=False)

    assert (len(data.train), len(data.heldout)) == (1, 1)


def test_clips_of_one_frame_are_pictures_and_the_frames_of_videos(
    folder_config: DataConfig, write_video, noise
) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "film/a.mkv", noise(40))
    write_pictures(root, noise, *(f"photo/{number}.jpg" for number in range(10)))

    data = load_data(replace(folder_config, num_frames=1, heldout_fraction=0.1), progress=False)

    assert data.labels == ("film", "photo")
    assert data.images is None
    by_file = [sum(file == "film/a.mkv" for file, _ in windows(clips)) for clips in (data.train, data.heldout)]
    assert by_file[1] == 4
    assert 24 <= by_file[0] <= 32
    assert (len(data.train) - by_file[0], len(data.heldout) - by_file[1]) == (9, 1)
    trained = set(windows(data.train))
    assert not trained & {
        (file, first + distance) for file, first in windows(data.heldout) for distance in range(-2, 3)
    }


def test_a_video_too_short_to_be_split_is_trained_on_beside_pictures(
    folder_config: DataConfig, write_video, noise
) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "still.mkv", noise(1))
    write_pictures(root, noise, "0.png", "1.png")

    data = load_data(replace(folder_config, num_frames=1), progress=False)

    assert "still.mkv" in files_of(data.train)
    assert len(data.heldout) == 1


def test_bad_pictures_are_named_and_counted(folder_config: DataConfig, noise, caplog) -> None:
    root = Path(folder_config.sources[0])
    write_pictures(root, noise, *(f"{number}.png" for number in range(4)))
    (root / "0.png").write_bytes((root / "0.png").read_bytes()[:100])
    (root / "text.png").write_text("no picture")
    Image.new("RGB", (9, 7), (200, 0, 0)).convert("CMYK").save(root / "print.jpg")
    Image.new("RGB", (1, 1)).save(root / "dot.bmp")

    with caplog.at_level(logging.WARNING):
        data = load_data(replace(folder_config, num_frames=1), progress=False)

    assert files_of(data.train) | files_of(data.heldout) == {"1.png", "2.png", "3.png", "print.jpg", "dot.bmp"}
    messages = [record.getMessage() for record in caplog.records]
    assert [name in message for name, message in zip(("0.png", "text.png"), messages, strict=False)] == [True, True]
    assert "2 of 7 files" in messages[2]

    for name in files_of(data.train) | files_of(data.heldout):
        (root / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"nothing usable among the 7 files in .* none of them can be read"):
        load_data(replace(folder_config, num_frames=1), progress=False)


def test_clips_of_several_frames_take_no_pictures(folder_config: DataConfig, write_video, noise, caplog) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "film/a.mkv", noise(30))
    alone = load_data(folder_config, progress=False)
    write_pictures(root, noise, "photo/0.png", "photo/1.png")

    data = load_data(folder_config, progress=False)

    assert "2 of 3 files" in caplog.text
    assert "2 image files (used if num_frames is 1 or image_ratio is above 0); labels without a usable" in caplog.text
    assert (data.labels, data.fingerprint) == (("film",), alone.fingerprint)
    assert windows(data.train) == windows(alone.train)
    assert data.images is None
    (root / "film/a.mkv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no videos in .*, only 2 images; set num_frames to 1"):
        load_data(folder_config, progress=False)


def test_images_beside_clips_are_frames_and_pictures_that_are_not_held_out(
    folder_config: DataConfig, write_video, noise
) -> None:
    root = Path(folder_config.sources[0])
    for seed in range(2):
        write_video(root / f"film/{seed}.mkv", noise(40, 8, 8, seed=seed))
    pictures = write_pictures(root, noise, *(f"photo/{number}.png" for number in range(10)))
    without_pictures = load_data(folder_config, progress=False)
    config = replace(folder_config, image_ratio=0.3)

    data = load_data(config, progress=False)

    assert data.image_ratio == 0.3
    assert data.labels == ("film", "photo")
    assert [windows(clips) for clips in (data.train, data.heldout)] == [
        windows(clips) for clips in (without_pictures.train, without_pictures.heldout)
    ]
    assert data.images is not None
    held_out = frames_of(data.heldout, 3)
    near = {(file, frame + distance) for file, frame in held_out for distance in range(-2, 3)}
    frames = {(f"film/{seed}.mkv", frame) for seed in range(2) for frame in range(40)} - near
    images = windows(data.images)
    assert len(data.images) == len(images) == len(set(images))
    assert {image for image in images if image[0].startswith("film")} == frames
    photos = {file for file, _ in images if file.startswith("photo")}
    assert len(photos) == 9
    on_images_alone = load_data(replace(folder_config, num_frames=1), progress=False)
    assert photos == {file for file in files_of(on_images_alone.train) if file.startswith("photo")}
    clips = data.images.every_window()
    for index in range(0, len(images), 7):
        example, (name, first) = clips[index], images[index]
        pixels = pictures[name] if name in pictures else noise(40, 8, 8, seed=int(name[5]))[first]
        assert data.labels[int(example["label"])] == name.split("/")[0]
        torch.testing.assert_close(example["video"], torch.from_numpy(pixels).movedim(-1, 0)[:, None] / 127.5 - 1)


def test_one_picture_beside_clips_is_trained_on_and_none_is_needed(
    folder_config: DataConfig, write_video, noise, caplog
) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "a.mkv", noise(30))
    config = replace(folder_config, image_ratio=0.5)
    assert files_of(load_data(config, progress=False).images) == {"a.mkv"}

    write_pictures(root, noise, "0.png")
    assert files_of(load_data(config, progress=False).images) == {"a.mkv", "0.png"}

    (root / "0.png").write_text("no picture any more")
    assert files_of(load_data(config, progress=False).images) == {"a.mkv"}
    assert "1 of 2 files" in caplog.text


def test_held_out_clips_are_videos_where_images_stand_beside_them(
    folder_config: DataConfig, write_video, noise
) -> None:
    write_video(Path(folder_config.sources[0], "small.mkv"), noise(7))
    write_pictures(Path(folder_config.sources[0]), noise, "0.png", "1.png")

    with pytest.raises(ValueError, match=r"found 7 frames in 1 files.* at least 8 frames"):
        load_data(replace(folder_config, image_ratio=0.5), progress=False)


def test_images_of_the_shipped_clips_keep_off_what_is_held_out(shipped_config: DataConfig, shipped: VideoData) -> None:
    data = load_data(replace(shipped_config, image_ratio=0.5), progress=False)
    as_images = load_data(replace(shipped_config, num_frames=1), progress=False)

    assert data.images is not None
    assert windows(data.images) == windows(as_images.train)
    assert windows(data.train) == windows(shipped.train)
    assert torch.equal(every(data.images).video(3), every(as_images.train).video(3))


def test_shapes_have_images_too() -> None:
    data = load_data(DataConfig(path="shapes", resolution=16, num_frames=5, image_ratio=0.5), progress=False)

    assert data.images is not None
    assert len(data.images) == len(data.train)
    assert every(data.images).video(0).shape == (3, 1, 16, 16)


@pytest.mark.parametrize("source", ["shapes", "arcade", "leaves"])
def test_more_drawn_clips_begin_with_the_same_ones_and_leave_the_held_out_ones_alone(source: str) -> None:
    few, many = (
        load_data(DataConfig(path=source, resolution=16, num_frames=5, drawn_clips=number), progress=False)
        for number in (10, 5000)
    )

    assert (len(few.train), len(many.train)) == (10, 5000)
    some, all_clips = every(few.train), every(many.train)
    assert torch.equal(some.video(9), all_clips.video(9))
    assert not torch.equal(all_clips.video(4999), all_clips.video(4999 - 4096))
    assert torch.equal(few.heldout.video(255), many.heldout.video(255))
    assert few.fingerprint != many.fingerprint


def test_the_fingerprint_does_not_know_the_default_number_of_drawn_clips() -> None:
    """Runs and tables of codes from before there was such a field remain valid."""
    before = "19fea378ef2f3ba55bc6969c1b9cacb3abcaafc89c4379fe4efd6c13b15ed049"
    assert load_data(DataConfig(path="arcade")).fingerprint == before


def test_each_label_needs_a_drawn_clip() -> None:
    with pytest.raises(ValueError, match="drawn_clips must be at least 8, the number of labels of arcade, got 7"):
        load_data(DataConfig(path="arcade", drawn_clips=7))


def test_the_fingerprint_knows_of_images_where_there_are_any(folder_config: DataConfig, write_video, noise) -> None:
    root = Path(folder_config.sources[0])
    write_video(root / "a.mkv", noise(30))

    def fingerprint(**changes) -> str:
        return load_data(replace(folder_config, **changes), progress=False).fingerprint

    before = [fingerprint(), fingerprint(image_ratio=0.5), fingerprint(image_ratio=0.25), fingerprint(num_frames=1)]
    write_pictures(root, noise, "0.png", "1.png")
    after = [fingerprint(), fingerprint(image_ratio=0.5), fingerprint(image_ratio=0.25), fingerprint(num_frames=1)]

    assert len(set(before)) == 4
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, False]


def test_data_without_images_are_what_they_were_before_there_were_any() -> None:
    data = load_data(DataConfig(path="shapes"), progress=False)

    assert data.fingerprint == "731b7c82cb5c9422981384c38f58fde56c7c78b282ddfb2ba3b527222700def2"

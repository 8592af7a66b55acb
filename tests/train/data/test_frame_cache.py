import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magvit2_pytorch.train.data import frame_cache
from magvit2_pytorch.train.data.files import OnDisk, VideoFile
from magvit2_pytorch.train.data.folder import find_in_folder
from magvit2_pytorch.train.data.frame_cache import find_stored, store_video, store_videos
from magvit2_pytorch.train.data.windows import Timeline


def store(videos: Path, cache: Path, resolution: int = 12) -> dict[str, frame_cache.StoredVideo]:
    return store_videos(find_in_folder(videos).videos, resolution, cache, progress=False).videos


def file_at(path: Path) -> VideoFile:
    return VideoFile(OnDisk(path), path.name, "label", "digest")


def times_of_change(cache: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(cache.rglob("*")) if path.is_file()}


def test_any_frames_are_read_back_as_they_were(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    monkeypatch.setattr(frame_cache, "FRAMES_PER_SHARD", 4)
    frames = noise(14)
    write_video(tmp_path / "in/a.mkv", frames)

    video = store(tmp_path / "in", tmp_path / "cache")["a.mkv"]

    assert sorted(path.name for path in video.folder.glob("frames-*")) == [
        f"frames-000{shard}.npy" for shard in range(4)
    ]
    for first, num_frames, stride in [(0, 14, 1), (3, 2, 1), (2, 4, 3), (0, 2, 13), (13, 1, 1), (1, 3, 5)]:
        expected = frames[first : first + num_frames * stride : stride]
        assert np.array_equal(video.frames(first, num_frames, stride), expected)
    assert np.array_equal(video.moments[:, 1], np.square(frames.astype(np.int64)).sum(axis=(1, 2, 3)))


def test_frames_are_read_from_the_disk_and_not_carried_to_workers(tmp_path: Path, write_video, noise) -> None:
    write_video(tmp_path / "in/a.mkv", noise(200))
    video = store(tmp_path / "in", tmp_path / "cache")["a.mkv"]

    carried = pickle.dumps(video)

    assert len(carried) < 2000
    assert np.array_equal(pickle.loads(carried).frames(7, 3, 1), video.frames(7, 3, 1))
    assert isinstance(frame_cache.open_shard(video.folder / "frames-0000.npy"), np.memmap)


def test_decoded_frames_are_used_again(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")
    before = times_of_change(tmp_path / "cache")

    monkeypatch.delattr(frame_cache, "open_frames")
    second = store(tmp_path / "in", tmp_path / "cache")

    assert second == first
    assert len(before) == 3
    assert times_of_change(tmp_path / "cache") == before


def test_a_changed_file_is_decoded_again_and_the_others_are_not(tmp_path: Path, write_video, noise) -> None:
    for name in "ab":
        write_video(tmp_path / f"in/{name}.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")

    write_video(tmp_path / "in/a.mkv", noise(9, seed=1))
    second = store(tmp_path / "in", tmp_path / "cache")

    assert second["b.mkv"] == first["b.mkv"]
    assert np.array_equal(second["a.mkv"].frames(0, 9, 1), noise(9, seed=1))


def test_a_file_is_known_by_name_and_content_wherever_it_is(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")

    (tmp_path / "in").rename(tmp_path / "moved")
    os.utime(tmp_path / "moved/a.mkv", ns=(1, 1))
    monkeypatch.delattr(frame_cache, "open_frames")

    assert store(tmp_path / "moved", tmp_path / "cache") == first


def test_a_file_of_the_same_size_and_time_with_other_content_is_decoded_again(
    tmp_path: Path, write_video, noise
) -> None:
    path = write_video(tmp_path / "in/a.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")
    time = path.stat().st_mtime_ns

    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(time, time))

    assert store(tmp_path / "in", tmp_path / "cache")["a.mkv"].folder != first["a.mkv"].folder


def test_another_resolution_or_format_is_stored_apart(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    folders = [store(tmp_path / "in", tmp_path / "cache", resolution)["a.mkv"].folder for resolution in (12, 8)]
    monkeypatch.setattr(frame_cache, "FORMAT_VERSION", frame_cache.FORMAT_VERSION + 1)
    folders.append(store(tmp_path / "in", tmp_path / "cache")["a.mkv"].folder)

    assert len(set(folders)) == 3


@pytest.mark.parametrize("part", ["meta.json", "moments.npy", "frames-0000.npy"])
def test_an_incomplete_entry_is_built_again(tmp_path: Path, write_video, noise, part: str) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    video = store(tmp_path / "in", tmp_path / "cache")["a.mkv"]
    (video.folder / part).unlink()

    assert store(tmp_path / "in", tmp_path / "cache") == {"a.mkv": video}
    assert (video.folder / part).is_file()


def test_several_builders_at_once_leave_one_whole_entry(tmp_path: Path, write_video, noise) -> None:
    path = write_video(tmp_path / "a.mkv", noise(40))
    entry = tmp_path / "cache/entry"

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda _: store_video(file_at(path), entry, 12), range(8)))

    assert [folder.name for folder in entry.parent.iterdir()] == ["entry"]
    stored = find_stored(entry)
    assert stored is not None
    assert np.array_equal(stored.frames(0, 40, 1), noise(40))


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    path = write_video(tmp_path / "a.mkv", noise(6))

    def interrupt(thumbnails: np.ndarray) -> list[int]:
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_cache, "find_cuts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store_video(file_at(path), tmp_path / "cache/entry", 12)

    assert list((tmp_path / "cache").iterdir()) == []


def test_what_cannot_be_decoded_is_named_and_skipped(tmp_path: Path, write_video, noise) -> None:
    write_video(tmp_path / "in/good.mkv", noise(6))
    (tmp_path / "in/broken.mp4").write_bytes(b"broken" * 100)
    (tmp_path / "in/nowhere.mp4").symlink_to(tmp_path / "deleted.mp4")
    os.mkfifo(tmp_path / "in/pipe.mp4")

    stored, skipped = store_videos(find_in_folder(tmp_path / "in").videos, 12, tmp_path / "cache", progress=False)

    assert list(stored) == ["good.mkv"]
    assert [(one.name, one.kind) for one in skipped] == [
        (name, "unreadable") for name in ("broken.mp4", "nowhere.mp4", "pipe.mp4")
    ]
    assert "Invalid data" in skipped[0].reason
    assert "No such file" in skipped[1].reason
    assert "not a regular file" in skipped[2].reason


def test_what_is_left_of_a_damaged_file_is_kept_and_said_at_every_start(
    tmp_path: Path, write_video, noise, caplog
) -> None:
    path = write_video(tmp_path / "in/a.mov", noise(10), "png", "rgb24")
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"IHDR"]
    content[places[6] : places[6] + 12] = bytes(12)
    path.write_bytes(content)

    for _ in range(2):
        caplog.clear()
        stored = store(tmp_path / "in", tmp_path / "cache")

        assert np.array_equal(stored["a.mov"].frames(0, 9, 1), np.delete(noise(10), 6, axis=0))
        assert stored["a.mov"].timeline == Timeline(9, (6,))
        assert "9 of 10 frames can be read" in caplog.text
        assert json.loads((stored["a.mov"].folder / "meta.json").read_text())["num_frames"] == 9


def test_pictures_are_stored_like_videos_of_one_frame(tmp_path: Path, noise, monkeypatch) -> None:
    (tmp_path / "in").mkdir()
    frames = {f"{seed}.png": noise(1, height=12, width=20, seed=seed) for seed in range(3)}
    for name, (pixels,) in frames.items():
        Image.fromarray(pixels).save(tmp_path / "in" / name)

    def stored() -> dict[str, frame_cache.StoredVideo]:
        return store_videos(find_in_folder(tmp_path / "in").pictures, 12, tmp_path / "cache", progress=False).videos

    pictures = stored()
    assert {name: picture.timeline for name, picture in pictures.items()} == dict.fromkeys(frames, Timeline(1, ()))
    assert all(np.array_equal(pictures[name].frames(0, 1, 1), frames[name]) for name in frames)

    monkeypatch.delattr(frame_cache, "open_frames")
    assert stored() == pictures


def test_a_tiny_picture_is_blown_up_and_a_strip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("dot", (1, 1)), ("panorama", (64, 2)), ("strip", (2, 65))):
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / f"in/{name}.png")

    pictures, skipped = store_videos(find_in_folder(tmp_path / "in").pictures, 12, tmp_path / "cache", progress=False)

    assert np.array_equal(pictures["dot.png"].frames(0, 1, 1), np.full((1, 12, 12, 3), (10, 20, 30)))
    assert pictures["panorama.png"].frames(0, 1, 1).shape == (1, 12, 384, 3)
    assert [one.name for one in skipped] == ["strip.png"]
    assert skipped[0].reason.startswith("2 x 65 pixels: one side is more than 32 times")
    assert len(pictures) == 2


def test_nothing_is_written_where_nothing_is_stored(tmp_path: Path, write_video, noise) -> None:
    """So that a read-only cache that has all readable files does its work."""
    write_video(tmp_path / "in/good.mkv", noise(6))
    stored = store(tmp_path / "in", tmp_path / "cache")
    (tmp_path / "in/broken.mp4").write_bytes(b"broken" * 100)
    Image.new("RGB", (2, 65)).save(tmp_path / "in/strip.gif")
    before = (tmp_path / "cache").stat().st_mtime_ns

    assert store(tmp_path / "in", tmp_path / "cache") == stored
    assert (tmp_path / "cache").stat().st_mtime_ns == before

    (tmp_path / "in/good.mkv").unlink()
    assert store(tmp_path / "in", tmp_path / "another") == {}
    assert not (tmp_path / "another").exists()


def test_a_cache_that_cannot_be_written_is_named_with_the_ways_to_choose_another(
    tmp_path: Path, write_video, noise
) -> None:
    write_video(tmp_path / "in/good.mkv", noise(6))
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match=r"cache in .*/file/cache cannot be used: .*--data\.cache-dir .*MAGVIT2_CACHE"):
        store(tmp_path / "in", tmp_path / "file/cache")


def test_the_bar_can_be_turned_off(tmp_path: Path, write_video, noise, capfd) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    videos = find_in_folder(tmp_path / "in").videos

    store_videos(videos, 12, tmp_path / "quiet", progress=False)
    assert capfd.readouterr().err == ""

    store_videos(videos, 12, tmp_path / "cache", progress=True)
    assert "frames=6" in capfd.readouterr().err

    store_videos(videos, 12, tmp_path / "cache", progress=True)
    assert capfd.readouterr().err == ""

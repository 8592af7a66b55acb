"""The cache of decoded frames: what is stored, what is decoded again, and several processes at once."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magvit2_pytorch.train.data.cache import decoded_frames, frame_cache, shards
from magvit2_pytorch.train.data.cache.frame_cache import (
    Job,
    StoredFiles,
    decoding_processes,
    find_stored,
    missing_groups,
    store_videos,
    take_jobs,
)
from magvit2_pytorch.train.data.cache.shards import CacheKind, Shard
from magvit2_pytorch.train.data.cache.stored_videos import DamagedCacheError, StoredVideo, StoredVideos
from magvit2_pytorch.train.data.sources.files import FileTable
from magvit2_pytorch.train.data.sources.folder import find_in_folder


def store(videos: Path, cache: Path, resolution: int = 12, kind: CacheKind = "raw") -> dict[str, StoredVideo]:
    return by_name(store_videos(find_in_folder(videos).videos, resolution, cache, kind=kind, progress=False))


def by_name(stored: StoredFiles) -> dict[str, StoredVideo]:
    return {video.name: video for video in stored.videos}


def cuts_of(videos: StoredVideos) -> dict[str, list[int]]:
    ends = np.cumsum(videos.num_cuts)
    pieces = np.split(videos.cuts, ends[:-1])
    return {video.name: piece.tolist() for video, piece in zip(videos, pieces, strict=True)}


def files_in(cache: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of every file."""
    return {
        str(path.relative_to(cache)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(cache.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        monkeypatch.setattr(decoded_frames, "open_frames", lambda path: pytest.fail(f"{path} is decoded again"))

    return forbid


@pytest.mark.parametrize("kind", ["raw", "none"])
def test_any_frames_are_read_back_as_they_were(tmp_path: Path, write_video, noise, kind: CacheKind) -> None:
    frames = noise(14)
    write_video(tmp_path / "in/a.mkv", frames)
    write_video(tmp_path / "in/b.mkv", noise(9, seed=1))

    video = store(tmp_path / "in", tmp_path / "cache", kind=kind)["a.mkv"]

    for first, num_frames, stride in [(0, 14, 1), (3, 2, 1), (2, 4, 3), (0, 2, 13), (13, 1, 1), (1, 3, 5)]:
        expected = frames[first : first + num_frames * stride : stride]
        assert np.array_equal(video.frames(first, num_frames, stride), expected)
    assert np.array_equal(video.moments[:, 1], np.square(frames.astype(np.int64)).sum(axis=(1, 2, 3)))


def test_a_file_that_changes_while_it_is_decoded_at_each_use_is_named(tmp_path: Path, write_video, noise) -> None:
    path = write_video(tmp_path / "in/a.mkv", noise(14))
    video = store(tmp_path / "in", tmp_path / "cache", kind="none")["a.mkv"]

    write_video(path, noise(15, seed=1))
    with pytest.raises(DamagedCacheError, match=r"a\.mkv has changed since the data was loaded"):
        video.frames(0, 3, 1)
    path.unlink()
    with pytest.raises(DamagedCacheError, match=r"a\.mkv cannot be read any more"):
        video.frames(0, 3, 1)


def test_compressed_frames_are_small_and_close(tmp_path: Path, shipped_frames: np.ndarray, write_video) -> None:
    write_video(tmp_path / "in/a.mkv", shipped_frames)
    raw, compressed = (store(tmp_path / "in", tmp_path / kind, 128, kind)["a.mkv"] for kind in ("raw", "compressed"))

    frames, expected = (video.frames(3, 5, 2) for video in (compressed, raw))

    error = np.square(frames.astype(float) - expected).mean()
    assert 10 * np.log10(255**2 / error) > 38
    sizes = [(tmp_path / kind) for kind in ("compressed", "raw")]
    num_bytes = [sum(path.stat().st_size for path in folder.rglob("*.frames")) for folder in sizes]
    assert num_bytes[0] < num_bytes[1] / 8
    assert np.array_equal(compressed.moments[3:13:2, 0], frames.sum(axis=(1, 2, 3), dtype=np.int64))


@pytest.fixture(scope="module")
def shipped_frames() -> np.ndarray:
    from magvit2_pytorch.train.data.shipped import CLIPS_DIR

    frames = decoded_frames.DecodedFrames(CLIPS_DIR / "big_buck_bunny.mp4", 128)
    return np.stack(list(islice(frames, 300, 330)))


def test_frames_are_read_from_the_disk_and_not_carried_to_workers(tmp_path: Path, write_video, noise) -> None:
    write_video(tmp_path / "in/a.mkv", noise(200))
    video = store(tmp_path / "in", tmp_path / "cache")["a.mkv"]

    carried = pickle.dumps(video)

    assert len(carried) < 2000
    assert np.array_equal(pickle.loads(carried).frames(7, 3, 1), video.frames(7, 3, 1))
    assert isinstance(shards.open_frames_file(video.shard.frames_path), np.memmap)


def test_many_files_are_in_one_shard(tmp_path: Path, write_video, noise) -> None:
    for number in range(30):
        write_video(tmp_path / f"in/{number}.mkv", noise(3, seed=number))

    stored = store(tmp_path / "in", tmp_path / "cache")

    assert len(stored) == 30
    assert len({video.shard for video in stored.values()}) < 8
    assert sorted(path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()) == sorted(
        [".frames", ".index"] * len({video.shard for video in stored.values()})
    )
    assert all(np.array_equal(stored[f"{number}.mkv"].frames(0, 3, 1), noise(3, seed=number)) for number in range(30))


def test_files_of_many_shards_come_in_order_with_their_own_facts(
    tmp_path: Path, write_video, noise, monkeypatch
) -> None:
    monkeypatch.setattr(frame_cache, "SMALLEST_GROUP", 1)  # a shard for each file
    monkeypatch.setattr(frame_cache, "GROUPS", 10**9)
    monkeypatch.setattr(frame_cache, "MAPPED_TABLES", 3)
    for number in range(8):
        frames = [noise(4 + number, seed=10 * number), noise(9, seed=10 * number + 1)][: 1 + number % 2]
        write_video(tmp_path / f"in/{number}.mkv", np.concatenate(frames))
    files = find_in_folder(tmp_path / "in").videos

    videos = store_videos(files[::-1], 12, tmp_path / "cache", progress=False).videos

    assert len({video.shard for video in videos}) == 8
    assert [video.name for video in videos] == [f"{number}.mkv" for number in reversed(range(8))]
    assert videos.num_frames.tolist() == [4 + number + 9 * (number % 2) for number in reversed(range(8))]
    assert cuts_of(videos) == {f"{number}.mkv": [4 + number] * (number % 2) for number in range(8)}
    assert videos.seconds.tolist() == pytest.approx([(frames - 1) / 25 for frames in videos.num_frames])
    for number, video in zip(reversed(range(8)), videos, strict=True):
        assert np.array_equal(video.frames(0, 4 + number, 1), noise(4 + number, seed=10 * number))
    chosen = videos.select(np.arange(8) % 3 == 0)  # files 7, 4 and 1
    assert [*chosen] == [videos[0], videos[3], videos[6]]
    assert cuts_of(chosen) == {"7.mkv": [11], "4.mkv": [], "1.mkv": [5]}
    assert [values.tolist() for values in (chosen.shots.file, chosen.shots.start, chosen.shots.stop)] == [
        [0, 0, 1, 2, 2],
        [0, 11, 0, 0, 5],
        [11, 20, 8, 5, 14],
    ]
    assert chosen.seconds.tolist() == videos.seconds[[0, 3, 6]].tolist()


def test_a_file_that_is_listed_twice_is_decoded_once(tmp_path: Path, write_video, noise) -> None:
    for name in "ab":
        write_video(tmp_path / f"in/{name}.mkv", noise(6, seed=ord(name)))
    (first, second) = find_in_folder(tmp_path / "in").videos

    videos = store_videos(FileTable([second, first, second]), 12, tmp_path / "cache", progress=False).videos

    assert [video.name for video in videos] == ["b.mkv", "a.mkv", "b.mkv"]
    assert videos[0] == videos[2]
    (index,) = (tmp_path / "cache").rglob("*.index")
    assert len(shards.open_index(index)) == 2


def test_decoded_frames_are_used_again(tmp_path: Path, write_video, noise, no_decoding) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    (tmp_path / "in/broken.mkv").write_bytes(b"broken")
    first = store_videos(find_in_folder(tmp_path / "in").videos, 12, tmp_path / "cache", progress=False)
    before = files_in(tmp_path / "cache")

    no_decoding()
    second = store_videos(find_in_folder(tmp_path / "in").videos, 12, tmp_path / "cache", progress=False)

    assert [*second.videos] == [*first.videos]
    assert second.videos.seconds.tolist() == first.videos.seconds.tolist() == [5 / 25]
    assert cuts_of(second.videos) == cuts_of(first.videos) == {"a.mkv": []}
    assert second.skipped == first.skipped
    assert [one.name for one in second.skipped] == ["broken.mkv"]
    assert files_in(tmp_path / "cache") == before


def test_a_changed_file_is_decoded_again_and_the_others_are_not(tmp_path: Path, write_video, noise) -> None:
    for name in "ab":
        write_video(tmp_path / f"in/{name}.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")

    write_video(tmp_path / "in/a.mkv", noise(9, seed=1))
    second = store(tmp_path / "in", tmp_path / "cache")

    assert second["b.mkv"] == first["b.mkv"]
    assert np.array_equal(second["a.mkv"].frames(0, 9, 1), noise(9, seed=1))


def test_a_file_is_known_by_name_and_content_wherever_it_is(tmp_path: Path, write_video, noise, no_decoding) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")

    (tmp_path / "in").rename(tmp_path / "moved")
    os.utime(tmp_path / "moved/a.mkv", ns=(1, 1))
    no_decoding()

    assert store(tmp_path / "moved", tmp_path / "cache") == first


def test_a_file_of_the_same_size_and_time_with_other_content_is_decoded_again(
    tmp_path: Path, write_video, noise
) -> None:
    path = write_video(tmp_path / "in/a.mkv", noise(6))
    first = store(tmp_path / "in", tmp_path / "cache")
    time = path.stat().st_mtime_ns

    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(time, time))

    assert store(tmp_path / "in", tmp_path / "cache")["a.mkv"].shard != first["a.mkv"].shard


def test_another_resolution_rate_kind_or_format_is_stored_apart(
    tmp_path: Path, write_video, noise, monkeypatch
) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    files = find_in_folder(tmp_path / "in").videos

    def folder(resolution: int = 12, fps: float | None = None, kind: CacheKind = "raw") -> Path:
        stored = store_videos(files, resolution, tmp_path / "cache", fps=fps, kind=kind, progress=False)
        return by_name(stored)["a.mkv"].shard.path

    folders = [folder(), folder(8), folder(fps=5.0), folder(kind="compressed")]
    monkeypatch.setattr(frame_cache, "FORMAT_VERSION", frame_cache.FORMAT_VERSION + 1)
    folders.append(folder())

    assert len(set(folders)) == 5


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("ending", [".index", ".frames"])
@pytest.mark.parametrize("damage", [cut, flip, empty, lengthen, Path.unlink])
def test_a_damaged_shard_is_named_and_made_again(
    tmp_path: Path, write_video, noise, caplog, damage: Callable[[Path], None], ending: str
) -> None:
    for number in range(3):
        write_video(tmp_path / f"in/{number}.mkv", noise(6, seed=number))
    stored = store(tmp_path / "in", tmp_path / "cache")
    before = files_in(tmp_path / "cache")
    path = next((tmp_path / "cache").rglob(f"*{ending}"))
    damage(path)
    shards.open_index.cache_clear()  # as in a new process
    shards.open_frames_file.cache_clear()

    assert store(tmp_path / "in", tmp_path / "cache") == stored

    assert {name: content for name, (_, content) in files_in(tmp_path / "cache").items()} == {
        name: content for name, (_, content) in before.items()
    }
    assert (str(path) in caplog.text) == (damage is not Path.unlink or ending == ".frames")
    assert np.array_equal(stored["1.mkv"].frames(0, 6, 1), noise(6, seed=1))


def test_damage_that_comes_later_is_found_when_frames_are_used(tmp_path: Path, write_video, noise) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    video = store(tmp_path / "in", tmp_path / "cache")["a.mkv"]
    with video.shard.frames_path.open("r+b") as file:
        file.seek(12 * 12 * 3 * 2 + 5)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))

    assert np.array_equal(video.frames(0, 2, 1), noise(6)[:2])
    with pytest.raises(DamagedCacheError, match=r"\.frames is damaged; it was deleted, start again"):
        video.frames(0, 3, 1)
    assert np.array_equal(store(tmp_path / "in", tmp_path / "cache")["a.mkv"].frames(0, 6, 1), noise(6))


@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
def test_an_index_that_is_cut_off_or_lost_later_is_found_when_frames_are_used(
    tmp_path: Path, write_video, noise, damage: Callable[[Path], None]
) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))
    video = store(tmp_path / "in", tmp_path / "cache")["a.mkv"]
    shards.open_index.cache_clear()  # as in a new process, which opens it only now
    damage(video.shard.index_path)

    with pytest.raises(DamagedCacheError, match=r"\.index.*; it was deleted, start again"):
        video.frames(0, 3, 1)
    assert np.array_equal(store(tmp_path / "in", tmp_path / "cache")["a.mkv"].frames(0, 6, 1), noise(6))


def test_the_groups_do_not_depend_on_what_is_found(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"{number:03d}.mkv").write_bytes(bytes([number % 256]) * (997 * number % 60_000))
    files = find_in_folder(tmp_path).videos
    groups = list(missing_groups(files, ()))
    assert [file for group in groups for file in group] == [*files]
    assert 20 < len(groups) < 100

    done = [groups[place] for place in range(0, len(groups), 3)]
    found = [file.identity for group in done for file in group]

    left = [[*group] for group in groups if group not in done]
    assert len(left) == len(groups) - len(done)
    assert [[*group] for group in missing_groups(files, found)] == left


def test_several_takers_at_once_decode_each_file_once(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    for number in range(12):
        write_video(tmp_path / f"in/{number}.mkv", noise(20, seed=number))
    decoded = []
    original = shards.DecodedFrames

    def counted(path: Path, *arguments, **settings) -> decoded_frames.DecodedFrames:
        decoded.append(path.name)
        return original(path, *arguments, **settings)

    monkeypatch.setattr(shards, "DecodedFrames", counted)
    files = find_in_folder(tmp_path / "in").videos
    jobs = [Job(Shard(tmp_path / f"cache/{number}", "raw"), files[number::4], 12, None) for number in range(4)]

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda _: take_jobs(jobs), range(4)))

    assert sorted(decoded) == sorted(file.name for file in files)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".frames"] * 4 + [".index"] * 4
    assert {file.identity for file in files} == find_stored(tmp_path / "cache", "raw").identities()


KILLED = """
import os
import signal
import sys
from pathlib import Path

from magvit2_pytorch.train.data.cache import shards
from magvit2_pytorch.train.data.sources.folder import find_in_folder
from magvit2_pytorch.train.data.cache.frame_cache import store_videos

write, left = shards.FrameWriter.write, int(sys.argv[3])


def killed(self, *arguments):
    global left
    row = write(self, *arguments)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return row


shards.FrameWriter.write = killed
store_videos(find_in_folder(Path(sys.argv[1])).videos, 12, Path(sys.argv[2]), progress=False)
"""
"""Decodes a folder and is killed in the middle of a shard, after some files."""


def test_a_killed_process_leaves_its_shard_to_the_next_one(tmp_path: Path, write_video, noise) -> None:
    for number in range(12):
        write_video(tmp_path / f"in/{number}.mkv", noise(200, seed=number))
    undisturbed = decoded_into(tmp_path / "whole", tmp_path / "in")
    assert len(undisturbed) > 4
    (tmp_path / "killed.py").write_text(KILLED)

    for num_files in (4, 2, 5):
        finished = files_in(tmp_path / "cache")
        command = [sys.executable, tmp_path / "killed.py", tmp_path / "in", tmp_path / "cache", str(num_files)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        now = files_in(tmp_path / "cache")
        complete = {name for name in finished if name.endswith(".index")}
        assert all(now[name] == finished[name] for name in complete)  # not written twice

    assert decoded_into(tmp_path / "cache", tmp_path / "in") == undisturbed


def decoded_into(cache: Path, videos: Path) -> dict[str, bytes]:
    """The files of the cache after all is decoded."""
    store(videos, cache)
    return {name: content for name, (_, content) in files_in(cache).items()}


def test_other_processes_take_jobs_and_end_with_this_one(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    for number in range(6):
        write_video(tmp_path / f"in/{number}.mkv", noise(30, seed=number))
    files = find_in_folder(tmp_path / "in").videos
    jobs = [Job(Shard(tmp_path / f"cache/{number}", "raw"), files[number::3], 12, None) for number in range(3)]
    started, original = [], subprocess.Popen

    def start(*arguments, **settings) -> subprocess.Popen:
        started.append(original(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)

    with decoding_processes(jobs, 2):
        end = time.monotonic() + 120
        while not all(job.shard.index_path.is_file() for job in jobs):
            assert time.monotonic() < end
            os.sched_yield()

    assert [process.returncode for process in started] == [0, 0]
    assert {file.identity for file in files} == find_stored(tmp_path / "cache", "raw").identities()


def test_large_sets_are_decoded_in_as_many_processes_as_there_are_cores(
    tmp_path: Path, write_video, noise, monkeypatch
) -> None:
    for number in range(4):
        write_video(tmp_path / f"in/{number}.mkv", noise(3, seed=number))
    asked = []

    @contextmanager
    def nothing(jobs: list[Job], number: int) -> Iterator[None]:
        asked.append(number)
        yield

    monkeypatch.setattr(frame_cache, "decoding_processes", nothing)
    monkeypatch.setattr(frame_cache, "SMALLEST_GROUP", 1)
    monkeypatch.setattr(frame_cache, "available_cores", lambda: 8)
    for threshold in (2**25, 1):
        monkeypatch.setattr(frame_cache, "WORTH_A_PROCESS", threshold)
        assert len(store(tmp_path / "in", tmp_path / f"{threshold}")) == 4

    assert asked == [0, 3]


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, write_video, noise, monkeypatch) -> None:
    write_video(tmp_path / "in/a.mkv", noise(6))

    def interrupt(thumbnails: np.ndarray) -> list[int]:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoded_frames, "find_cuts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "in", tmp_path / "cache")

    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} <= {".lock"}


def test_what_cannot_be_decoded_is_named_and_skipped(tmp_path: Path, write_video, noise) -> None:
    write_video(tmp_path / "in/good.mkv", noise(6))
    (tmp_path / "in/broken.mp4").write_bytes(b"broken" * 100)
    (tmp_path / "in/nowhere.mp4").symlink_to(tmp_path / "deleted.mp4")
    os.mkfifo(tmp_path / "in/pipe.mp4")

    stored, skipped = store_videos(find_in_folder(tmp_path / "in").videos, 12, tmp_path / "cache", progress=False)

    assert [video.name for video in stored] == ["good.mkv"]
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
        files = find_in_folder(tmp_path / "in").videos
        videos, _ = store_videos(files, 12, tmp_path / "cache", progress=False)

        assert np.array_equal(videos[0].frames(0, 9, 1), np.delete(noise(10), 6, axis=0))
        assert (videos[0].num_frames, cuts_of(videos)) == (9, {"a.mov": [6]})
        assert "9 of 10 frames can be read" in caplog.text


def test_pictures_are_stored_like_videos_of_one_frame(tmp_path: Path, noise, no_decoding) -> None:
    (tmp_path / "in").mkdir()
    frames = {f"{seed}.png": noise(1, height=12, width=20, seed=seed) for seed in range(3)}
    for name, (pixels,) in frames.items():
        Image.fromarray(pixels).save(tmp_path / "in" / name)

    def stored() -> StoredVideos:
        return store_videos(find_in_folder(tmp_path / "in").pictures, 12, tmp_path / "cache", progress=False).videos

    pictures = stored()
    assert {picture.name: picture.num_frames for picture in pictures} == dict.fromkeys(frames, 1)
    assert cuts_of(pictures) == {name: [] for name in frames}
    assert all(np.array_equal(picture.frames(0, 1, 1), frames[picture.name]) for picture in pictures)

    no_decoding()
    assert [*stored()] == [*pictures]


def test_a_tiny_picture_is_blown_up_and_a_strip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("dot", (1, 1)), ("panorama", (64, 2)), ("strip", (2, 65))):
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / f"in/{name}.png")

    stored = store_videos(find_in_folder(tmp_path / "in").pictures, 12, tmp_path / "cache", progress=False)
    pictures, skipped = by_name(stored), stored.skipped

    assert np.array_equal(pictures["dot.png"].frames(0, 1, 1), np.full((1, 12, 12, 3), (10, 20, 30)))
    assert pictures["panorama.png"].frames(0, 1, 1).shape == (1, 12, 384, 3)
    assert [one.name for one in skipped] == ["strip.png"]
    assert skipped[0].reason.startswith("2 x 65 pixels: one side is more than 32 times")
    assert len(pictures) == 2


def test_nothing_is_written_where_nothing_is_missing(tmp_path: Path, write_video, noise) -> None:
    """So that a read-only cache that has all files does its work."""
    write_video(tmp_path / "in/good.mkv", noise(6))
    (tmp_path / "in/broken.mp4").write_bytes(b"broken" * 100)
    stored = store(tmp_path / "in", tmp_path / "cache")
    (tmp_path / "in/nowhere.mp4").symlink_to(tmp_path / "deleted.mp4")
    before = files_in(tmp_path / "cache")
    for folder in (tmp_path / "cache", *(tmp_path / "cache").iterdir()):
        folder.chmod(0o555)

    assert store(tmp_path / "in", tmp_path / "cache") == stored

    assert files_in(tmp_path / "cache") == before
    for folder in ((tmp_path / "cache"), *(tmp_path / "cache").iterdir()):
        folder.chmod(0o755)


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

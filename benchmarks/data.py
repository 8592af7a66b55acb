"""Size of the index of a large data set, and speed and size of the cache of frames and of encoding for stage two.

    python benchmarks/data.py                    # about ten minutes; exit status 1 if a bound is missed
    python benchmarks/data.py --parts index      # only some parts: index, decoding, cache, encoding, kills

Each measurement runs in a process of its own.

**index**: 400,000 made videos with 112 million frames in 4,000 shards, of which only the metadata exist. Rows: seconds
until the training and held-out windows are ready, from stored metadata; seconds until the places of the first batch are
known; memory that the process holds then; whether batches are equal for 0, 2 and 4 workers and for two processes
joined. The list of files is made too: to find 400,000 real files and to read their beginnings takes longer.

The other parts decode copies of the shipped clips, which have 128 pixels. Rows:

- **decoding**: frames per second of decoding into the cache on one core, relative to a plain loop that decodes with
  PyAV and scales with FFmpeg (bilinear; the cache stores area averages), both to 64 pixels; time of one process over
  that of two;
- **cache**: for each kind of cache, bytes per frame, random clips of 17 frames per second on two cores, PSNR to raw
  frames;
- **kills**: ten kills (SIGKILL) at random while decoding, and ten while encoding, each followed by a new start; whether
  the result is equal to that without kills, byte for byte, and whether no finished shard was written again;
- **encoding**: time of two processes that encode rows for stage two (tokenizer `tiny`) over that of one, and the peak
  memory of encoding 2,000 and 20,000 rows.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import torch
from measured import Measured
from torch import Tensor
from torch.utils.data import DataLoader

from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train import codes
from magvit2_pytorch.train.data import DataConfig, TrainingBatches, load_data
from magvit2_pytorch.train.data.cache.checked_table import write_table
from magvit2_pytorch.train.data.cache.frame_cache import folder_name, store_videos
from magvit2_pytorch.train.data.cache.shards import SCHEMA, CacheKind, Shard
from magvit2_pytorch.train.data.cache.stored_videos import StoredVideos
from magvit2_pytorch.train.data.loading import data_of, give_back_memory
from magvit2_pytorch.train.data.shipped import CLIPS_DIR
from magvit2_pytorch.train.data.sources.files import FileTable, FoundFiles, OnDisk, VideoFile
from magvit2_pytorch.train.data.sources.folder import find_in_folder
from magvit2_pytorch.train.data.sources.heldout import Split

NUM_SHARDS, VIDEOS_PER_SHARD, FRAMES_PER_VIDEO, NUM_LABELS = 4000, 100, 280, 400
SIZE = 128
COPIES = 4  # of each of the four clips
CLIP = 17  # frames
NUM_CLIPS = {"raw": 400, "compressed": 100, "none": 8}
BYTES_OF_MADE = 500_000
KILLS = 10  # while decoding, and while encoding
LONGEST_LIFE = 3.0  # seconds from the first change of a file to the kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], help="default: all")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        name, *options = arguments.step.split()
        print(json.dumps(STEPS[name](arguments.folder, *options)))
        return
    rows: list[Measured] = []
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as name:
            measured = PARTS[part](Path(name))
        for row in measured:
            print(row.line(), flush=True)
        rows += measured
    if not all(row.is_met for row in rows):
        sys.exit(1)


def run(step: str, folder: Path, *, cores: int = 1, together: int = 1) -> list[dict[str, Any]]:
    """Run a step in one or several processes at the same time, each limited to some cores."""
    command = [sys.executable, __file__, "--folder", str(folder), "--step", step]
    available = sorted(os.sched_getaffinity(0))
    chosen = [available[:cores]] if together == 1 else [[core] for core in available[:together]]
    processes = [
        subprocess.Popen(["taskset", "-c", ",".join(map(str, own)), *command], stdout=subprocess.PIPE, text=True)
        for own in chosen
    ]
    results = []
    for process in processes:
        output, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{step} failed")
        results.append(json.loads(output.splitlines()[-1]))
    return results


def measure_index(folder: Path) -> list[Measured]:
    run("make_index", folder)
    (seen,) = run("use_index", folder, cores=2)
    return [
        Measured(
            f"index of {seen['videos']:.0f} videos, {seen['frames']:.0f} frames: seconds", seen["seconds"], None, 30
        ),
        Measured("places of the first batch: seconds", seen["first"], None, 2),
        Measured("resident memory in MB", seen["resident"], None, 400),
        Measured("... of these after importing the package", seen["imported"]),
        Measured("... highest before", seen["peak"]),
        Measured("equal batches for 0, 2, 4 workers and two processes (1: yes)", seen["equal"], 1),
    ]


def measure_decoding(folder: Path) -> list[Measured]:
    make_videos(folder / "videos")
    ratios = []
    for number in range(3):
        (plain,) = run("plain", folder)
        (ours,) = run(f"decode one-{number} 64 raw", folder)
        ratios.append(ours["frames_per_second"] / plain["frames_per_second"])
    (one,) = run("decode alone 64 raw", folder)
    two = run("decode together 64 raw", folder, together=2)
    speedup = one["seconds"] / max(step["seconds"] for step in two)
    return [
        Measured("decoding into the cache over a plain loop, frames per second", float(np.median(ratios)), 0.8),
        Measured("decoding with two processes over one", speedup, 1.7),
    ]


def measure_cache(folder: Path) -> list[Measured]:
    make_videos(folder / "videos")
    rows: list[Measured] = []
    results = {kind: run(f"read cache-{kind} {SIZE} {kind}", folder, cores=2)[0] for kind in NUM_CLIPS}
    raw = results["raw"]["bytes_per_frame"]
    for kind, result in results.items():
        low = {"raw": 400.0, "compressed": 80.0}.get(kind)
        rows.append(Measured(f"{kind}: clips of {CLIP} frames per second", result["clips_per_second"], low))
        if kind != "none":
            rows.append(Measured(f"{kind}: bytes per frame", result["bytes_per_frame"]))
    compressed = results["compressed"]
    return [
        *rows,
        Measured("compressed: bytes over raw", compressed["bytes_per_frame"] / raw, None, 1 / 8),
        Measured("compressed: PSNR to raw frames, dB", compressed["psnr"], 38),
    ]


def measure_encoding(folder: Path) -> list[Measured]:
    make_videos(folder / "videos")
    run("prepare", folder)
    (few,) = run("encode few 2000", folder)
    two = run("encode together 2000", folder, together=2)
    (many,) = run("encode many 20000", folder, cores=2)
    return [
        Measured(
            "encoding: seconds of two processes over one", max(s["seconds"] for s in two) / few["seconds"], None, 0.6
        ),
        *(Measured(f"peak memory of encoding {seen['rows']} rows, MB", seen["peak"]) for seen in (few, many)),
    ]


def measure_kills(folder: Path) -> list[Measured]:
    make_videos(folder / "videos")
    run("decode whole 64 raw", folder, cores=2)
    run("prepare", folder)
    run("encode whole 600 40", folder, cores=2)
    rows = []
    for what, step, name, expected in (
        ("decoding", "decode killed 64 raw", "killed", "whole"),
        ("encoding", "encode killed 600 40", "codes-killed", "codes-whole"),
    ):
        numbers, num_kills, kept = np.random.default_rng(0), 0, {}
        is_intact = True
        while num_kills < KILLS:
            is_done = killed(step, folder, folder / name, seconds=numbers.uniform(0, LONGEST_LIFE))
            finished = finished_shards(folder / name)
            is_intact = is_intact and all(finished.get(path) == facts for path, facts in kept.items())
            kept = finished
            if is_done:
                shutil.rmtree(folder / name)
                kept = {}
            else:
                num_kills += 1
        run(step, folder, cores=2)
        finished = finished_shards(folder / name)
        is_intact = is_intact and all(finished.get(path) == facts for path, facts in kept.items())
        is_equal = contents(folder / name) == contents(folder / expected)
        rows += [
            Measured(f"{what}: kills at random", num_kills, KILLS),
            Measured(f"{what}: result equal to that without kills (1: yes)", float(is_equal), 1),
            Measured(f"{what}: no finished shard written again (1: yes)", float(is_intact), 1),
        ]
    return rows


def killed(step: str, folder: Path, output: Path, seconds: float) -> bool:
    """Kill a step with SIGKILL some seconds after it has begun to write. Return whether it ended before."""
    command = [sys.executable, __file__, "--folder", str(folder), "--step", step]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    before = {path.name: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    while process.poll() is None:
        now = {path.name: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
        if now != before:
            break
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return False


def finished_shards(folder: Path) -> dict[str, int]:
    """Return the time of change of every finished shard."""
    endings = (".index", ".arrow")
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in endings}


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file except locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


PARTS: dict[str, Callable[[Path], list[Measured]]] = {
    "index": measure_index,
    "decoding": measure_decoding,
    "cache": measure_cache,
    "encoding": measure_encoding,
    "kills": measure_kills,
}


def resident() -> float:
    """Return the memory that this process holds, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def made_files() -> FileTable:
    """Return files that do not exist."""
    files = FileTable()
    for number in range(NUM_SHARDS * VIDEOS_PER_SHARD):
        label = f"label {number % NUM_LABELS:03d}"
        name = f"{label}/{number:011x}_000000_000010.mp4"
        digest = f"{BYTES_OF_MADE} {number:032x}"
        files.append(VideoFile(OnDisk(f"/made/{name}"), name, label, digest, BYTES_OF_MADE))
    return files.in_order()


def make_index(folder: Path) -> dict[str, float]:
    """Write shards whose frames are holes in sparse files."""
    cache = DataConfig(cache_dir=str(folder)).frames_dir / folder_name(SIZE, None, "raw")
    numbers = np.random.default_rng(0)
    values_per_frame = 3 * SIZE**2
    bytes_per_video = FRAMES_PER_VIDEO * values_per_frame
    identities = made_files().identities.to_pylist()
    for shard in range(NUM_SHARDS):
        path = cache / f"{shard:032x}"
        means = numbers.integers(30, 220, (VIDEOS_PER_SHARD, FRAMES_PER_VIDEO))
        rows = {
            "identity": identities[shard * VIDEOS_PER_SHARD :][:VIDEOS_PER_SHARD],
            "problem": [None] * VIDEOS_PER_SHARD,
            "num_frames": [FRAMES_PER_VIDEO] * VIDEOS_PER_SHARD,
            "height": [SIZE] * VIDEOS_PER_SHARD,
            "width": [SIZE] * VIDEOS_PER_SHARD,
            "cuts": [[cut] * (cut > 60) for cut in numbers.integers(280, size=VIDEOS_PER_SHARD).tolist()],
            "damage": [None] * VIDEOS_PER_SHARD,
            "seconds": [10.0] * VIDEOS_PER_SHARD,
            "offsets": [[number * bytes_per_video] for number in range(VIDEOS_PER_SHARD)],
            "sums": [*(means * values_per_frame)],
            "squares": [*((means**2 + 40**2) * values_per_frame)],
        }
        facts = {"num_bytes": str(VIDEOS_PER_SHARD * bytes_per_video), "digest": ""}
        write_table(Shard(path, "raw").index_path, pa.table(rows, schema=SCHEMA.with_metadata(facts)))
        with Shard(path, "raw").frames_path.open("wb") as file:
            file.truncate(VIDEOS_PER_SHARD * bytes_per_video)
    return {}


class Places(TrainingBatches):
    """Batches of places instead of pixels."""

    def batch(self, index: int) -> dict[str, Tensor]:
        drawn = [self.drawn(position) for position in self.positions(index)]
        return {"windows": torch.tensor([[*window] for _, window, _ in drawn])}


def use_index(folder: Path) -> dict[str, float]:
    imported = resident()
    config = DataConfig(path="made", resolution=SIZE, cache="raw", cache_dir=str(folder))
    files = made_files()
    started = time.monotonic()
    data = data_of(Split(FoundFiles(files)), config, progress=False)
    del files
    give_back_memory()
    seconds = time.monotonic() - started
    places = partial(Places, data, seed=0)
    started = time.monotonic()
    first = places(batch_size=64).batch(0)["windows"]
    seen = {"seconds": seconds, "first": time.monotonic() - started, "resident": resident(), "peak": peak()}

    def loaded(num_workers: int) -> list[Tensor]:
        loader = DataLoader(places(batch_size=64), batch_size=None, num_workers=num_workers)
        return [batch["windows"] for batch in islice(loader, 6)]

    alone = loaded(0)
    halves = [places(batch_size=32, process_index=rank, num_processes=2) for rank in range(2)]
    joined = [torch.cat([half.batch(index)["windows"] for half in halves]) for index in range(6)]
    equal = torch.equal(first, alone[0]) and all(
        torch.equal(one, other)
        for others in (loaded(2), loaded(4), joined)
        for one, other in zip(alone, others, strict=True)
    )
    assert data.report is not None
    facts = {"videos": data.report.num_files, "frames": data.report.num_frames, "imported": imported}
    return seen | facts | {"equal": float(equal)}


def make_videos(folder: Path) -> None:
    for number in range(COPIES):
        for path in sorted(CLIPS_DIR.glob("*.mp4")):
            target = folder / path.stem / f"{number}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def plain(folder: Path) -> dict[str, float]:
    """Decode and scale every frame by PyAV."""
    started, num_frames = time.monotonic(), 0
    for path in sorted((folder / "videos").rglob("*.mp4")):
        with av.open(path) as container:
            container.streams.video[0].thread_type = "NONE"
            for frame in container.decode(video=0):
                frame.reformat(64, 64, "rgb24").to_ndarray()
                num_frames += 1
    return {"frames_per_second": num_frames / (time.monotonic() - started)}


def stored(folder: Path, cache: str, resolution: str, kind: str) -> StoredVideos:
    files = find_in_folder(folder / "videos").videos
    chosen: CacheKind = next(known for known in ("raw", "compressed", "none") if known == kind)
    return store_videos(files, int(resolution), folder / cache, kind=chosen, progress=False).videos


def decode(folder: Path, cache: str, resolution: str, kind: str) -> dict[str, float]:
    """Decode all files into the cache."""
    started = time.monotonic()
    videos = stored(folder, cache, resolution, kind)
    seconds = time.monotonic() - started
    return {"seconds": seconds, "frames_per_second": videos.num_frames.sum() / seconds}


def read(folder: Path, cache: str, resolution: str, kind: str) -> dict[str, float]:
    """Read random clips, in two processes."""
    videos = stored(folder, cache, resolution, kind)
    numbers = np.random.default_rng(0)
    chosen = [videos[number] for number in numbers.integers(len(videos), size=NUM_CLIPS[kind]).tolist()]
    places = [(video, int(numbers.integers(video.num_frames - CLIP))) for video in chosen]
    started = time.monotonic()
    half = os.fork() if len(os.sched_getaffinity(0)) > 1 else None  # half of the clips in another process
    for video, first in places if half is None else places[half == 0 :: 2]:
        video.frames(first, CLIP, 1)
    if half == 0:
        os._exit(0)
    if half is not None:
        os.waitpid(half, 0)
    seconds = time.monotonic() - started
    num_bytes = sum(path.stat().st_size for path in (folder / cache).rglob("*.frames"))
    result = {"clips_per_second": len(places) / seconds, "bytes_per_frame": num_bytes / int(videos.num_frames.sum())}
    if kind == "compressed":
        raw = stored(folder, "cache-raw", resolution, "raw")
        errors = [
            np.square(video.frames(100, 1, 1).astype(float) - original.frames(100, 1, 1)).mean()
            for video, original in zip(videos, raw, strict=True)
        ]
        result["psnr"] = 10 * np.log10(255**2 / np.mean(errors))
    return result


def config_of(folder: Path) -> DataConfig:
    return DataConfig(path=str(folder / "videos"), cache_dir=str(folder / "data"))


def prepare(folder: Path) -> dict[str, float]:
    """Decode the files, so that the other steps measure only the encoding."""
    return {"windows": len(load_data(config_of(folder), progress=False).train)}


def encode(folder: Path, cache: str, num_rows: str, rows_per_shard: str = "1024") -> dict[str, float]:
    """Encode about this number of rows."""
    codes.ROWS_PER_SHARD = int(rows_per_shard)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    data = load_data(config_of(folder), progress=False)
    tokenizer = VideoTokenizer.from_preset("tiny").eval()
    started = time.monotonic()
    passes = max(1, round(int(num_rows) / len(data.train)))
    table = codes.encoded(tokenizer, data, folder / f"codes-{cache}", passes=passes, progress=False)
    return {"seconds": time.monotonic() - started, "rows": len(table), "peak": peak()}


STEPS: dict[str, Callable[..., dict[str, float]]] = {
    step.__name__: step for step in (make_index, use_index, plain, decode, read, prepare, encode)
}

if __name__ == "__main__":
    main()

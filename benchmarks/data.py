"""Speed and size of the cache of frames, and speed and memory of encoding for stage two.

    python benchmarks/data.py             # some minutes; exit status 1 if a bound is missed

The videos are copies of the shipped clips, decoded at their own size of 128 pixels, and for the first row at 64 pixels,
so that frames are scaled. Each measurement runs in a process of its own. Rows:

- frames per second of decoding into the cache on one core, relative to a plain loop that decodes with PyAV and scales
  with FFmpeg (bilinear; the cache stores area averages);
- time of one decoding process over that of two;
- for each kind of cache: bytes per frame, random clips of 17 frames per second on two cores, PSNR to raw frames;
- time of one process that encodes the training windows for stage two (tokenizer `tiny`) over that of two, and the peak
  memory of encoding 2,000 and 20,000 rows.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train.codes import encoded
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.data.cache.frame_cache import StoredVideo, store_videos
from magvit2_pytorch.train.data.cache.shards import CacheKind
from magvit2_pytorch.train.data.shipped import CLIPS_DIR
from magvit2_pytorch.train.data.sources.folder import find_in_folder

COPIES = 6  # of each of the four clips
CLIP = 17  # frames
NUM_CLIPS = 300
KINDS: tuple[CacheKind, ...] = ("raw", "compressed", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        name, *options = arguments.part.split()
        print(json.dumps(PARTS[name](arguments.folder, *options)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder / "videos")
        rows = [*decoding_rows(folder), *cache_rows(folder), *encoding_rows(folder)]
    width = max(len(what) for what, *_ in rows)
    for what, value, low, high in rows:
        is_met = (low is None or value >= low) and (high is None or value <= high)
        bound = f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""
        verdict = "" if not bound else "met" if is_met else "MISSED"
        print(f"{what:{width}}  {value:10.2f}  {bound:14}  {verdict}")
    if any((low is not None and value < low) or (high is not None and value > high) for _, value, low, high in rows):
        sys.exit(1)


Measured = tuple[str, float, float | None, float | None]
"""What, the figure, its lower and its upper bound."""


def make_videos(folder: Path) -> None:
    for number in range(COPIES):
        for path in sorted(CLIPS_DIR.glob("*.mp4")):
            target = folder / path.stem / f"{number}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def run(part: str, folder: Path, *, cores: int = 1, together: int = 1) -> list[dict[str, Any]]:
    """Run a part in one or several processes at the same time, each limited to some cores."""
    command = [sys.executable, __file__, "--folder", str(folder), "--part", part]
    available = sorted(os.sched_getaffinity(0))
    processes = [
        subprocess.Popen(
            [
                "taskset",
                "-c",
                ",".join(map(str, available[:cores] if together == 1 else [available[number]])),
                *command,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(together)
    ]
    results = []
    for process in processes:
        output, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{part} failed")
        results.append(json.loads(output.splitlines()[-1]))
    return results


def decoding_rows(folder: Path) -> list[Measured]:
    ratios = []
    for number in range(3):
        (plain,) = run("plain", folder)
        (ours,) = run(f"decode one-{number} 64 raw", folder)
        ratios.append(ours["frames_per_second"] / plain["frames_per_second"])
    (one,) = run("decode alone 64 raw", folder)
    two = run("decode together 64 raw", folder, together=2)
    speedup = one["seconds"] / max(part["seconds"] for part in two)
    return [
        ("decoding into the cache over a plain loop, frames per second", float(np.median(ratios)), 0.8, None),
        ("decoding with two processes over one", speedup, 1.7, None),
    ]


def cache_rows(folder: Path) -> list[Measured]:
    rows: list[Measured] = []
    results = {kind: run(f"read cache-{kind} 128 {kind}", folder, cores=2)[0] for kind in KINDS}
    raw = results["raw"]["bytes_per_frame"]
    for kind, result in results.items():
        low = {"raw": 400.0, "compressed": 80.0}.get(kind)
        rows.append((f"{kind}: clips of {CLIP} frames per second", result["clips_per_second"], low, None))
        if kind != "none":
            rows.append((f"{kind}: bytes per frame", result["bytes_per_frame"], None, None))
    compressed = results["compressed"]
    rows.append(("compressed: bytes over raw", compressed["bytes_per_frame"] / raw, None, 1 / 8))
    rows.append(("compressed: PSNR to raw frames, dB", compressed["psnr"], 38.0, None))
    return rows


def encoding_rows(folder: Path) -> list[Measured]:
    run("prepare", folder)
    (one,) = run("encode alone 1000", folder)
    two = run("encode together 1000", folder, together=2)
    (few,), (many,) = run("encode few 1000", folder), run("encode many 10000", folder)
    return [
        ("encoding with two processes over one, seconds", max(p["seconds"] for p in two) / one["seconds"], None, 0.6),
        (f"peak memory of encoding {few['rows']} rows, MB", few["megabytes"], None, None),
        (f"peak memory of encoding {many['rows']} rows, MB", many["megabytes"], None, None),
    ]


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


def stored(folder: Path, cache: str, resolution: str, kind: str) -> dict[str, StoredVideo]:
    files = find_in_folder(folder / "videos").videos
    chosen: CacheKind = next(known for known in KINDS if known == kind)
    return store_videos(files, int(resolution), folder / cache, kind=chosen, progress=False).videos


def decode(folder: Path, cache: str, resolution: str, kind: str) -> dict[str, float]:
    """Decode all files into the cache."""
    started = time.monotonic()
    videos = stored(folder, cache, resolution, kind)
    seconds = time.monotonic() - started
    num_frames = sum(video.decoded.num_frames for video in videos.values())
    return {"seconds": seconds, "frames_per_second": num_frames / seconds}


def read(folder: Path, cache: str, resolution: str, kind: str) -> dict[str, float]:
    """Read random clips, in two threads."""
    videos = list(stored(folder, cache, resolution, kind).values())
    numbers = np.random.default_rng(0)
    chosen = [videos[number] for number in numbers.integers(len(videos), size=NUM_CLIPS if kind != "none" else 20)]
    places = [(video, int(numbers.integers(video.decoded.num_frames - CLIP))) for video in chosen]
    started = time.monotonic()
    half = os.fork() if len(os.sched_getaffinity(0)) > 1 else None  # half of the clips in another process
    for video, first in places[:: 1 if half is None else 2]:
        video.frames(first, CLIP, 1)
    if half == 0:
        os._exit(0)
    if half is not None:
        os.waitpid(half, 0)
    seconds = time.monotonic() - started
    num_bytes = sum(path.stat().st_size for path in (folder / cache).rglob("*.frames"))
    result = {
        "clips_per_second": len(places) / seconds,
        "bytes_per_frame": num_bytes / sum(video.decoded.num_frames for video in videos),
    }
    if kind == "compressed":
        raw = list(stored(folder, "cache-raw", resolution, "raw").values())
        errors = [
            np.square(video.frames(100, 1, 1).astype(float) - original.frames(100, 1, 1)).mean()
            for video, original in zip(videos, raw, strict=True)
        ]
        result["psnr"] = 10 * np.log10(255**2 / np.mean(errors))
    return result


def config_of(folder: Path) -> DataConfig:
    return DataConfig(path=str(folder / "videos"), cache_dir=str(folder / "data"))


def prepare(folder: Path) -> dict[str, float]:
    """Decode the files, so that the other parts measure only the encoding."""
    return {"windows": len(load_data(config_of(folder), progress=False).train)}


def encode(folder: Path, cache: str, num_windows: str) -> dict[str, float]:
    """Encode training windows, mirrored ones included."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_data(config_of(folder), progress=False)
    object.__setattr__(data, "train", data.train.select(range(int(num_windows))))
    tokenizer = VideoTokenizer.from_preset("tiny").eval()
    started = time.monotonic()
    table = encoded(tokenizer, data, folder / f"codes-{cache}", progress=False)
    seconds = time.monotonic() - started
    return {
        "seconds": seconds,
        "rows": len(table),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


PARTS: dict[str, Callable[..., dict[str, float]]] = {
    part.__name__: part for part in (plain, decode, read, prepare, encode)
}

if __name__ == "__main__":
    main()

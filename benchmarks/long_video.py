"""Memory of encoding and decoding long videos in chunks.

    python benchmarks/long_video.py

Videos of 100 and of 1,000 frames of 64 x 64 pixels are generated in chunks of eight latent frames, passed through
`encode_stream` and `decode_stream`, and discarded. The tokenizers are untrained and have width 32. One has convolutions
and local attention, whose state has a fixed size. The other has the layers of the preset `seed`, whose full
`attend_time` keeps the keys and values of all frames. Each measurement runs in a process of its own with one thread.
Memory is the peak above that before the first call. The result is the ratio of the peaks.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from magvit2_pytorch.tokenizer import VideoTokenizer

LOCAL_LAYERS = (
    "residual",
    ("compress_space", 128),
    "residual",
    "residual",
    "local_attend_space",
    ("compress_time", 256),
    "local_attend_time",
)
SIZE = 64  # pixels
LATENT_FRAMES_PER_PIECE = 8
LENGTHS = (100, 1000)
KINDS = ("local", "full")
BAR = 1.1  # largest ratio of the peaks of the long and the short video, with local attention


def tokenizer_of(kind: str) -> VideoTokenizer:
    torch.manual_seed(0)
    local = {"layers": LOCAL_LAYERS} if kind == "local" else {}
    return VideoTokenizer.from_preset("seed", image_size=SIZE, init_dim=32, codebook_size=2**10, **local).eval()


def frames(num_frames: int, num_each: int) -> Iterator[Tensor]:
    """Yields chunks of noise."""
    for first in range(0, num_frames, num_each):
        yield torch.rand(1, 3, min(num_each, num_frames - first), SIZE, SIZE) * 2 - 1


def measure(kind: str, num_frames: int) -> dict[str, float]:
    """Return the peak memory in MB above that before the first call, and the CPU seconds."""
    torch.set_num_threads(1)
    tokenizer = tokenizer_of(kind)
    pieces = frames(num_frames, LATENT_FRAMES_PER_PIECE * tokenizer.temporal_stride)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    decoded = sum(video.shape[2] for video in tokenizer.decode_stream(tokenizer.encode_stream(pieces), num_frames))
    assert decoded == num_frames
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"megabytes": (after - before) / 1024, "seconds": time.process_time() - started}


def measured_alone(kind: str, num_frames: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", kind, str(num_frames)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("LAYERS", "FRAMES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, num_frames = arguments.measure
        print(json.dumps(measure(kind, int(num_frames))))
        return

    print("| layers | frames | peak, MB | CPU s |\n|---|---|---|---|")
    ratios = {}
    for kind in KINDS:
        results = [measured_alone(kind, num_frames) for num_frames in LENGTHS]
        for num_frames, result in zip(LENGTHS, results, strict=True):
            print(f"| {kind} | {num_frames} | {result['megabytes']:.1f} | {result['seconds']:.1f} |", flush=True)
        ratios[kind] = results[1]["megabytes"] / results[0]["megabytes"]
    print()
    for kind, ratio in ratios.items():
        bar = f" (at most {BAR}: {'ok' if ratio <= BAR else 'MISSED'})" if kind == "local" else ""
        print(f"{kind} memory_ratio {ratio:.3f}{bar}")


if __name__ == "__main__":
    main()

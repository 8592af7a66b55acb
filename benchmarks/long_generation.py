"""Seams and colour drift of long videos.

    python benchmarks/long_generation.py outputs/tasks/maskgit     # moving shapes
    python benchmarks/long_generation.py outputs/demo --picture long.gif

Generates videos of 65 frames, the same number for each label, with a pipeline that was trained on shorter clips of the
moving shapes or of the shipped clips.

Two figures measure how well a frame continues the earlier ones: its difference from the previous frame, and the error
of extrapolating the motion of the two previous frames. A seam is the first frame of a window other than the first one.
The median of each figure at seams must lie between the 25th and the 75th percentile of the figure inside windows, and
at most 15 % of the values at seams may lie outside the 5th to the 95th percentile. A seam is also the first frame of a
latent frame, where a tokenizer itself may flicker. Two more comparisons show how much: the same frames of reconstructed
real clips, and seams compared only with the first frames of other latent frames.

The difference between the mean colours of the first 8 and the last 8 frames must not be larger than in real clips of 65
frames, at the 90th percentile. Up to four times as many real clips are used, for a more precise percentile.

Decoding uses the critic's order if the transformer has a critic.

The exit status is 1 if a bound is missed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from magvit2_pytorch.files import write_json
from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.pipelines.fill.windows import plan_windows
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.pipelines.media.video_files import check_ending
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.maskgit import load_pipeline
from magvit2_pytorch.train.metrics.reconstruction import batches, decode, encode
from magvit2_pytorch.train.metrics.report import aligned
from magvit2_pytorch.train.metrics.seams import (
    SeamComparison,
    colour_drift,
    compare_seams,
    extrapolation_errors,
    frame_differences,
)
from magvit2_pytorch.train.process import available_cores

NUM_FRAMES = 65
OVERLAP = 5
FEWEST_SEAMS = 50
SETTINGS = {"num_steps": 12, "guidance_scale": 1.0, "overlap": OVERLAP}
OF_ORDERS = {
    True: {"order": "critic", "choice_temperature": 1.0},
    False: {"order": "confidence", "choice_temperature": 4.5},
}
SOURCES = ("shapes", "clips")
BATCH_SIZE = 8  # videos per batch; results do not depend on it
DRIFT_PERCENTILE = 0.9
DRIFT_CLIPS = 4  # real clips per sample

FIGURES = {"difference": frame_differences, "extrapolation": extrapolation_errors}

Videos = Float[Tensor, "b 3 T H W"]  # in [0, 1]


def main() -> NoReturn:
    arguments = parse_arguments()
    torch.set_num_threads(available_cores())
    try:
        sys.exit(0 if run(arguments) else 1)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def run(arguments: argparse.Namespace) -> bool:
    """Return whether all bounds are met."""
    started = time.monotonic()
    pipeline = load_pipeline(arguments.folder)
    stride = pipeline.tokenizer.temporal_stride
    seams = seams_of(pipeline)
    data = load_trained_on(pipeline)
    per_label, remainder = divmod(arguments.videos, len(data.labels))
    if remainder or arguments.videos * len(seams) < FEWEST_SEAMS:
        raise ValueError(
            f"--videos must be a multiple of {len(data.labels)}, the number of labels, and give at least "
            f"{FEWEST_SEAMS} seams with {len(seams)} per video, got {arguments.videos}"
        )
    labels = torch.arange(len(data.labels)).repeat_interleave(per_label)
    real = real_clips(data, labels, arguments.seed)
    sets = {"samples": draw_samples(pipeline, labels, arguments.seed), "reconstructions": reconstruct(pipeline, real)}

    comparisons: dict[tuple[str, str], SeamComparison] = {}
    for name, figure in FIGURES.items():
        figures = {kind: torch.cat([figure(video[None]) for video in videos]) for kind, videos in sets.items()}
        within = [frame for frame in range(NUM_FRAMES) if (frame - 1) % stride]
        comparisons["samples", name] = compare_seams(figures["samples"], seams)
        comparisons["samples, first of latent frames", name] = compare_seams(figures["samples"], seams, within)
        comparisons["reconstructions", name] = compare_seams(figures["reconstructions"], seams)
    beside = real_clips(data, labels.repeat(DRIFT_CLIPS), arguments.seed)
    drifts = {kind: colour_drift(videos).double() for kind, videos in (("samples", sets["samples"]), ("real", beside))}
    low, high = (drift.quantile(DRIFT_PERCENTILE).item() for drift in (drifts["samples"], drifts["real"]))
    missed = [f"{name} at seams" for (kind, name), seen in comparisons.items() if kind == "samples" and seen.is_missed]
    missed += ["drift of colour"] if low > high else []

    print(f"\n{len(labels)} videos of {NUM_FRAMES} frames, seams at {', '.join(map(str, seams))}\n")
    print(aligned([header(), *(cells(kind, name, seen) for (kind, name), seen in comparisons.items())]))
    medians = {kind: drift.median().item() for kind, drift in drifts.items()}
    print(f"\nDrift of the mean colour: median {medians['samples']:.4f}, real clips {medians['real']:.4f};", end=" ")
    print(f"90th percentile {low:.4f}, at most that of real clips, {high:.4f}: {'ok' if low <= high else 'missed'}")
    print(f"seed {arguments.seed}, {time.monotonic() - started:.0f} s.", end=" ")
    print(f"Missed: {'; '.join(missed)}." if missed else "All bounds are kept.")
    if arguments.json:
        figures = {f"{kind}, {name}": seen._asdict() for (kind, name), seen in comparisons.items()}
        settings = {"folder": str(arguments.folder), "videos": len(labels), "seed": arguments.seed}
        write_json(arguments.json, {**settings, "figures": figures, "drift": {"samples": low, "real": high}})
    if arguments.picture:
        draw(arguments.picture, sets["samples"], labels, data.labels)
    return not missed


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of stage two or of the demo, or folder of a pipeline")
    parser.add_argument("--videos", type=int, default=64, help="number of videos over all labels (default: 64)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of samples and of the choice of real clips (default: 0)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="also save one video of each label: .gif or .mp4")
    arguments = parser.parse_args()
    if arguments.seed < 0:
        parser.error(f"--seed must not be negative, got {arguments.seed}")
    if arguments.picture:
        try:
            check_ending(arguments.picture)
        except ValueError as error:
            parser.error(f"--picture: {error}")
    return arguments


def seams_of(pipeline: VideoGenerationPipeline) -> list[int]:
    """Return the first new frame of each window except the first."""
    stride = pipeline.tokenizer.temporal_stride
    windows = plan_windows(NUM_FRAMES, num_first=0, window_frames=pipeline.num_frames, overlap=OVERLAP, stride=stride)
    return [earlier.stop for earlier in windows[:-1]]


def load_trained_on(pipeline: VideoGenerationPipeline) -> VideoData:
    """Load long clips of the source whose labels the pipeline has."""
    size = pipeline.tokenizer.config.height_width[0]
    config = DataConfig(resolution=size, num_frames=NUM_FRAMES)
    for source in SOURCES:
        data = load_data(replace(config, path=source))
        if data.labels == pipeline.labels:
            return data
    raise ValueError(f"the pipeline must be trained on {' or '.join(SOURCES)}, but its labels are {pipeline.labels}")


def real_clips(data: VideoData, labels: Int[Tensor, " b"], seed: int) -> Videos:
    """Return the same number of clips of each label, or all if there are fewer, without blank clips."""
    windows = data.train.every_window()
    label_of, is_blank = np.asarray(windows.table["label"][:]), windows.are_blank()
    numbers = np.random.default_rng(seed)
    rows = []
    for label, count in enumerate(labels.bincount().tolist()):
        candidates = np.flatnonzero((label_of == label) & ~is_blank)
        rows.append(numbers.permutation(candidates)[:count])
    return torch.cat(list(batches(windows.select(np.concatenate(rows)))))


def draw_samples(pipeline: VideoGenerationPipeline, labels: Int[Tensor, " b"], seed: int) -> Videos:
    videos, settings = [], SETTINGS | OF_ORDERS[pipeline.maskgit.config.critic]
    for index, batch in enumerate(tqdm(labels.split(BATCH_SIZE), "Generating", unit="batch")):
        seeds = [int(np.random.SeedSequence((seed, index, row)).generate_state(1)[0]) for row in range(len(batch))]
        videos.append(pipeline.generate(NUM_FRAMES, batch.tolist(), seed=seeds, progress=False, **settings).videos)
    return torch.cat(videos)


@torch.inference_mode()
def reconstruct(pipeline: VideoGenerationPipeline, videos: Videos) -> Videos:
    tokenizer = pipeline.tokenizer
    parts = (decode(tokenizer, encode(tokenizer, part), part.shape[2:]) for part in videos.split(BATCH_SIZE))
    return torch.cat(list(parts))


def header() -> Sequence[str]:
    return ("", "seams", "median", *(f"inside {share} %" for share in (5, 25, 50, 75, 95)), "outside 5-95 %", "")


def cells(kind: str, name: str, seen: SeamComparison) -> Sequence[str]:
    verdict = {"samples": "missed" if seen.is_missed else "ok"}.get(kind, "")
    figures = (f"{figure:.4f}" for figure in (seen.median, *seen.inside))
    return (f"{kind}, {name}", str(seen.num_seams), *figures, f"{100 * seen.share_outside:.0f} %", verdict)


def draw(path: Path, videos: Videos, labels: Int[Tensor, " b"], names: Sequence[str]) -> None:
    """Draw the first video of each label."""
    rows = [int((labels == label).nonzero()[0]) for label in range(len(names))]
    save_videos(path, videos[rows], captions=list(names), columns=4, min_width=0)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()

"""Quality of samples: are they similar to the shipped clips that the pipeline was trained on, without being copies?

    python benchmarks/samples.py outputs/demo
    python benchmarks/samples.py outputs/maskgit-laptop --energy 0.5

Generates videos of each label and compares them with two other sets of the same decoder: reconstructions of real clips,
half of which are mirrored as in training, and a baseline without transformer, in which each code is drawn independently
from the frequencies of its label at its position in such clips. Two small classifiers, trained first, predict labels
and give the features of the energy distance. Prints a table. The exit status is 1 if a bound is missed, or if the
classifiers are not accurate enough.
Takes about 70 seconds of CPU time for the pipeline of `magvit2 demo`.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from decoding_options import add_decoding_options
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from magvit2_pytorch.files import write_json
from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.pipelines.media.video_files import STILLS, check_ending
from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train.data import Clips, DataConfig, VideoData, load_data
from magvit2_pytorch.train.maskgit import load_pipeline
from magvit2_pytorch.train.metrics import bits_per_pixel, evaluate_tokenizer
from magvit2_pytorch.train.metrics.baseline import independent_codes
from magvit2_pytorch.train.metrics.classifiers import (
    FrameClassifier,
    SpaceTimeClassifier,
    VideoClassifier,
    accuracy,
    train_classifier,
)
from magvit2_pytorch.train.metrics.comparison import (
    LARGEST_ENERGY_RATIO,
    Sets,
    compare_features,
    compare_labels,
    compare_nearest,
    compare_pixels,
)
from magvit2_pytorch.train.metrics.reconstruction import batches, decode, encode
from magvit2_pytorch.train.metrics.report import table
from magvit2_pytorch.train.metrics.samples import half_mirrored
from magvit2_pytorch.train.process import available_cores

CLASSIFIERS: dict[str, type[VideoClassifier]] = {"single frames": FrameClassifier, "space-time": SpaceTimeClassifier}
TRUSTWORTHY = 0.96  # smallest accuracy of the classifiers on real held-out clips: 27 of 28
FEWEST_SAMPLES = 64
BATCH_SIZE = 16  # videos per batch
CHUNK_SIZE = 64  # clips per chunk when samples are compared with them
PICTURE_WIDTH = 768  # pixels, at least
PICTURED_STRIDE = 4  # a still picture shows every fourth frame

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
    data = load_shipped(pipeline)
    per_label, remainder = divmod(arguments.samples, len(data.labels))
    if remainder:
        raise ValueError(
            f"--samples must be a multiple of {len(data.labels)}, the number of labels, got {arguments.samples}"
        )
    classifiers = train_classifiers(data, arguments.seed)
    sets = make_sets(pipeline, data, dict(arguments.decode), per_label=per_label, seed=arguments.seed)
    heldout_accuracy = judge_heldout(classifiers, data, sets)
    rows = [
        *compare_labels(sets, classifiers),
        *compare_pixels(sets),
        *compare_features(sets, classifiers, arguments.energy),
    ]
    rows += compare_nearest(sets, training_clips(data))
    missed = [row.name for row in rows if row.is_missed]
    seconds = time.monotonic() - started

    print(f"\n{table(rows)}\n")
    print(f"{len(sets.labels)} samples, seed {arguments.seed}, {seconds:.0f} s.", end=" ")
    print(f"Missed: {'; '.join(missed)}." if missed else "All bounds are kept.")
    if arguments.json:
        settings = {"folder": str(arguments.folder), "samples": len(sets.labels), "seed": arguments.seed}
        report = {"heldout_accuracy": heldout_accuracy, "rows": [row.as_json() for row in rows], "seconds": seconds}
        write_json(arguments.json, {**settings, **report})
    if arguments.picture:
        draw(arguments.picture, sets, data.labels)
    return not missed


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of the demo, or folder of a pipeline")
    parser.add_argument("--samples", type=int, default=128, help="number of videos over all labels (default: 128)")
    parser.add_argument(
        "--energy",
        type=float,
        default=LARGEST_ENERGY_RATIO,
        metavar="RATIO",
        help="bound of the energy distance divided by that of the baseline (default: %(default)s)",
    )
    add_decoding_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of samples, classifiers and baseline (default: 0)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="PATH",
        help="also draw reconstructions, samples and baseline: .gif or .mp4 side by side, .png with frames in rows",
    )
    arguments = parser.parse_args()
    if arguments.samples < FEWEST_SAMPLES:
        parser.error(f"--samples must be at least {FEWEST_SAMPLES}, got {arguments.samples}")
    if arguments.seed < 0:
        parser.error(f"--seed must not be negative, got {arguments.seed}")
    if arguments.picture:
        try:
            check_ending(arguments.picture)
        except ValueError as error:
            parser.error(f"--picture: {error}")
    return arguments


def load_shipped(pipeline: VideoGenerationPipeline) -> VideoData:
    """Load the shipped clips at the size of the videos of the pipeline."""
    height, width = pipeline.tokenizer.config.height_width
    if height != width:
        raise ValueError(
            f"the pipeline must generate squares like the shipped clips, but its videos have {height} x {width} pixels"
        )
    if pipeline.num_frames < 2:
        raise ValueError("this pipeline makes images, and the figures are those of videos")
    data = load_data(DataConfig(resolution=height, num_frames=pipeline.num_frames))
    if data.labels != pipeline.labels:
        raise ValueError(f"the pipeline must be trained on the shipped clips, but its labels are {pipeline.labels}")
    return data


def train_classifiers(data: VideoData, seed: int) -> dict[str, VideoClassifier]:
    """Train the classifiers, and check their accuracy on held-out clips."""
    clips = torch.cat(list(batches(data.heldout)))
    classifiers = {}
    for name, classifier_class in CLASSIFIERS.items():
        classifiers[name] = train_classifier(classifier_class, data, seed=seed)
        share = accuracy(classifiers[name], clips, labels_of(data.heldout))
        if share < TRUSTWORTHY:
            raise ValueError(
                f"the accuracy of the classifier of {name} on real held-out clips must be at least {TRUSTWORTHY:.0%}, "
                f"got {share:.0%}. The samples have not been measured"
            )
    return classifiers


@torch.inference_mode()
def make_sets(
    pipeline: VideoGenerationPipeline, data: VideoData, decoding: Mapping[str, Any], *, per_label: int, seed: int
) -> Sets:
    labels = torch.arange(len(data.labels)).repeat_interleave(per_label)
    samples = draw_samples(pipeline, labels, decoding, seed)

    tokenizer, sizes = pipeline.tokenizer, samples.shape[2:]
    windows = data.train.every_window()
    shown = windows.select(np.flatnonzero(~windows.are_blank()))
    num_batches = math.ceil(len(shown) / BATCH_SIZE)
    progress = tqdm(batches(shown, BATCH_SIZE), "Encoding", num_batches, unit="batch")
    numbers = torch.Generator().manual_seed(seed)
    codes = torch.cat(
        [encode(tokenizer, half_mirrored(videos, numbers) if data.allows_flip else videos) for videos in progress]
    )
    without_model = independent_codes(codes, labels_of(shown), labels, torch.Generator().manual_seed(seed))
    chosen = [choose(labels_of(shown), per_label, np.random.default_rng((seed, draw))) for draw in range(2)]
    scores = evaluate_tokenizer(tokenizer, data.heldout)
    bits = bits_per_pixel(tokenizer, *sizes)
    print(f"Held-out clips: {scores.psnr:.2f} dB at {bits:.4f} bit a pixel")
    return Sets(
        labels=labels,
        samples=samples,
        baseline=decode_all(tokenizer, without_model, sizes),
        reconstructions=decode_all(tokenizer, codes[chosen[0]], sizes),
        more_reconstructions=decode_all(tokenizer, codes[chosen[1]], sizes),
        heldout=decode_all(tokenizer, scores.codes, sizes),
    )


def draw_samples(
    pipeline: VideoGenerationPipeline, labels: Int[Tensor, " b"], decoding: Mapping[str, Any], seed: int
) -> Videos:
    videos = []
    for index, batch in enumerate(tqdm(labels.split(BATCH_SIZE), "Generating", unit="batch")):
        own_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
        videos.append(pipeline.generate(labels=batch.tolist(), seed=own_seed, progress=False, **decoding).videos)
    return torch.cat(videos)


def choose(labels: Int[Tensor, " n"], per_label: int, numbers: np.random.Generator) -> Int[Tensor, " b"]:
    """Return `per_label` different rows of each label, in the order of the labels."""
    rows = []
    for label in labels.unique():
        candidates = np.flatnonzero(labels == label)
        if len(candidates) < per_label:
            raise ValueError(
                f"label {label} has {len(candidates)} training windows, but {per_label} are needed; choose fewer "
                "--samples"
            )
        rows.append(numbers.choice(candidates, per_label, replace=False))
    return torch.from_numpy(np.concatenate(rows))


def decode_all(tokenizer: VideoTokenizer, codes: Int[Tensor, "b t h w"], sizes: torch.Size) -> Videos:
    return torch.cat([decode(tokenizer, batch, sizes) for batch in codes.split(BATCH_SIZE)])


def judge_heldout(
    classifiers: Mapping[str, VideoClassifier], data: VideoData, sets: Sets
) -> dict[str, dict[str, float]]:
    """Return the accuracy of the classifiers on held-out clips and on their reconstructions."""
    clips, labels = torch.cat(list(batches(data.heldout))), labels_of(data.heldout)
    shares = {
        name: {
            "real": accuracy(classifier, clips, labels),
            "reconstructed": accuracy(classifier, sets.heldout, labels),
        }
        for name, classifier in classifiers.items()
    }
    for name, share in shares.items():
        print(f"Held-out clips told from {name}: {share['real']:.3f}, reconstructed {share['reconstructed']:.3f}")
    return shares


def training_clips(data: VideoData) -> Iterator[Videos]:
    """Return all training windows and, if training flips them, all mirrored windows."""
    windows = data.train.every_window()
    num_chunks = math.ceil(len(windows) / CHUNK_SIZE)
    for videos in tqdm(batches(windows, CHUNK_SIZE), "Comparing", num_chunks, unit="chunk"):
        yield videos
        if data.allows_flip:
            yield videos.flip(-1)


def labels_of(clips: Clips) -> Int[Tensor, " b"]:
    return torch.tensor(clips.table["label"][:])


def draw(path: Path, sets: Sets, labels: tuple[str, ...]) -> None:
    """Draw reconstructions, samples and baseline, with two columns per label, or one row per video in a still."""
    is_still = path.suffix.lower() in STILLS
    per_label = 1 if is_still else 2
    rows = [int(row) for label in sets.labels.unique() for row in np.flatnonzero(sets.labels == label)[:per_label]]
    kinds = {"real": sets.reconstructions, "sample": sets.samples, "baseline": sets.baseline}
    videos = torch.cat([videos[rows] for videos in kinds.values()])
    captions = [f"{kind}: {labels[sets.labels[row]]}" for kind in kinds for row in rows]
    save_videos(
        path,
        videos[:, :, ::PICTURED_STRIDE] if is_still else videos,
        captions=captions,
        columns=len(rows),
        min_width=PICTURE_WIDTH,
    )
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()

"""Quality of each of the ten tasks, for one transformer that is trained on all of them, on moving shapes.

    python benchmarks/tasks.py                          # first trains both stages, about 40 minutes on two cores
    python benchmarks/tasks.py --pictures docs/tasks    # also draws every task

Both stages are trained with their preset `shapes-tasks`, in `--folder`. Finished runs in this folder are used, and
interrupted runs are resumed. Each row of the table has the same number of samples:

- Label accuracy by two judges. A small classifier is trained first and must have an accuracy of at least 98 % on real
  held-out clips. `seen_motions` measures position and size of the shape without training; it needs a clean shape in
  each frame, so it has no bound. For comparison: a baseline without transformer, in which each code is drawn from the
  frequencies of its label at its position, and reconstructions of held-out clips.
- PSNR of the pixels that a task hides, on held-out clips. For comparison: filling without a model (repeating the last
  known frame, blending the first and last frames, the mean of the known pixels), and the reconstruction of the whole
  clip, which is about the best that codes can give.
- Few decoding steps compared with many, for each decoding order.

The exit status is 1 if a bound is missed, or if a judge is not accurate enough.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.maskgit.seeds import seeded_generator
from magvit2_pytorch.maskgit.tasks import TASKS, task_named
from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.pipelines.fill.regions import known_region
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.pipelines.saved_pipeline import INDEX_NAME
from magvit2_pytorch.pretrained import CONFIG_NAME
from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train.data import Clips, DataConfig, load_data
from magvit2_pytorch.train.maskgit import PIPELINE_FOLDER, PRESETS
from magvit2_pytorch.train.metrics.baseline import independent_codes
from magvit2_pytorch.train.metrics.classifiers import SpaceTimeClassifier, VideoClassifier, accuracy, train_classifier
from magvit2_pytorch.train.metrics.completion import blend_ends, fill_with_mean, hidden_psnr, repeat_last
from magvit2_pytorch.train.metrics.motion import seen_motions
from magvit2_pytorch.train.metrics.reconstruction import batches, decode, encode
from magvit2_pytorch.train.metrics.report import Row, aligned, table
from magvit2_pytorch.train.metrics.samples import energy_distance_within_labels
from magvit2_pytorch.train.process import available_cores
from magvit2_pytorch.train.tokenizer import WEIGHTS_FOLDER

ROOT = Path(__file__).resolve().parent.parent
PRESET = "shapes-tasks"
SECONDS_NAME = "seconds.json"
FEWEST_SAMPLES = 200
BATCH_SIZE = 25  # videos per batch; results do not depend on it

TRUSTWORTHY = 0.98  # smallest accuracy of the judges on real held-out clips
JUDGE_STEPS, JUDGE_WINDOWS = 1000, 256  # training of the classifier: steps, and windows per label
LEAST_ACCURACY = 0.9
LEAST_GAIN = {  # in dB, compared with filling without a model
    "frame_prediction": 3.0,
    "frame_interpolation": 0.01,
    "central_inpainting": 0.01,
    "dynamic_inpainting": 0.01,
}

GUIDANCE = 3.0  # guidance scale of class-conditional generation
OF_CLASSES: dict[str, Any] = {"num_steps": 12, "choice_temperature": 4.5}
OF_REGIONS: dict[str, Any] = {"num_steps": 4, "temperature": 0.3, "choice_temperature": 1.0}
STEPS = (2, 4, 8, 12, 24)
CHOICE_TEMPERATURES = {"confidence": 4.5, "random": 0.0, "halton": 0.0, "critic": 1.0}

NUM_GIVEN = 5  # known frames of frame prediction
PICTURED = [0, 4, 6]  # clips of a shape that moves straight, one that moves in a circle, one that grows
UNKNOWN = 0.5  # grey

Videos = Float[Tensor, "b 3 T H W"]  # in [0, 1]


class Shapes(NamedTuple):
    """Clips, with the same number for each label."""

    videos: Videos
    labels: Int[Tensor, " b"]


class Bench(NamedTuple):
    """Models and data of the measurements."""

    pipeline: VideoGenerationPipeline
    judge: VideoClassifier
    shapes: Shapes
    reconstructions: Videos
    """Reconstructions of these clips."""
    trained_on: Shapes
    """The same number of training clips."""
    seed: int


def main() -> NoReturn:
    arguments = parse_arguments()
    torch.set_num_threads(available_cores())
    try:
        sys.exit(0 if run(arguments) else 1)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def run(arguments: argparse.Namespace) -> bool:
    """Return whether all bounds are met."""
    data = load_data(DataConfig(path="shapes"))
    if arguments.samples > len(data.heldout) or arguments.samples % len(data.labels):
        raise ValueError(
            f"--samples must be a multiple of {len(data.labels)}, the number of labels, and at most "
            f"{len(data.heldout)}, the number of held-out clips, got {arguments.samples}"
        )
    shapes, trained_on = (first_clips(clips, arguments.samples) for clips in (data.heldout, data.train.every_window()))
    judge = train_classifier(
        SpaceTimeClassifier, data, seed=arguments.seed, num_steps=JUDGE_STEPS, windows_per_label=JUDGE_WINDOWS
    )
    told = judge_heldout(judge, first_clips(data.heldout, len(data.heldout)))
    pipeline, seconds = trained(arguments.folder, arguments.seed)

    started = time.monotonic()
    bench = Bench(pipeline, judge, shapes, reconstruct(pipeline.tokenizer, shapes.videos), trained_on, arguments.seed)
    rows = [*judge_classes(bench), *judge_regions(bench)]
    curves = draw_curves(bench)
    missed = [row.name for row in rows if row.is_missed]

    print(f"\n{table(rows)}\n\n{aligned(curves)}\n")
    minutes = ", ".join(f"{stage} {spent / 60:.1f}" for stage, spent in seconds.items())
    print(f"Minutes of training: {minutes}. {arguments.samples} samples a row, seed {arguments.seed},", end=" ")
    print(f"{time.monotonic() - started:.0f} s.", f"Missed: {'; '.join(missed)}." if missed else "All bounds are kept.")
    if arguments.json:
        settings = {"samples": arguments.samples, "seed": arguments.seed, "seconds": seconds}
        write_json(
            arguments.json, {**settings, "judge": told, "rows": [row.as_json() for row in rows], "curves": curves}
        )
    if arguments.pictures:
        for name in TASKS:
            draw(arguments.pictures / f"{name}.gif", name, bench)
    return not missed


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/tasks"), help="folder of both runs (default: outputs/tasks)"
    )
    parser.add_argument(
        "--samples", type=int, default=FEWEST_SAMPLES, help=f"samples per row (default and least: {FEWEST_SAMPLES})"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of training, samples, judge and baseline (default: 0)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also draw a GIF of each task")
    arguments = parser.parse_args()
    if arguments.samples < FEWEST_SAMPLES:
        parser.error(f"--samples must be at least {FEWEST_SAMPLES}, got {arguments.samples}")
    if arguments.seed < 0:
        parser.error(f"--seed must not be negative, got {arguments.seed}")
    return arguments


def trained(folder: Path, seed: int) -> tuple[VideoGenerationPipeline, dict[str, float]]:
    """Train the stages that are not finished, and return the pipeline and the seconds of each stage."""
    results = {
        "tokenizer": folder / "tokenizer" / WEIGHTS_FOLDER / CONFIG_NAME,
        "maskgit": folder / "maskgit" / PIPELINE_FOLDER / INDEX_NAME,
    }
    times = folder / SECONDS_NAME
    seconds: dict[str, float] = read_json(times) if times.is_file() else {}
    for stage, result in results.items():
        if result.is_file():
            print(f"{result.parent} is there already.")
            continue
        options = ["--output-dir", str((folder / stage).absolute()), "--seed", str(seed)]
        options += ["--tokenizer", str((folder / "tokenizer").absolute())] if stage == "maskgit" else []
        started = time.monotonic()
        train(stage, options)
        seconds[stage] = seconds.get(stage, 0) + time.monotonic() - started
        write_json(times, seconds)
    return VideoGenerationPipeline.from_pretrained(results["maskgit"].parent), seconds


def train(stage: str, options: Sequence[str]) -> None:
    """Run the training script of a stage.

    On a CPU with two cores or more, the transformer is trained in two processes with one thread each, which share each
    batch. For a model of this size, they are faster than one process with two threads.
    """
    num_processes = 2 if stage == "maskgit" and available_cores() > 1 and not torch.cuda.is_available() else 1
    command = [f"train/{stage}.py", PRESET, *options, "--no-progress"]
    environment = dict(os.environ)
    if num_processes > 1:
        batch_size = PRESETS[PRESET].batch_size // num_processes
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes), *command]
        command += ["--batch-size", str(batch_size)]
        environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    print(f"{time.strftime('%X')} python {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, env=environment)


def first_clips(clips: Clips, number: int) -> Shapes:
    chosen = clips.select(range(number))
    return Shapes(torch.cat(list(batches(chosen))), torch.tensor(chosen.table["label"][:]))


def judge_heldout(judge: VideoClassifier, heldout: Shapes) -> dict[str, float]:
    """Return the accuracy of the judges on real clips.

    Raises:
        ValueError: if it is too low.
    """
    told = {"network": accuracy(judge, *heldout), "measured": share_seen(*heldout)}
    print(f"Real held-out clips told by the network: {told['network']:.3f}, measured: {told['measured']:.3f}")
    if min(told.values()) < TRUSTWORTHY:
        raise ValueError(
            f"the accuracy of both judges on real held-out clips must be at least {TRUSTWORTHY:.0%}, got {told} for "
            f"{len(heldout.labels)} clips. The samples have not been measured"
        )
    return told


def share_seen(videos: Videos, labels: Int[Tensor, " b"]) -> float:
    return (seen_motions(videos) == labels).double().mean().item()


def in_batches(count: int) -> Iterator[slice]:
    for first in range(0, count, BATCH_SIZE):
        yield slice(first, min(first + BATCH_SIZE, count))


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, videos: Videos) -> Videos:
    parts = (videos[part] for part in in_batches(len(videos)))
    return torch.cat([decode(tokenizer, encode(tokenizer, part), part.shape[2:]) for part in parts])


@torch.inference_mode()
def draw_without_model(bench: Bench) -> Videos:
    tokenizer, (videos, labels) = bench.pipeline.tokenizer, bench.trained_on
    codes = torch.cat([encode(tokenizer, videos[part]) for part in in_batches(len(videos))])
    chance = torch.Generator().manual_seed(bench.seed)
    drawn = independent_codes(codes, labels, bench.shapes.labels, chance)
    return torch.cat([decode(tokenizer, drawn[part], videos.shape[2:]) for part in in_batches(len(drawn))])


def generate_classes(bench: Bench, name: str, **settings: Any) -> Videos:
    """Generate a video of the label of each clip.

    Args:
        name: Text of the progress bar.
    """
    labels = bench.shapes.labels.tolist()
    videos = []
    for part in tqdm(list(in_batches(len(labels))), name, unit="batch"):
        seeds = sample_seeds(bench.seed, part)
        videos.append(bench.pipeline.generate(labels=labels[part], seed=seeds, progress=False, **settings).videos)
    return torch.cat(videos)


def complete(bench: Bench, task: str, known: Bool[Tensor, "b T H W"]) -> Videos:
    """Generate the pixels of the clips that are not known."""
    videos, labels = bench.shapes
    completed = []
    for part in tqdm(list(in_batches(len(known))), task, unit="batch"):
        told = {"labels": labels[part].tolist()} if task_named(task).uses_label else {}
        output = bench.pipeline.generate(
            video=videos[part],
            mask=~known[part],
            task=task,
            seed=sample_seeds(bench.seed, part),
            progress=False,
            **told,
            **OF_REGIONS,
        )
        completed.append(output.videos)
    return torch.cat(completed)


def sample_seeds(seed: int, part: slice) -> list[int]:
    """Return a seed for each sample, which does not depend on the batch size."""
    return [seeded_generator(seed, sample).initial_seed() % 2**31 for sample in range(part.start, part.stop)]


def judge_classes(bench: Bench) -> Iterator[Row]:
    """Yields the rows of label accuracy and of the energy distance."""
    judge, labels = bench.judge, bench.shapes.labels
    sets = {
        "guided": generate_classes(bench, f"guidance {GUIDANCE:g}", guidance_scale=GUIDANCE, **OF_CLASSES),
        "plain": generate_classes(bench, "guidance 1", guidance_scale=1.0, **OF_CLASSES),
        "baseline": draw_without_model(bench),
        "reconstructions": bench.reconstructions,
    }
    told = {name: accuracy(judge, videos, labels) for name, videos in sets.items()}
    seen = {name: share_seen(videos, labels) for name, videos in sets.items()}
    for name, shares in (("told by the network", told), ("measured", seen)):
        yield Row(
            name=f"labels {name}, guidance {GUIDANCE:g} (baseline: no model)",
            samples=shares["guided"],
            baseline=shares["baseline"],
            reconstructions=shares["reconstructions"],
            low=LEAST_ACCURACY if shares is told else -math.inf,
        )
    is_full = min(told["guided"], told["plain"]) >= TRUSTWORTHY
    yield Row(
        name=f"labels told by the network, guidance {GUIDANCE:g} (baseline: guidance 1)",
        samples=told["guided"],
        baseline=told["plain"],
        reconstructions=told["reconstructions"],
        low=TRUSTWORTHY if is_full else told["plain"] + 1 / len(labels),
    )
    distances = {name: distance(bench, videos) for name, videos in sets.items()}
    for name in ("guided", "plain"):
        yield Row(
            name=f"energy distance, guidance {GUIDANCE if name == 'guided' else 1:g} (baseline: no model)",
            samples=distances[name],
            baseline=distances["baseline"],
            reconstructions=distance(bench, reconstruct(bench.pipeline.tokenizer, bench.trained_on.videos)),
        )


@torch.inference_mode()
def distance(bench: Bench, videos: Videos) -> float:
    """Return the energy distance within labels from reconstructions of held-out clips, by classifier features."""
    features, real = bench.judge.features(videos), bench.judge.features(bench.reconstructions)
    return energy_distance_within_labels(features, real, bench.shapes.labels)


def judge_regions(bench: Bench) -> Iterator[Row]:
    """Yields the rows of the PSNR of hidden pixels."""
    videos = bench.shapes.videos
    for task in (name for name, task in TASKS.items() if task.has_region):
        known = regions(task, videos, bench.seed)
        words, filled = fill_without_model(task, videos, known)
        baseline = hidden_psnr(videos, filled, known)
        yield Row(
            name=f"{task.replace('_', ' ')}, dB (baseline: {words})",
            samples=hidden_psnr(videos, complete(bench, task, known), known),
            baseline=baseline,
            reconstructions=hidden_psnr(videos, bench.reconstructions, known),
            low=baseline + LEAST_GAIN[task] if task in LEAST_GAIN else -math.inf,
        )


def fill_without_model(task: str, videos: Videos, known: Bool[Tensor, "b T H W"]) -> tuple[str, Videos]:
    """Return the name of the baseline of a task, and its videos."""
    if task.endswith("frame_prediction"):
        return "the last frame repeated", repeat_last(videos, NUM_GIVEN)
    if task == "frame_interpolation":
        return "the ends blended", blend_ends(videos)
    return "the mean of the known pixels", fill_with_mean(videos, known)


def regions(task: str, videos: Videos, seed: int) -> Bool[Tensor, "b T H W"]:
    """Return the known region of each clip for a task. Frame prediction always has the same number of known frames."""
    if task.endswith("frame_prediction"):
        known = torch.zeros(videos[:, 0].shape, dtype=torch.bool)
        known[:, :NUM_GIVEN] = True
        return known
    number = list(TASKS).index(task)
    num_frames, height, width = videos.shape[2:]
    chance = (seeded_generator(seed, number, row) for row in range(len(videos)))
    return torch.stack([known_region(task, num_frames, height, width, generator) for generator in chance])


def draw_curves(bench: Bench) -> list[tuple[str, ...]]:
    """Return a table of accuracy and energy distance for each number of decoding steps and each decoding order."""
    rows: list[tuple[str, ...]] = [("labels told / energy distance", *(f"{steps} passes" for steps in STEPS))]
    for order, choice_temperature in CHOICE_TEMPERATURES.items():
        if order == "critic" and not bench.pipeline.maskgit.config.critic:
            continue
        cells = []
        for steps in STEPS:
            settings = {"order": order, "num_steps": steps, "choice_temperature": choice_temperature}
            videos = generate_classes(bench, f"{order}, {steps} passes", guidance_scale=GUIDANCE, **settings)
            told = accuracy(bench.judge, videos, bench.shapes.labels)
            cells.append(f"{told:.3f} / {distance(bench, videos):.3f}")
        rows.append((order, *cells))
    return rows


def draw(path: Path, task: str, bench: Bench) -> None:
    """Draw the known pixels, the sample and the original of some clips next to each other."""
    videos, labels = (part[PICTURED] for part in bench.shapes)
    few = bench._replace(shapes=Shapes(videos, labels))
    if TASKS[task].has_region:
        known = regions(task, videos, bench.seed)
        results = complete(few, task, known)
    else:
        known = torch.zeros(videos[:, 0].shape, dtype=torch.bool)
        results = generate_classes(few, task, guidance_scale=GUIDANCE, **OF_CLASSES)
    conditions = torch.where(known[:, None], videos, UNKNOWN)
    triples = torch.stack([conditions, results, videos], dim=1).flatten(0, 1)
    names = [bench.pipeline.labels[label] for label in labels.tolist()]
    captions = [text for name in names for text in (name if TASKS[task].uses_label else "given", "result", "original")]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_videos(path, triples, captions=captions, columns=3, min_width=0)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()

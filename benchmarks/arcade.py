"""Quality of a pipeline that was trained on the arcade games: labels, rules and prediction.

    accelerate launch train/tokenizer.py laptop --data.path arcade --output-dir outputs/tokenizer-arcade
    accelerate launch train/maskgit.py laptop --data.path arcade --tokenizer outputs/tokenizer-arcade \
        --output-dir outputs/maskgit-arcade
    python benchmarks/arcade.py outputs/maskgit-arcade

- Labels: the share of samples whose game is recognized by a classifier, which must recognize 99 % of real clips.
- Rules: for each game, the share of samples that keep all rules (`train/metrics/arcade_rules.py`), divided by that of
  real held-out clips. In brackets the same for reconstructions of these clips, which limit the samples.
- Prediction: PSNR of the last 12 frames of held-out clips, from the first 5 and the label, compared with repeating the
  fifth frame.

The exit status is 1 if a bound is missed.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch
from decoding_options import add_decoding_options
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.maskgit import load_pipeline
from magvit2_pytorch.train.metrics import psnr
from magvit2_pytorch.train.metrics.arcade_rules import share_of_rules_kept
from magvit2_pytorch.train.metrics.classifiers import SpaceTimeClassifier, accuracy, train_classifier
from magvit2_pytorch.train.metrics.completion import hidden_psnr, repeat_last
from magvit2_pytorch.train.metrics.reconstruction import batches, decode, encode
from magvit2_pytorch.train.process import available_cores

BATCH_SIZE = 16
NUM_GIVEN = 5  # frames
TRUSTWORTHY = 0.99  # smallest accuracy of the classifier on real held-out clips
CLASSIFIER_STEPS = 600
LEAST_PSNR, LEAST_ACCURACY, LEAST_RULES, LEAST_GAIN = 29.0, 0.95, 0.7, 4.0

Videos = Float[Tensor, "b 3 T H W"]  # in [0, 1]


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of train/maskgit.py, or folder of a pipeline")
    parser.add_argument("--samples", type=int, default=480, help="number of samples over all games (default: 480)")
    add_decoding_options(parser, guidance_scale=1.5, num_steps=24)
    parser.add_argument("--seed", type=int, default=0, help="seed of samples and classifier (default: 0)")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="also draw two samples of each game")
    arguments = parser.parse_args()
    torch.set_num_threads(available_cores())
    sys.exit(0 if run(arguments) else 1)


def run(arguments: argparse.Namespace) -> bool:
    """Print all figures, and return whether all bounds are met."""
    started = time.monotonic()
    pipeline = load_pipeline(arguments.folder)
    data = load_data(DataConfig(path="arcade", num_frames=pipeline.num_frames))
    real, labels = torch.cat(list(batches(data.heldout))), torch.tensor(data.heldout.table["label"][:])
    reconstructed = reconstruct(pipeline, real)
    figures = [verdict("held-out PSNR in dB", psnr(real, reconstructed), LEAST_PSNR)]

    classifier = train_classifier(SpaceTimeClassifier, data, seed=arguments.seed, num_steps=CLASSIFIER_STEPS)
    if (told := accuracy(classifier, real, labels)) < TRUSTWORTHY:
        sys.exit(f"error: the classifier recognizes {told:.1%} of real clips, {TRUSTWORTHY:.0%} are needed")
    drawn = torch.arange(arguments.samples) % len(data.labels)
    samples = generate(pipeline, drawn, arguments)
    print(f"games recognized in reconstructions: {accuracy(classifier, reconstructed, labels):.3f}")
    figures.append(verdict("games recognized in samples", accuracy(classifier, samples, drawn), LEAST_ACCURACY))

    names = [[data.labels[label] for label in rows.tolist()] for rows in (labels, drawn)]
    of_real, of_reconstructions = (share_of_rules_kept(videos, names[0]) for videos in (real, reconstructed))
    of_samples = share_of_rules_kept(samples, names[1])
    for game in data.labels:
        whole = of_real[game]["all"]
        ratio, possible = of_samples[game]["all"] / whole, of_reconstructions[game]["all"] / whole
        rules = ", ".join(f"{rule} {share:.2f}" for rule, share in of_samples[game].items() if rule != "all")
        figures.append(verdict(f"rules of {game} [{possible:.2f}] ({rules})", ratio, LEAST_RULES))

    few = torch.arange(len(real))[: arguments.samples // 2]
    known = torch.zeros(real[few, 0].shape, dtype=torch.bool)
    known[:, :NUM_GIVEN] = True
    predicted = predict(pipeline, real[few], labels[few], arguments)
    model, repeated = (
        hidden_psnr(real[few], videos, known) for videos in (predicted, repeat_last(real[few], NUM_GIVEN))
    )
    print(f"prediction {model:.2f} dB, the last frame repeated {repeated:.2f} dB")
    figures.append(verdict("prediction, gain over repeating in dB", model - repeated, LEAST_GAIN))
    print(f"{arguments.samples} samples, seed {arguments.seed}, {time.monotonic() - started:.0f} s")
    if arguments.picture is not None:
        draw(arguments.picture, samples, data.labels)
    return all(figures)


def verdict(name: str, figure: float, least: float) -> bool:
    """Print a figure with its bound, and return whether the bound is met."""
    is_met = figure >= least
    print(f"{name}: {figure:.3f}, at least {least:g}: {'ok' if is_met else 'MISSED'}", flush=True)
    return is_met


@torch.inference_mode()
def reconstruct(pipeline: VideoGenerationPipeline, videos: Videos) -> Videos:
    parts = videos.split(BATCH_SIZE)
    return torch.cat([decode(pipeline.tokenizer, encode(pipeline.tokenizer, part), part.shape[2:]) for part in parts])


def generate(pipeline: VideoGenerationPipeline, labels: Int[Tensor, " b"], arguments: argparse.Namespace) -> Videos:
    videos = []
    for index, part in enumerate(tqdm(labels.split(BATCH_SIZE), "Generating", unit="batch")):
        output = pipeline.generate(
            labels=part.tolist(),
            seed=arguments.seed * 1000 + index,
            progress=False,
            **dict(arguments.decode),
        )
        videos.append(output.videos)
    return torch.cat(videos)


def predict(
    pipeline: VideoGenerationPipeline, videos: Videos, labels: Int[Tensor, " b"], arguments: argparse.Namespace
) -> Videos:
    """Return the videos with all frames after the first ones predicted."""
    predicted = []
    parts = zip(videos.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True)
    for index, (part, of_part) in enumerate(tqdm(list(parts), "Predicting", unit="batch")):
        output = pipeline.generate(
            num_frames=videos.shape[2],
            labels=of_part.tolist(),
            frames=part[:, :, :NUM_GIVEN],
            seed=arguments.seed * 1000 + index,
            temperature=0.3,
            choice_temperature=1.0,
            progress=False,
        )
        predicted.append(output.videos)
    return torch.cat(predicted)


def draw(path: Path, samples: Videos, labels: tuple[str, ...]) -> None:
    """Draw two samples of each game."""
    few = samples[: 2 * len(labels)]
    save_videos(path, few, columns=len(labels), captions=[*labels, *labels])


if __name__ == "__main__":
    main()

"""Comparison of generated videos with a model-free baseline and reconstructions, and bounds on the metrics."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .classifiers import VideoClassifier, accuracy
from .report import Row
from .samples import (
    diversity_within_labels,
    energy_distance_within_labels,
    mean_frame_difference,
    nearest_clip_distances,
)

LARGEST_ENERGY_RATIO = 0.75


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Videos in [0, 1] from the same decoder. Row i has label `labels[i]`, except in the held-out clips."""

    labels: Int[Tensor, " b"]
    samples: Float[Tensor, "b 3 T H W"]
    baseline: Float[Tensor, "b 3 T H W"]
    reconstructions: Float[Tensor, "b 3 T H W"]
    more_reconstructions: Float[Tensor, "b 3 T H W"]
    """Reconstructions of other clips, for the energy distance between two samples of the same distribution."""
    heldout: Float[Tensor, "n 3 T H W"]
    """Reconstructions of held-out clips."""


def compare_labels(sets: Sets, classifiers: Mapping[str, VideoClassifier]) -> Iterator[Row]:
    for name, classifier in classifiers.items():
        yield Row(
            name=f"label accuracy, {name}",
            samples=accuracy(classifier, sets.samples, sets.labels),
            baseline=accuracy(classifier, sets.baseline, sets.labels),
            reconstructions=accuracy(classifier, sets.reconstructions, sets.labels),
            low=0.85,
        )


def compare_pixels(sets: Sets) -> Iterator[Row]:
    motion = Row(
        name="mean frame difference",
        samples=mean_frame_difference(sets.samples),
        baseline=mean_frame_difference(sets.baseline),
        reconstructions=mean_frame_difference(sets.reconstructions),
    )
    diversity = Row(
        name="diversity within labels",
        samples=diversity_within_labels(sets.samples, sets.labels),
        baseline=diversity_within_labels(sets.baseline, sets.labels),
        reconstructions=diversity_within_labels(sets.reconstructions, sets.labels),
    )
    yield motion
    yield motion.over(motion.reconstructions, "relative to reconstructions", low=0.7, high=1.35)
    yield diversity
    yield diversity.over(diversity.reconstructions, "relative to reconstructions", low=0.6)


@torch.inference_mode()
def compare_features(
    sets: Sets, classifiers: Mapping[str, VideoClassifier], largest_ratio: float = LARGEST_ENERGY_RATIO
) -> Iterator[Row]:
    """Yield energy distances to the reconstructions.

    Args:
        largest_ratio: bound of the ratio of the distance of samples to that of the baseline.
    """
    for name, classifier in classifiers.items():
        real = classifier.features(sets.reconstructions)
        samples, baseline, reconstructions = (
            energy_distance_within_labels(classifier.features(videos), real, sets.labels)
            for videos in (sets.samples, sets.baseline, sets.more_reconstructions)
        )
        distance = Row(
            name=f"energy distance, {name}", samples=samples, baseline=baseline, reconstructions=reconstructions
        )
        yield distance
        yield distance.over(distance.baseline, "relative to the baseline", high=largest_ratio)


def compare_nearest(sets: Sets, chunks: Iterable[Float[Tensor, "_ 3 T H W"]]) -> Iterator[Row]:
    """Yield median distances to the nearest training clip, which show whether the samples are copies.

    Args:
        chunks: all training clips, in parts.
    """
    videos = (sets.samples, sets.baseline, sets.heldout)
    distances = nearest_clip_distances(torch.cat(videos), chunks).split([len(part) for part in videos])
    samples, baseline, heldout = (part.median().item() for part in distances)
    nearest = Row(name="nearest training clip", samples=samples, baseline=baseline, reconstructions=heldout)
    yield nearest
    yield nearest.over(heldout, "relative to held-out reconstructions", low=0.9)

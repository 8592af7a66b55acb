"""Statistics of generated videos: motion, diversity, distances. Pixels are in [0, 1]."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean_frame_difference(videos: Float[Tensor, "b c T H W"]) -> float:
    """Return the mean absolute difference of pixels between consecutive frames: motion and flicker.

    Raises:
        ValueError: if there are fewer than two frames.
    """
    if videos.shape[2] < 2:
        raise ValueError(f"videos must have at least two frames, got {videos.shape[2]}")
    return videos.diff(dim=2).abs().mean().item()


def diversity_within_labels(videos: Float[Tensor, "b c T H W"], labels: Int[Tensor, " b"]) -> float:
    """Return the mean distance between two videos of the same label, averaged over the labels.

    The distance is the root mean square difference of pixels.

    Raises:
        ValueError: if there is only one video of a label.
    """
    return torch.stack([_mean_distance(videos[labels == label], int(label)) for label in labels.unique()]).mean().item()


def energy_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'| of two sets: 0 for the same distribution, otherwise positive.

    The estimate is unbiased: the last two terms exclude the distance of a vector to itself. It may therefore be
    slightly negative.

    Raises:
        ValueError: if a set has fewer than two vectors.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"both sets must have at least two vectors, got {len(first)} and {len(second)}")
    first, second = first.double(), second.double()
    between = _distances(first, second).mean()
    return (2 * between - _mean_within(first) - _mean_within(second)).item()


def energy_distance_within_labels(
    first: Float[Tensor, "b f"], second: Float[Tensor, "b f"], labels: Int[Tensor, " b"]
) -> float:
    """Return the energy distance between the vectors of the same label in both sets, averaged over the labels.

    Over all labels at once, the estimate would be biased downwards, since sets with a fixed number of vectors of each
    label have fewer pairs of the same label within them than between them; and it would not depend on the labels.

    Args:
        labels: labels of the rows of both sets.
    """
    distances = [energy_distance(first[labels == label], second[labels == label]) for label in labels.unique()]
    return sum(distances) / len(distances)


def half_mirrored(videos: Float[Tensor, "b c T H W"], generator: torch.Generator) -> Float[Tensor, "b c T H W"]:
    """Mirror a random half of the videos, as training does: samples of a perfect model would be mirrored as often."""
    is_mirrored = torch.rand(len(videos), generator=generator) < 0.5
    return torch.where(is_mirrored.view(-1, 1, 1, 1, 1), videos.flip(-1), videos)


def nearest_clip_distances(
    videos: Float[Tensor, "b c T H W"], chunks: Iterable[Float[Tensor, "_ c T H W"]]
) -> Float[Tensor, " b"]:
    """Return the root mean square difference of pixels between each video and the clip nearest to it.

    Args:
        chunks: all clips, in parts, so that they need not fit into memory together.

    Raises:
        ValueError: if there are no clips, or if values are not finite.
    """
    queries = videos.flatten(1)
    smallest = torch.full((len(queries),), torch.inf)
    nearest = torch.zeros_like(queries)
    num_clips = 0
    for clips in chunks:
        num_clips += len(clips)
        candidates = clips.flatten(1)
        # |x - y|^2 without |x|^2, which is the same for all clips; a matrix product is fast but not exact
        distances = candidates.square().sum(dim=1) - 2 * (queries @ candidates.T)
        closest, indexes = distances.min(dim=1)
        is_nearer = closest < smallest
        smallest = torch.where(is_nearer, closest, smallest)
        nearest[is_nearer] = candidates[indexes[is_nearer]]
    if not smallest.isfinite().all():
        raise ValueError(f"there must be at least one clip, and all pixels must be finite, got {num_clips} clips")
    return (queries - nearest).square().mean(dim=1).sqrt()


def _mean_distance(videos: Float[Tensor, "b c T H W"], label: int) -> Float[Tensor, ""]:
    if len(videos) < 2:
        raise ValueError(f"each label must have at least two videos, got {len(videos)} of label {label}")
    pixels = videos.flatten(1)
    return _mean_within(pixels) / pixels.shape[1] ** 0.5


def _mean_within(vectors: Float[Tensor, "n f"]) -> Float[Tensor, ""]:
    """Return the mean distance between two different vectors of a set."""
    return _distances(vectors, vectors).sum() / (len(vectors) * (len(vectors) - 1))


def _distances(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    """Return distances computed from differences; with matrix products, equal vectors would not have distance 0."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")

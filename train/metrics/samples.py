"""Statistics of generated videos: motion, variety, distances. Pixels are in [0, 1]."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean_frame_difference(videos: Float[Tensor, "b c T H W"]) -> float:
    """Mean absolute difference of a pixel from one frame to the next: how much moves, or flickers.

    Raises:
        ValueError: there is one frame only.
    """
    if videos.shape[2] < 2:
        raise ValueError(f"frame differences need at least two frames, got {videos.shape[2]}")
    return videos.diff(dim=2).abs().mean().item()


def diversity_within_labels(videos: Float[Tensor, "b c T H W"], labels: Int[Tensor, " b"]) -> float:
    """Mean distance between two videos of the same label, averaged over the labels: 0 where each label has one video.

    The distance is the root mean square difference of pixels.

    Raises:
        ValueError: a label has one video only.
    """
    return torch.stack([_mean_distance(videos[labels == label], int(label)) for label in labels.unique()]).mean().item()


def energy_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| between two sets of features: 0 for the same distribution, else positive.

    The estimate is unbiased: pairs of a vector with itself are left out of the last two terms. So it may come out a
    little below 0.

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"both sets need at least two vectors, got {len(first)} and {len(second)}")
    first, second = first.double(), second.double()
    between = _distances(first, second).mean()
    return (2 * between - _mean_within(first) - _mean_within(second)).item()


def energy_distance_within_labels(
    first: Float[Tensor, "b f"], second: Float[Tensor, "b f"], labels: Int[Tensor, " b"]
) -> float:
    """The energy distance between the vectors of the same label in both sets, averaged over the labels.

    Over all labels at once the estimate would be below 0 for the same distribution, since sets with a fixed number of
    each label have fewer pairs of one label within them than between them. Nor would it see labels that are mixed up.

    Args:
        labels: of both sets, row for row.
    """
    distances = [energy_distance(first[labels == label], second[labels == label]) for label in labels.unique()]
    return sum(distances) / len(distances)


def nearest_clip_distances(
    videos: Float[Tensor, "b c T H W"], chunks: Iterable[Float[Tensor, "_ c T H W"]]
) -> Float[Tensor, " b"]:
    """The root mean square difference of pixels of each video from the clip that is nearest to it.

    Args:
        chunks: all clips, some at a time, so that they need not fit into memory together.

    Raises:
        ValueError: there are no clips, or values that are not finite.
    """
    queries = videos.flatten(1)
    smallest = torch.full((len(queries),), torch.inf)
    nearest = torch.zeros_like(queries)
    for clips in chunks:
        candidates = clips.flatten(1)
        # |x - y|^2 without |x|^2, which is the same for all clips; a product of matrices is quick but not exact
        distances = candidates.square().sum(dim=1) - 2 * (queries @ candidates.T)
        closest, indexes = distances.min(dim=1)
        is_nearer = closest < smallest
        smallest = torch.where(is_nearer, closest, smallest)
        nearest[is_nearer] = candidates[indexes[is_nearer]]
    if not smallest.isfinite().all():
        raise ValueError("every video needs finite pixels, and at least one clip to be near to")
    return (queries - nearest).square().mean(dim=1).sqrt()


def _mean_distance(videos: Float[Tensor, "b c T H W"], label: int) -> Float[Tensor, ""]:
    if len(videos) < 2:
        raise ValueError(f"diversity needs at least two videos of each label, got {len(videos)} of label {label}")
    pixels = videos.flatten(1)
    return _mean_within(pixels) / pixels.shape[1] ** 0.5


def _mean_within(vectors: Float[Tensor, "n f"]) -> Float[Tensor, ""]:
    """Mean distance between two different vectors of a set."""
    return _distances(vectors, vectors).sum() / (len(vectors) * (len(vectors) - 1))


def _distances(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    """Computed from differences: by products of matrices a vector would not be at distance 0 from itself."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")

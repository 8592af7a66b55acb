"""Fréchet distances between the features of two sets of frames in an ImageNet network.

`fd-lite0` is FID with EfficientNet-Lite0 instead of Inception; the two are not comparable. Neither depends on the order
of frames.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from ...tokenizer.efficientnet import EfficientNetLite0
from ...tokenizer.pixels import to_model_range

FRAME_SIZE = 128  # frames are resized to this square, so that resolutions can be compared
BATCH_SIZE = 32  # frames; the result does not depend on it


def fd_lite0(
    real: Float[Tensor, "n c T H W"], fake: Float[Tensor, "m c T H W"], network: EfficientNetLite0 | None = None
) -> float:
    """Return the Fréchet distance between the pooled features of frames in EfficientNet-Lite0: 0 for equal sets.

    It is biased upwards if there are few frames: compare it with `real_floor`, and only with distances between equally
    many frames.

    Args:
        real: videos in [0, 1].
        fake: videos in [0, 1].
        network: None loads it from its package.

    Raises:
        ValueError: if a set has fewer than two frames, or if the number of channels is not 1, 3 or 4.
        ModuleNotFoundError: if the package of the network is not installed.
    """
    network = network or EfficientNetLite0.from_package()
    return frechet_distance(lite0_features(real, network), lite0_features(fake, network))


def real_floor(real: Float[Tensor, "n c T H W"], network: EfficientNetLite0 | None = None, *, seed: int = 0) -> float:
    """Return `fd_lite0` between two random halves of real videos: its value for sets of the same distribution.

    The frames of a video stay in the same half, since they are similar. To compare with a distance between `n` fake and
    `n` real videos, pass 2 `n` real videos.

    Raises:
        ValueError: if there are fewer than two videos.
    """
    if len(real) < 2:
        raise ValueError(f"real must contain at least two videos, got {len(real)}")
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    half = len(real) // 2
    return fd_lite0(real[order[:half]], real[order[half : 2 * half]], network)


def frechet_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float:
    """Return the squared Fréchet (2-Wasserstein) distance between Gaussians with the means and covariances of two sets.

    It is |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), in double precision. With C = R^T R for each set, where
    R comes from the QR decomposition of its centred rows, the last trace is the sum of the singular values of R1 R2^T.
    This needs no matrix square root, and no regularization of singular covariances.

    Raises:
        ValueError: if a set has fewer than two vectors.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"both sets must have at least two vectors, got {len(first)} and {len(second)}")
    (mean1, root1), (mean2, root2) = (mean_and_root(vectors.double()) for vectors in (first, second))
    between = torch.linalg.svdvals(root1 @ root2.T).sum()
    distance = (mean1 - mean2).square().sum() + root1.square().sum() + root2.square().sum() - 2 * between
    return max(0.0, distance.item())  # rounding may make it slightly negative


def mean_and_root(vectors: Float[Tensor, "n f"]) -> tuple[Float[Tensor, " f"], Float[Tensor, "_ f"]]:
    """Return the mean, and a matrix R such that R^T R is the unbiased covariance."""
    mean = vectors.mean(dim=0)
    centred = (vectors - mean) / (len(vectors) - 1) ** 0.5
    return mean, torch.linalg.qr(centred, mode="r").R


@torch.inference_mode()
def lite0_features(videos: Float[Tensor, "n c T H W"], network: EfficientNetLite0) -> Float[Tensor, "frames 1280"]:
    """Return the pooled features of every frame of videos in [0, 1], on the CPU."""
    channels = videos.shape[1]
    if channels not in (1, 3, 4):
        raise ValueError(f"videos must have 1, 3 or 4 channels, got {channels}")
    rgb = repeat(videos, "n 1 T H W -> n 3 T H W") if channels == 1 else videos[:, :3]
    weight = network.classifier.weight
    features = []
    for frames in rearrange(rgb, "n c T H W -> (n T) c H W").split(BATCH_SIZE):
        square = F.interpolate(
            frames.to(weight), size=(FRAME_SIZE, FRAME_SIZE), mode="bilinear", align_corners=False, antialias=True
        )
        features.append(network.pooled_features(to_model_range(square)).cpu())
    return torch.cat(features)

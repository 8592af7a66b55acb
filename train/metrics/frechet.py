"""Fréchet distances between sets of frames, by the features of an ImageNet network.

`fd-lite0` is the figure that FID is with another network (EfficientNet-Lite0): the two cannot be compared, and neither
sees the order of frames.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from ...tokenizer.efficientnet import EfficientNetLite0
from ...tokenizer.pixels import to_model_range

FRAME_SIZE = 128  # frames are resized to this square, so that figures of several resolutions are on one scale
BATCH_SIZE = 32  # frames at a time; no figure depends on it


def fd_lite0(
    real: Float[Tensor, "n c T H W"], fake: Float[Tensor, "m c T H W"], network: EfficientNetLite0 | None = None
) -> float:
    """The Fréchet distance of EfficientNet-Lite0's pooled features of frames: 0 for the same frames, else positive.

    With few frames it is too large even between two sets of the same kind, by more the fewer there are: read it beside
    `real_floor`, and compare only figures of equally many frames.

    Args:
        real: videos in [0, 1], as are `fake`.
        network: loaded from its package where none is given.

    Raises:
        ValueError: fewer than two frames in a set, or channels other than 1, 3 or 4.
        ModuleNotFoundError: the package of the network is not installed.
    """
    network = network or EfficientNetLite0.from_package()
    return frechet_distance(lite0_features(real, network), lite0_features(fake, network))


def real_floor(real: Float[Tensor, "n c T H W"], network: EfficientNetLite0 | None = None, *, seed: int = 0) -> float:
    """`fd_lite0` between two random halves of real videos: what chance alone leaves in sets half as large.

    Whole videos go to either side; the frames of one are too much alike. A set of `n` videos to be judged against
    `n` real ones takes a floor from 2 `n` of them.

    Raises:
        ValueError: fewer than two videos.
    """
    if len(real) < 2:
        raise ValueError(f"two halves need at least two videos, got {len(real)}")
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    half = len(real) // 2
    return fd_lite0(real[order[:half]], real[order[half : 2 * half]], network)


def frechet_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float:
    """The squared Fréchet (2-Wasserstein) distance between the Gaussians with the means and covariances of two sets.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), in double precision. With C = R^T R of each set (R from the QR
    decomposition of its centred rows) the last trace is the sum of the singular values of R1 R2^T. So no root of a
    matrix is taken, and sets of fewer vectors than features, whose covariances are singular, need nothing added to
    them.

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"both sets need at least two vectors, got {len(first)} and {len(second)}")
    (mean1, root1), (mean2, root2) = (mean_and_root(vectors.double()) for vectors in (first, second))
    between = torch.linalg.svdvals(root1 @ root2.T).sum()
    distance = (mean1 - mean2).square().sum() + root1.square().sum() + root2.square().sum() - 2 * between
    return max(0.0, distance.item())  # rounding may leave equal sets a little below


def mean_and_root(vectors: Float[Tensor, "n f"]) -> tuple[Float[Tensor, " f"], Float[Tensor, "_ f"]]:
    """The mean, and R of which R^T R is the (unbiased) covariance."""
    mean = vectors.mean(dim=0)
    centred = (vectors - mean) / (len(vectors) - 1) ** 0.5
    return mean, torch.linalg.qr(centred, mode="r").R


@torch.inference_mode()
def lite0_features(videos: Float[Tensor, "n c T H W"], network: EfficientNetLite0) -> Float[Tensor, "frames 1280"]:
    """The pooled features of every frame of videos in [0, 1], on the CPU."""
    channels = videos.shape[1]
    if channels not in (1, 3, 4):
        raise ValueError(f"frames are judged with 1, 3 or 4 channels, got {channels}")
    rgb = repeat(videos, "n 1 T H W -> n 3 T H W") if channels == 1 else videos[:, :3]
    weight = network.classifier.weight
    features = []
    for frames in rearrange(rgb, "n c T H W -> (n T) c H W").split(BATCH_SIZE):
        square = F.interpolate(
            frames.to(weight), size=(FRAME_SIZE, FRAME_SIZE), mode="bilinear", align_corners=False, antialias=True
        )
        features.append(network.pooled_features(to_model_range(square)).cpu())
    return torch.cat(features)

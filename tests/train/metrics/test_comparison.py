from dataclasses import replace

import pytest
import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from magvit2_pytorch.train.metrics.baseline import independent_codes
from magvit2_pytorch.train.metrics.classifiers import VideoClassifier
from magvit2_pytorch.train.metrics.comparison import (
    Sets,
    compare_features,
    compare_labels,
    compare_nearest,
    compare_pixels,
)

LABELS = torch.arange(2).repeat_interleave(24)


class Oracle(VideoClassifier):
    """Knows what `waves` does: label 0 is dark, label 1 is bright. Its features are the pixels."""

    def features(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b f"]:
        return videos.flatten(1)

    def forward(self, videos: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b v"]:
        brightness = videos.mean(dim=(1, 2, 3, 4))
        return torch.stack([0.5 - brightness, brightness - 0.5], dim=1).log_softmax(dim=-1)


def waves(labels: Int[Tensor, " b"]) -> Int[Tensor, "b t h w"]:
    """Codes of clips in which a wave of random phase runs to the right."""
    phase = 2 * torch.pi * torch.rand(len(labels), 1, 1, 1)
    time, height, width = torch.arange(5)[:, None, None], torch.arange(8)[:, None], torch.arange(8)
    wave = torch.sin(phase + (width + height - time) / 3)
    return (80 + 90 * labels[:, None, None, None] + 60 * wave).long()


def draw(codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b 3 t h w"]:
    return repeat(codes / 255, "b t h w -> b c t h w", c=3)


@pytest.fixture
def trained_on() -> Int[Tensor, "b t h w"]:
    return waves(LABELS)


@pytest.fixture
def sets(trained_on: Int[Tensor, "b t h w"]) -> Sets:
    without_model = independent_codes(trained_on, LABELS, LABELS, torch.Generator().manual_seed(0))
    samples, reconstructions, more_reconstructions, heldout = (draw(waves(LABELS)) for _ in range(4))
    return Sets(
        labels=LABELS,
        samples=samples,
        baseline=draw(without_model),
        reconstructions=reconstructions,
        more_reconstructions=more_reconstructions,
        heldout=heldout,
    )


def missed(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> list[str]:
    classifiers = {"brightness": Oracle()}
    rows = [*compare_labels(sets, classifiers), *compare_pixels(sets), *compare_features(sets, classifiers)]
    rows += compare_nearest(sets, draw(trained_on).split(10))
    return [row.name for row in rows if row.is_missed]


def test_videos_of_the_right_distribution_keep_every_bound(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> None:
    assert missed(sets, trained_on) == []


def test_the_baseline_in_place_of_samples_is_found_out(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> None:
    assert missed(replace(sets, samples=sets.baseline), trained_on) == [
        "mean frame difference, relative to reconstructions",
        "energy distance, brightness, relative to the baseline",
    ]


def test_copies_of_training_clips_are_found_out(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> None:
    copies = replace(sets, samples=draw(trained_on))

    assert missed(copies, trained_on) == ["nearest training clip, relative to held-out reconstructions"]


def test_one_video_for_each_label_is_found_out(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> None:
    collapsed = replace(sets, samples=sets.samples[[0, 24]].repeat_interleave(24, dim=0))

    assert "diversity within labels, relative to reconstructions" in missed(collapsed, trained_on)


def test_videos_of_the_wrong_label_are_found_out(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> None:
    mixed_up = replace(sets, samples=sets.samples.roll(24, dims=0))

    assert missed(mixed_up, trained_on) == [
        "label accuracy, brightness",
        "energy distance, brightness, relative to the baseline",
    ]


def test_still_videos_are_found_out(sets: Sets, trained_on: Int[Tensor, "b t h w"]) -> None:
    still = replace(sets, samples=sets.samples[:, :, :1].expand_as(sets.samples))

    assert "mean frame difference, relative to reconstructions" in missed(still, trained_on)

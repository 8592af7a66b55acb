from dataclasses import replace

import numpy as np
import pytest
import torch

from magvit2_pytorch.train.data import VideoData
from magvit2_pytorch.train.data.index import RangeIndex
from magvit2_pytorch.train.data.windows import Ranges
from magvit2_pytorch.train.metrics.classifiers import (
    FrameClassifier,
    SpaceTimeClassifier,
    VideoClassifier,
    accuracy,
    disturb,
    train_classifier,
)

BOTH = pytest.mark.parametrize("classifier_class", [FrameClassifier, SpaceTimeClassifier])


@BOTH
def test_a_classifier_learns_labels_that_can_be_seen(
    classifier_class: type[VideoClassifier], stripes_data: VideoData
) -> None:
    classifier = train_classifier(classifier_class, stripes_data, num_steps=40, progress=False)

    videos = torch.stack([stripes_data.heldout.video(index) for index in range(20)]) / 2 + 0.5
    assert not classifier.training
    assert accuracy(classifier, videos, torch.arange(20) % 2) == 1
    assert accuracy(classifier, videos, 1 - torch.arange(20) % 2) == 0


@BOTH
def test_a_classifier_is_a_function_of_the_seed(
    classifier_class: type[VideoClassifier], stripes_data: VideoData
) -> None:
    def trained(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)
        return train_classifier(classifier_class, stripes_data, seed=seed, num_steps=2, progress=False).head.weight

    assert torch.equal(trained(3), trained(3))
    assert not torch.equal(trained(3), trained(4))


def test_training_looks_at_no_blank_and_at_no_held_out_window(stripes_data: VideoData, asked_windows: set[int]) -> None:
    train_classifier(FrameClassifier, stripes_data, num_steps=1, progress=False)

    assert asked_windows == {window for window in range(60) if window % 5 != 4}


def test_a_label_with_blank_windows_only_is_refused(stripes_data: VideoData) -> None:
    files = Ranges.of([(4, 0, 1), (9, 0, 1), (10, 0, 1)])
    index = RangeIndex.of(files, span=1, labels=np.arange(11) % 2)

    with pytest.raises(ValueError, match="label 1 is blank"):
        train_classifier(FrameClassifier, replace(stripes_data, train=replace(stripes_data.train, index=index)))


@torch.no_grad()
def test_the_frame_classifier_alone_is_blind_to_the_order_of_frames() -> None:
    videos = torch.rand(3, 3, 9, 16, 16)
    shuffled = videos[:, :, torch.randperm(9)]
    frames, space_time = FrameClassifier(4).eval(), SpaceTimeClassifier(4).eval()

    torch.testing.assert_close(frames(shuffled), frames(videos))
    torch.testing.assert_close(frames.features(shuffled), frames.features(videos))
    assert not torch.allclose(space_time(shuffled), space_time(videos), atol=1e-4)


@BOTH
@torch.no_grad()
def test_the_judgement_of_a_video_does_not_depend_on_the_others(classifier_class: type[VideoClassifier]) -> None:
    classifier, videos = classifier_class(4).eval(), torch.rand(3, 3, 5, 16, 16)

    torch.testing.assert_close(classifier(videos)[1:2], classifier(videos[1:2]))
    torch.testing.assert_close(classifier(videos).exp().sum(dim=-1) <= 1.001, torch.tensor([True] * 3))


def test_disturbed_videos_are_mirrored_only_where_that_is_allowed() -> None:
    videos = torch.zeros(16, 3, 2, 16, 16)
    videos[..., :8] = 1

    def is_mirrored(*, flip: bool) -> torch.Tensor:
        left, right = disturb(videos, torch.Generator().manual_seed(0), flip=flip).chunk(2, dim=-1)
        return left.mean(dim=(1, 2, 3, 4)) < right.mean(dim=(1, 2, 3, 4))

    assert not is_mirrored(flip=False).any()
    assert 0 < is_mirrored(flip=True).sum() < 16

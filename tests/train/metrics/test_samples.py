import itertools
import math

import pytest
import torch

from magvit2_pytorch.train.metrics.samples import (
    diversity_within_labels,
    energy_distance,
    energy_distance_within_labels,
    half_mirrored,
    mean_frame_difference,
    nearest_clip_distances,
)


def test_the_frame_difference_of_a_steady_fade_is_its_speed() -> None:
    brightness = torch.tensor([0.1, 0.3, 0.5, 0.3, 0.1])
    videos = brightness[None, None, :, None, None].expand(2, 3, 5, 4, 4)

    assert mean_frame_difference(videos) == pytest.approx(0.2)


def test_a_still_picture_has_no_frame_difference() -> None:
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        mean_frame_difference(torch.rand(2, 3, 1, 4, 4))


def test_identical_videos_of_a_label_have_no_diversity() -> None:
    videos = torch.rand(2, 3, 2, 8, 8).repeat_interleave(3, dim=0)

    assert diversity_within_labels(videos, torch.tensor([0, 0, 0, 1, 1, 1])) == 0


def test_diversity_is_the_mean_over_labels_of_the_mean_distance_within_each() -> None:
    videos, labels = torch.rand(7, 3, 2, 4, 4), torch.tensor([5, 2, 2, 5, 2, 5, 5])

    means = []
    for label in (2, 5):
        pairs = itertools.combinations(videos[labels == label], 2)
        distances = [(first - second).square().mean().sqrt() for first, second in pairs]
        means.append(torch.stack(distances).mean())

    assert diversity_within_labels(videos, labels) == pytest.approx(torch.stack(means).mean().item(), rel=1e-5)


def test_the_diversity_of_a_single_video_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1 of label 1"):
        diversity_within_labels(torch.rand(3, 3, 2, 4, 4), torch.tensor([0, 0, 1]))


def test_the_energy_distance_equals_brute_force_over_all_pairs() -> None:
    first, second = torch.randn(5, 3), torch.randn(4, 3) + 1

    between = [math.dist(x, y) for x in first.tolist() for y in second.tolist()]
    within = [[math.dist(x, y) for x, y in itertools.combinations(vectors.tolist(), 2)] for vectors in (first, second)]
    expected = 2 * sum(between) / 20 - sum(within[0]) / 10 - sum(within[1]) / 6

    assert energy_distance(first, second) == pytest.approx(expected)


def test_the_energy_distance_of_the_same_distribution_is_zero_on_average() -> None:
    distances = torch.tensor([energy_distance(torch.randn(10, 4), torch.randn(15, 4)) for _ in range(400)])

    standard_error = distances.std() / len(distances) ** 0.5
    assert distances.mean().abs() < 3 * standard_error
    assert distances.min() < 0


def test_the_energy_distance_grows_as_distributions_move_apart() -> None:
    first, second = torch.randn(50, 4), torch.randn(50, 4)

    distances = [energy_distance(first, second + shift) for shift in (0.0, 0.5, 1.0, 2.0)]

    assert distances == sorted(distances)


def test_labels_that_are_mixed_up_are_far_from_each_other() -> None:
    labels = torch.arange(2).repeat_interleave(20)
    first, second = (torch.randn(40, 3) + 10 * labels[:, None] for _ in range(2))
    mixed_up = second.roll(20, dims=0)

    assert energy_distance(first, mixed_up) == pytest.approx(energy_distance(first, second))
    assert abs(energy_distance_within_labels(first, second, labels)) < 0.5
    assert energy_distance_within_labels(first, mixed_up, labels) > 10


def test_the_energy_distance_within_labels_is_zero_on_average_for_the_same_distribution() -> None:
    labels = torch.arange(4).repeat_interleave(5)

    def features() -> torch.Tensor:
        return torch.randn(20, 3) + 5 * labels[:, None]

    distances = torch.tensor([energy_distance_within_labels(features(), features(), labels) for _ in range(200)])
    assert distances.mean().abs() < 3 * distances.std() / len(distances) ** 0.5


def test_nearest_clips_equal_brute_force_however_the_clips_are_chunked() -> None:
    videos, clips = torch.rand(4, 3, 2, 4, 4), torch.rand(11, 3, 2, 4, 4)

    expected = torch.stack([(clips - video).square().mean(dim=(1, 2, 3, 4)).sqrt().min() for video in videos])

    for size in (1, 4, 11):
        torch.testing.assert_close(nearest_clip_distances(videos, clips.split(size)), expected)


def test_a_copy_of_a_clip_is_at_distance_zero_from_it() -> None:
    clips = torch.rand(20, 3, 4, 16, 16)

    assert nearest_clip_distances(clips[[3, 17]], clips.split(8)).tolist() == [0, 0]


def test_without_clips_nothing_is_near() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        nearest_clip_distances(torch.rand(2, 3, 2, 4, 4), [])


def test_about_half_of_the_videos_are_mirrored_and_the_others_unchanged() -> None:
    videos = torch.rand(200, 3, 2, 4, 4)
    result = half_mirrored(videos, torch.Generator().manual_seed(0))

    is_mirrored = (result == videos.flip(-1)).flatten(1).all(dim=1)
    is_unchanged = (result == videos).flatten(1).all(dim=1)
    assert (is_mirrored ^ is_unchanged).all()
    assert 70 < is_mirrored.sum() < 130

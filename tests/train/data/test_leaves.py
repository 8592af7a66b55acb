import numpy as np
import pytest
import torch

from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.data.leaves import IN_FRONT, camera_path, draw_picture, leaf_sizes, render_clip

SIZE = {"num_frames": 5, "stride": 1, "resolution": 32}


def clips(number: int, **changes: int) -> np.ndarray:
    return np.stack([render_clip((0, 0), index, **SIZE | changes) for index in range(number)]) / 255


def test_a_clip_depends_on_seed_and_number_alone() -> None:
    first = render_clip((0, 1), 3, **SIZE)
    np.random.default_rng(0).random()
    torch.rand(3)

    assert (render_clip((0, 1), 3, **SIZE) == first).all()
    assert (render_clip((0, 1), 4, **SIZE) != first).any()
    assert (render_clip((1, 1), 3, **SIZE) != first).any()


def test_a_stride_leaves_frames_out() -> None:
    every = render_clip((0, 0), 1, **SIZE | {"num_frames": 9})

    assert (render_clip((0, 0), 1, **SIZE | {"stride": 2}) == every[::2]).all()


def test_the_power_spectrum_falls_as_that_of_photographs() -> None:
    grey = clips(64, resolution=64, num_frames=1).mean(axis=-1)[:, 0]
    power = (np.abs(np.fft.fft(grey - grey.mean())) ** 2).mean(axis=(0, 1))[1:28]

    slope, _ = np.polyfit(np.log(np.arange(1, 28)), np.log(power), 1)

    assert -2.4 < slope < -1.4  # photographs: about -2; white noise: 0


def test_frames_move_a_little_and_some_clips_stand_still() -> None:
    change = np.abs(np.diff(clips(96), axis=1)).mean(axis=(1, 2, 3, 4))
    other = np.abs(np.diff(clips(97)[:, 0], axis=0)).mean()

    assert 0.02 < (change < 1e-3).mean() < 0.5
    assert 0.005 < np.median(change) < other / 3


def test_colours_are_neither_grey_nor_garish() -> None:
    pixels = clips(64).reshape(-1, 3)

    assert 0.02 < pixels.std(axis=1).mean() < 0.2
    assert 0.2 < pixels.mean() < 0.6


def test_small_leaves_are_many() -> None:
    sizes = [leaf_sizes(np.random.default_rng(seed), None) for seed in range(20)]

    assert 0.6 < np.mean([(radii < 2 * radii.min()).mean() for radii in sizes]) < 0.95
    assert max(radii.max() for radii in sizes) > 0.5


def test_what_lies_in_front_has_holes() -> None:
    opacity = draw_picture((0,), IN_FRONT, 32)[3]

    assert 0.05 < opacity.mean() < 0.95
    assert ((opacity == 0) | (opacity > 0.99)).float().mean() > 0.8


def test_a_long_clip_never_leaves_the_picture() -> None:
    path = camera_path(np.random.default_rng(0), 10_000)

    assert np.abs([path.x, path.y]).max() <= 1
    assert 0.5 < path.scale.min() <= path.scale.max() < 2
    assert render_clip((0, 0), 0, num_frames=300, stride=1, resolution=8).std() > 1


def test_it_is_a_source_with_one_label() -> None:
    data = load_data(DataConfig(path="leaves", resolution=16, num_frames=3))

    assert data.labels == ("leaves",)
    first = data.train.every_window()[0]
    assert first["video"].shape == (3, 3, 16, 16)
    assert not torch.equal(first["video"], data.heldout[0]["video"])


def test_a_picture_of_any_size_shows_the_same_scene() -> None:
    small = torch.from_numpy(render_clip((0, 0), 2, **SIZE)).float()
    large = torch.from_numpy(render_clip((0, 0), 2, **SIZE | {"resolution": 64})).float()
    shrunk = torch.nn.functional.avg_pool2d(large.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)

    assert (small - shrunk).abs().mean() == pytest.approx(0, abs=16)

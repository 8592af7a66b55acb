import time

import numpy as np
import pytest
import torch

from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.shapes import (
    LARGEST,
    MOTIONS,
    SMALLEST,
    anticlockwise,
    clockwise,
    grow,
    render_clip,
    shrink,
    slide,
)


def motion_seen_in(frames: np.ndarray) -> str:
    """The motion as the centre and the area of the shape tell it, measured on the pixels alone."""
    is_bright = frames.mean(axis=-1) > 127.5
    is_shape = is_bright if is_bright.mean() < 0.5 else ~is_bright
    area = is_shape.mean(axis=(1, 2))
    if area[-1] > 1.3 * area[0]:
        return "grow"
    if area[0] > 1.3 * area[-1]:
        return "shrink"
    circle = np.exp(2j * np.pi * np.arange(frames.shape[1]) / frames.shape[1])
    places = [np.angle((is_shape.sum(axis=axis) * circle).sum(axis=1)) for axis in (1, 2)]
    dx, dy = (np.angle(np.exp(1j * np.diff(place))) for place in places)
    if np.hypot(dx, dy).mean() < 2 * np.pi * 0.01:  # it has grown or shrunk to its end
        return "grow" if area.mean() > 0.08 else "shrink"
    turning = dx[:-1] * dy[1:] - dy[:-1] * dx[1:]
    if abs(turning.sum()) > 0.1 * np.hypot(dx, dy).sum() ** 2 / len(dx):
        return "clockwise" if turning.sum() > 0 else "anticlockwise"
    if abs(dx.sum()) > abs(dy.sum()):
        return "right" if dx.sum() > 0 else "left"
    return "down" if dy.sum() > 0 else "up"


@pytest.mark.parametrize("stride", [1, 3])
def test_the_label_is_the_motion_that_one_sees(stride: int) -> None:
    data = load_data(DataConfig(path="shapes", frame_stride=stride))

    for index in range(96):
        example = data.heldout[index]
        frames = ((example["video"] + 1) * 127.5).round().movedim(0, -1).numpy()
        assert motion_seen_in(frames) == data.labels[int(example["label"])]


def test_half_of_the_clips_stay_inside_the_frame_and_the_others_begin_anywhere() -> None:
    first, last = [], []
    for index in range(400):
        along, _, radius = slide(np.random.default_rng(index), 17, 1)
        first.append(along[0] - radius[0])
        last.append(along[-1] + radius[0])

    is_inside = (np.array(first) > 0) & (np.array(last) < 1)
    crossing, _ = np.histogram(np.array(last)[~is_inside] % 1, bins=4, range=(0, 1))
    assert 0.45 < is_inside.mean() < 0.65
    assert crossing.min() > 20


def test_a_shape_grows_until_it_is_the_largest_and_stays_so() -> None:
    is_full = []
    for index in range(200):
        radius = grow(np.random.default_rng(index), 17, 1).radius
        steps = np.diff(np.log(radius))
        is_growing = radius[1:] < LARGEST - 1e-9
        assert radius.min() >= SMALLEST
        assert np.allclose(steps[is_growing], steps[0])
        assert steps[0] >= 0.05 or not is_growing[0]
        assert np.allclose(radius[1:][~is_growing], LARGEST)
        is_full.append(~is_growing[0])
        np.testing.assert_allclose(
            shrink(np.random.default_rng(index), 17, 1).radius * radius, np.full(17, SMALLEST * LARGEST)
        )
    assert 0.01 < np.mean(is_full) < 0.2


def test_circles_go_around_the_middle_and_stay_inside() -> None:
    for index in range(100):
        for motion, sign in ((clockwise, 1), (anticlockwise, -1)):
            track = motion(np.random.default_rng(index), 17, 1)
            way = (track.x - 0.5) + 1j * (track.y - 0.5)
            turn = sign * np.angle(way[1:] / way[:-1])
            assert np.allclose(np.abs(way), np.abs(way[0]))
            assert np.allclose(turn, turn[0])
            assert 0 < turn[0] < np.pi / 4
            for place in (track.x, track.y):
                assert (place - track.radius).min() >= 0
                assert (place + track.radius).max() <= 1


def test_half_of_the_circles_begin_near_the_top_and_others_anywhere() -> None:
    first = []
    for index in range(400):
        for motion in (clockwise, anticlockwise):
            track = motion(np.random.default_rng(index), 17, 1)
            first.append(np.angle((track.y[0] - 0.5) * -1 + 1j * (track.x[0] - 0.5)))  # from the top
    counts, _ = np.histogram(first, bins=4, range=(-np.pi, np.pi))
    near_top = np.mean(np.abs(first) < np.pi / 4)
    assert 0.55 < near_top < 0.7
    assert (counts > 60).all()


def test_all_motions_are_equally_frequent(shapes: VideoData) -> None:
    for clips, num_clips in ((shapes.train.every_window(), 4096), (shapes.heldout, 256)):
        assert len(clips) == num_clips
        assert np.bincount(clips.table["label"]).tolist() == [num_clips // 8] * 8
    assert len(shapes.train) == 4096
    assert shapes.labels == tuple(MOTIONS)


def test_a_clip_depends_on_its_seed_and_number_alone() -> None:
    first = render_clip((3, 0), 5, num_frames=4, stride=1, resolution=16)
    render_clip((3, 0), 6, num_frames=4, stride=1, resolution=16)

    assert np.array_equal(render_clip((3, 0), 5, num_frames=4, stride=1, resolution=16), first)


def test_no_clip_is_like_another(shapes: VideoData) -> None:
    others = load_data(DataConfig(path="shapes", resolution=16, num_frames=5, seed=1))
    data = (shapes.train.every_window(), shapes.heldout, others.train.every_window())
    clips = [part.video(index) for part in data for index in range(40)]

    distances = torch.cdist(torch.stack(clips).flatten(1), torch.stack(clips).flatten(1))

    assert distances.fill_diagonal_(torch.inf).min() > 1


def test_edges_are_soft_at_any_resolution() -> None:
    coarse, fine = (
        render_clip((0,), 0, num_frames=2, stride=1, resolution=resolution).astype(float) for resolution in (16, 128)
    )

    averaged = fine.reshape(2, 16, 8, 16, 8, 3).mean(axis=(2, 4))

    assert np.abs(averaged - coarse).max() < 32
    assert np.abs(averaged - coarse).mean() < 2


def test_the_stride_is_the_speed(shapes: VideoData) -> None:
    doubled = load_data(DataConfig(path="shapes", resolution=16, num_frames=3, frame_stride=2))
    growing = list(MOTIONS).index("grow")

    slow, fast = (data.train.every_window().video(growing) for data in (shapes, doubled))

    torch.testing.assert_close(fast, slow[:, ::2])


def test_a_mirrored_motion_is_another_label(shapes: VideoData) -> None:
    assert not shapes.allows_flip


def test_one_clip_takes_a_moment() -> None:
    started = time.process_time()
    for index in range(40):
        render_clip((0,), index, num_frames=17, stride=1, resolution=64)

    assert (time.process_time() - started) / 40 < 0.02

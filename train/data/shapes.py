"""Moving shapes: an endless labelled source without files. The label is the motion.

There are few colours, the background is plain and all shapes are upright, so that a model can learn some of the motion
in minutes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

Numbers = np.random.Generator

VERSION = 8  # increase it if the same seed gives other clips; otherwise old tables of codes would be reused
SMALLEST, LARGEST = 0.12, 0.34  # radius of a growing or shrinking shape, in widths of the frame
FASTEST_STEP = 0.25  # per frame; half a frame or more would look like the opposite motion
FASTEST_TURN = math.radians(60)
NEAR_TOP = math.radians(45)
CORNERS = (0, 4, 3)  # circle, square, triangle
UPRIGHT = math.pi / 2  # direction of one edge of each shape: down
BACKGROUND = np.array([0.06, 0.06, 0.12], np.float32)  # red, green, blue
COLOURS = np.array([(1.0, 0.42, 0.36), (1.0, 0.84, 0.3), (0.4, 0.76, 1.0)], np.float32)


class Track(NamedTuple):
    """Position and size of a shape in widths of the frame. A shape that leaves on one side enters on the other."""

    x: Float[np.ndarray, " T"]
    y: Float[np.ndarray, " T"]  # downwards
    radius: Float[np.ndarray, " T"]  # of the circumscribed circle


def slide(numbers: Numbers, num_frames: int, stride: int) -> tuple[Float[np.ndarray, " T"], ...]:
    """Return the positions along and across the motion, and the radius.

    Half of the clips stay inside the frame if the distance is short enough. The others start anywhere, so that a model
    of short clips learns how a motion continues at the edge.
    """
    step = min(stride * numbers.uniform(0.02, 0.04), FASTEST_STEP)
    radius = numbers.uniform(0.14, 0.22)
    room = max(0.0, 1 - 2 * radius - step * (num_frames - 1))
    place = 2 * numbers.random()
    first = radius + room * place if place < 1 else place - 1
    along = first + step * np.arange(num_frames)
    across = numbers.uniform(radius, 1 - radius)
    return along, np.full(num_frames, across), np.full(num_frames, radius)


def left(numbers: Numbers, num_frames: int, stride: int) -> Track:
    along, across, radius = slide(numbers, num_frames, stride)
    return Track(1 - along, across, radius)


def right(numbers: Numbers, num_frames: int, stride: int) -> Track:
    along, across, radius = slide(numbers, num_frames, stride)
    return Track(along, across, radius)


def up(numbers: Numbers, num_frames: int, stride: int) -> Track:
    along, across, radius = slide(numbers, num_frames, stride)
    return Track(across, 1 - along, radius)


def down(numbers: Numbers, num_frames: int, stride: int) -> Track:
    along, across, radius = slide(numbers, num_frames, stride)
    return Track(across, along, radius)


def clockwise(numbers: Numbers, num_frames: int, stride: int) -> Track:
    """Move a shape around the middle of the frame without rotating it.

    Half of the clips start near the top, so that the position of a shape tells the direction, as for shapes that slide.
    The others start anywhere, like later parts of a long clip.
    """
    turn = min(stride * math.radians(numbers.uniform(9, 11)), FASTEST_TURN)
    spread = NEAR_TOP if numbers.random() < 0.5 else math.pi
    angle = -math.pi / 2 + numbers.uniform(-spread, spread) + turn * np.arange(num_frames)
    radius, distance = numbers.uniform(0.15, 0.17), numbers.uniform(0.28, 0.3)
    return Track(0.5 + distance * np.cos(angle), 0.5 + distance * np.sin(angle), np.full(num_frames, radius))


def anticlockwise(numbers: Numbers, num_frames: int, stride: int) -> Track:
    track = clockwise(numbers, num_frames, stride)
    return track._replace(x=1 - track.x)


def grow(numbers: Numbers, num_frames: int, stride: int) -> Track:
    """Enlarge a shape by the same factor in each frame, up to the largest size, which it then keeps.

    It starts at any size, so that a model of short clips learns what follows at the largest size. No other motion
    ends in a large shape that stands still.
    """
    smallest, largest = math.log(SMALLEST), math.log(LARGEST)
    first = numbers.uniform(smallest, largest)
    step = stride * numbers.uniform(0.05, 0.08)
    radius = np.exp((first + step * np.arange(num_frames)).clip(max=largest))
    x, y = numbers.uniform(LARGEST, 1 - LARGEST, size=2)
    return Track(np.full(num_frames, x), np.full(num_frames, y), radius)


def shrink(numbers: Numbers, num_frames: int, stride: int) -> Track:
    """Shrink a shape as `grow` enlarges it. It ends in a small shape that stands still."""
    track = grow(numbers, num_frames, stride)
    return track._replace(radius=SMALLEST * LARGEST / track.radius)


MOTIONS: dict[str, Callable[[Numbers, int, int], Track]] = {
    motion.__name__: motion for motion in (left, right, up, down, clockwise, anticlockwise, grow, shrink)
}


def render_clip(
    seed: tuple[int, ...], index: int, *, num_frames: int, stride: int, resolution: int
) -> UInt8[np.ndarray, "T H W 3"]:
    """Return clip number `index`, whose label is `index` modulo the number of motions."""
    numbers = np.random.default_rng((*seed, index))
    track = list(MOTIONS.values())[index % len(MOTIONS)](numbers, num_frames, stride)
    num_corners = CORNERS[numbers.integers(len(CORNERS))]
    coverage = draw_shape(track, num_corners, resolution)[..., None]

    colour = COLOURS[numbers.integers(len(COLOURS))]
    picture = BACKGROUND + coverage * (colour - BACKGROUND)
    return np.rint(picture * 255).astype(np.uint8)


def draw_shape(track: Track, num_corners: int, resolution: int) -> Float[np.ndarray, "T resolution resolution"]:
    """Return the share of each pixel that the shape covers, from its distance to the nearest edge."""
    middles = (np.arange(resolution) + 0.5) / resolution
    dx = wrapped(middles - track.x[:, None])[:, None, :]
    dy = wrapped(middles - track.y[:, None])[:, :, None]
    radius = track.radius[:, None, None].astype(np.float32)
    if num_corners == 0:
        distance = np.sqrt(dx**2 + dy**2) - radius
    else:
        angles = UPRIGHT + 2 * math.pi * np.arange(num_corners) / num_corners
        edges = [dx * np.float32(math.cos(angle)) + dy * np.float32(math.sin(angle)) for angle in angles]
        distance = np.maximum.reduce(edges) - radius * np.float32(math.cos(math.pi / num_corners))
    return (0.5 - distance * np.float32(resolution)).clip(0, 1)


def wrapped(distance: Float[np.ndarray, "T places"]) -> Float[np.ndarray, "T places"]:
    """Return the shortest distance in a frame whose opposite sides are joined."""
    return ((distance + 0.5) % 1 - 0.5).astype(np.float32)

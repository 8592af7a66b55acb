"""Recognition of the motion of a single shape by its position and size, without a learned model."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.shapes import MOTIONS

LEAST_GROWTH = 1.5  # smallest factor of the area from the first to the last frame
LARGE = 0.08  # share of the frame between the final sizes of growing and of shrinking shapes
STILL = 0.01  # widths of the frame per frame; the slowest motion has 0.02
LEAST_TURN = 0.1  # radians per frame; the slowest circle has 0.14


def seen_motions(videos: Float[Tensor, "b 3 T H W"]) -> Int[Tensor, " b"]:
    """Return the index in `MOTIONS` of the motion in each video in [0, 1], or -1 if a frame has no shape.

    If the area of the shape changes enough, it grows or shrinks. Otherwise, if it stands still, its size tells whether
    it has grown or shrunk before. Otherwise, if the direction turns, it moves in a circle; if not, the largest part of
    its displacement tells the direction.
    """
    is_shape = shapes_in(videos)
    area = is_shape.double().mean(dim=(2, 3))
    rows, columns = (steps_along(is_shape, axis) for axis in (2, 3))
    length = (rows.square() + columns.square()).sum(dim=1)
    turned = (columns[:, :-1] * rows[:, 1:] - rows[:, :-1] * columns[:, 1:]).sum(dim=1)
    down, right = rows.sum(dim=1), columns.sum(dim=1)

    number = {name: index for index, name in enumerate(MOTIONS)}
    across = torch.where(right > 0, number["right"], number["left"])
    along = torch.where(down > 0, number["down"], number["up"])
    motion = torch.where(right.abs() > down.abs(), across, along)
    around = torch.where(turned > 0, number["clockwise"], number["anticlockwise"])
    motion = torch.where(turned.abs() > LEAST_TURN * length, around, motion)
    is_still = (length / rows.shape[1]).sqrt() < 2 * math.pi * STILL
    ended = torch.where(area.mean(dim=1) > LARGE, number["grow"], number["shrink"])
    motion = torch.where(is_still, ended, motion)
    motion = torch.where(area[:, -1] > LEAST_GROWTH * area[:, 0], number["grow"], motion)
    motion = torch.where(area[:, 0] > LEAST_GROWTH * area[:, -1], number["shrink"], motion)
    return torch.where((area > 0).all(dim=1), motion, -1)


def shapes_in(videos: Float[Tensor, "b 3 T H W"]) -> Bool[Tensor, "b T H W"]:
    """Return the mask of the shape: pixels brighter than 0.5, or the others if they are fewer."""
    is_bright = videos.mean(dim=1) > 0.5
    is_mostly_bright = is_bright.double().mean(dim=(1, 2, 3)) > 0.5
    return is_bright ^ is_mostly_bright[:, None, None, None]


def steps_along(is_shape: Bool[Tensor, "b T H W"], axis: int) -> Float[Tensor, "b T-1"]:
    """Return the displacement of the middle of the shape per frame, in radians: the frame is periodic.

    Args:
        axis: 2 for down, 3 for right.
    """
    size = is_shape.shape[axis]
    angles = 2 * math.pi * torch.arange(size, dtype=torch.float64, device=is_shape.device) / size
    counts = is_shape.double().sum(dim=5 - axis)
    places = torch.complex(counts @ angles.cos(), counts @ angles.sin())
    return (places[:, 1:] * places[:, :-1].conj()).angle()

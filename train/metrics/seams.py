"""Continuity of long videos at the seams between generated windows, compared with that inside windows.

Pixels are in [0, 1]. Metrics of frames compare frame k with the frames before it; they are NaN if there are too few.
"""

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

REACH = 4  # largest motion in pixels between two frames, along each axis
BLOCK = 9  # side in pixels of the squares that are compared to estimate motion
LARGEST_SHARE_OUTSIDE = 0.15


class SeamComparison(NamedTuple):
    """A metric of frames at seams and inside windows."""

    num_seams: int
    num_inside: int
    median: float
    """Median at seams."""
    inside: tuple[float, float, float, float, float]
    """5th, 25th, 50th, 75th and 95th percentile inside windows."""
    share_outside: float
    """Share of seams below the 5th or above the 95th percentile."""

    @property
    def is_missed(self) -> bool:
        """Whether seams are visible; True for NaN."""
        _, low, _, high, _ = self.inside
        return not (low <= self.median <= high and self.share_outside <= LARGEST_SHARE_OUTSIDE)


def compare_seams(
    figures: Float[Tensor, "b T"], seams: Collection[int], left_out: Collection[int] = ()
) -> SeamComparison:
    """Compare a metric of frames at the seams of all videos with that of all other frames.

    Args:
        seams: frames to compare, usually the first frame of each window except the first window.
        left_out: frames that belong to neither group.

    Raises:
        ValueError: if there are no seams or no other frames, or if a frame is out of range.
    """
    num_frames = figures.shape[1]
    if not seams or not all(0 <= frame < num_frames for frame in (*seams, *left_out)):
        raise ValueError(f"seams must be one or more frames in [0, {num_frames}), got {sorted({*seams, *left_out})}")
    others = [frame for frame in range(num_frames) if frame not in seams and frame not in left_out]
    at_seams, inside = (given(figures[:, sorted(frames)]) for frames in (seams, others))
    if not len(at_seams) or not len(inside):
        raise ValueError(f"there must be values at seams and inside windows, got {len(at_seams)} and {len(inside)}")
    percentiles = inside.quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64))
    is_outside = (at_seams < percentiles[0]) | (at_seams > percentiles[-1])
    low, quarter, middle, three_quarters, high = percentiles.tolist()
    return SeamComparison(
        num_seams=len(at_seams),
        num_inside=len(inside),
        median=at_seams.quantile(0.5).item(),
        inside=(low, quarter, middle, three_quarters, high),
        share_outside=is_outside.double().mean().item(),
    )


def given(figures: Float[Tensor, "b n"]) -> Float[Tensor, " m"]:
    """Return the values that are not NaN, in double precision."""
    return figures[~figures.isnan()].double()


def frame_differences(videos: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b T"]:
    """Return the mean absolute difference of pixels between each frame and the previous one."""
    differences = videos.diff(dim=2).abs().mean(dim=(1, 3, 4))
    return F.pad(differences, (1, 0), value=math.nan)


def extrapolation_errors(videos: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b T"]:
    """Return the mean absolute error of each frame when it is extrapolated from the two previous frames.

    Pixels within `REACH` of the edge do not count, since new content may enter there.
    """
    errors = torch.stack([extrapolation_errors_of(video) for video in videos])
    return F.pad(errors, (2, 0), value=math.nan)


def extrapolation_errors_of(video: Float[Tensor, "c T H W"]) -> Float[Tensor, " T-2"]:
    frames = rearrange(video, "c T H W -> T c H W")
    guessed = extrapolate(frames[:-2], frames[1:-1])
    errors = (guessed - frames[2:]).abs()
    return errors[..., REACH:-REACH, REACH:-REACH].mean(dim=(1, 2, 3))


def extrapolate(earlier: Float[Tensor, "b c H W"], later: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c H W"]:
    """Return the frame after `later`, with the motion from `earlier` to `later` continued.

    The motion of a pixel is the shift by whole pixels, at most `REACH` along each axis, with the smallest error in the
    block around it. If several errors are equal, the shortest shift is used, so that flat and still areas do not move.
    """
    axis = range(-REACH, REACH + 1)
    motions = sorted(((down, right) for down in axis for right in axis), key=lambda motion: math.hypot(*motion))
    guess = later
    smallest = later.new_full((len(later), 1, *later.shape[2:]), math.inf)
    for motion in motions:
        error = (moved(earlier, motion) - later).abs().mean(dim=1, keepdim=True)
        error = F.avg_pool2d(error, BLOCK, stride=1, padding=BLOCK // 2, count_include_pad=False)
        is_better = error < smallest - 1e-6
        smallest = torch.where(is_better, error, smallest)
        guess = torch.where(is_better, moved(later, motion), guess)
    return guess


def moved(frames: Float[Tensor, "b c H W"], motion: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    """Shift frames down and to the right by up to `REACH` pixels. New pixels repeat the edge."""
    height, width = frames.shape[2:]
    top, left = (REACH - pixels for pixels in motion)
    wide = F.pad(frames, (REACH, REACH, REACH, REACH), mode="replicate")
    return wide[..., top : top + height, left : left + width]


def colour_drift(videos: Float[Tensor, "b c T H W"], num_frames: int = 8) -> Float[Tensor, " b"]:
    """Return the Euclidean distance between the mean colours of the first and the last `num_frames` frames.

    Raises:
        ValueError: if the videos have fewer than 2 `num_frames` frames.
    """
    if videos.shape[2] < 2 * num_frames:
        raise ValueError(f"videos must have at least {2 * num_frames} frames, got {videos.shape[2]}")
    first, last = (part.mean(dim=(2, 3, 4)) for part in (videos[:, :, :num_frames], videos[:, :, -num_frames:]))
    return (last - first).norm(dim=1)

"""How a long video goes on where generated windows meet, beside how it goes on inside them. Pixels are in [0, 1].

Figures of single frames tell how a frame follows those before it: entry k is that of frame k, NaN where there are too
few before it.
"""

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

REACH = 4  # pixels that a place may move from one frame to the next, along each axis
BLOCK = 9  # side of the square of pixels by which a motion is recognised
LARGEST_SHARE_OUTSIDE = 0.15


class SeamComparison(NamedTuple):
    """One figure of single frames, at seams beside those inside windows."""

    num_seams: int
    num_inside: int
    median: float
    """At seams."""
    inside: tuple[float, float, float, float, float]
    """The 5th, 25th, 50th, 75th and 95th percentile inside windows."""
    share_outside: float
    """Of the seams, how many lie below the 5th or above the 95th."""

    @property
    def is_missed(self) -> bool:
        """Whether the seams stand out: NaN does, too."""
        _, low, _, high, _ = self.inside
        return not (low <= self.median <= high and self.share_outside <= LARGEST_SHARE_OUTSIDE)


def compare_seams(
    figures: Float[Tensor, "b T"], seams: Collection[int], left_out: Collection[int] = ()
) -> SeamComparison:
    """Figures at the seams of all videos beside those of all other frames.

    Args:
        seams: the first frame of each window but the first one, or other frames to be looked at.
        left_out: frames that count for neither.

    Raises:
        ValueError: a frame that the videos do not have, no seam, or nothing but seams.
    """
    num_frames = figures.shape[1]
    if not seams or not all(0 <= frame < num_frames for frame in (*seams, *left_out)):
        raise ValueError(f"seams must be frames of {num_frames}, at least one, got {sorted({*seams, *left_out})}")
    others = [frame for frame in range(num_frames) if frame not in seams and frame not in left_out]
    at_seams, inside = (given(figures[:, sorted(frames)]) for frames in (seams, others))
    if not len(at_seams) or not len(inside):
        raise ValueError(f"there must be figures at seams and beside them, got {len(at_seams)} and {len(inside)}")
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
    """Those that are not NaN, in double precision."""
    return figures[~figures.isnan()].double()


def frame_differences(videos: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b T"]:
    """Mean absolute difference of each frame's pixels from the frame before."""
    differences = videos.diff(dim=2).abs().mean(dim=(1, 3, 4))
    return F.pad(differences, (1, 0), value=math.nan)


def extrapolation_errors(videos: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b T"]:
    """Mean absolute error of guessing each frame from the two before it, the motion between which goes on.

    Pixels nearer than `REACH` to the edge of the frame, where something may have come in, do not count.
    """
    errors = torch.stack([extrapolation_errors_of(video) for video in videos])
    return F.pad(errors, (2, 0), value=math.nan)


def extrapolation_errors_of(video: Float[Tensor, "c T H W"]) -> Float[Tensor, " T-2"]:
    frames = rearrange(video, "c T H W -> T c H W")
    guessed = extrapolate(frames[:-2], frames[1:-1])
    errors = (guessed - frames[2:]).abs()
    return errors[..., REACH:-REACH, REACH:-REACH].mean(dim=(1, 2, 3))


def extrapolate(earlier: Float[Tensor, "b c H W"], later: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c H W"]:
    """The frame after `later`, if each place goes on as it came from `earlier`.

    Of all motions by whole pixels up to `REACH`, a place takes the one that explains the block around it best; the
    shortest of equally good ones, so that what is flat or still stays where it is.
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
    """Each pixel moved down and to the right, up to `REACH`; what comes in repeats the edge."""
    height, width = frames.shape[2:]
    top, left = (REACH - pixels for pixels in motion)
    wide = F.pad(frames, (REACH, REACH, REACH, REACH), mode="replicate")
    return wide[..., top : top + height, left : left + width]


def colour_drift(videos: Float[Tensor, "b c T H W"], num_frames: int = 8) -> Float[Tensor, " b"]:
    """How far the mean colour of the last `num_frames` frames is from that of the first: a distance in colour space.

    Raises:
        ValueError: the videos have fewer frames than the two ends.
    """
    if videos.shape[2] < 2 * num_frames:
        raise ValueError(f"two ends of {num_frames} frames need {2 * num_frames}, got {videos.shape[2]}")
    first, last = (part.mean(dim=(2, 3, 4)) for part in (videos[:, :, :num_frames], videos[:, :, -num_frames:]))
    return (last - first).norm(dim=1)

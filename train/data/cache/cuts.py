"""Detection of cuts and fades between shots."""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from ....pipelines.media.resizing import resize

THUMBNAIL_SIZE = 16
NEIGHBOURS = 6  # frames on each side whose differences give the usual amount of motion
SMALLEST_JUMP = 0.03  # smallest difference of a hard cut: mean over a thumbnail in [0, 1]
JUMP_RATIO = 3.5  # smallest ratio of the difference at a hard cut to the usual difference
FADE_RATIO = 0.4  # largest ratio of the contrast within a fade to the contrast on both sides
NOISE = 0.01  # added to differences and contrasts, so that noise is not taken for a cut
BLACK = 0.1  # rows and columns that are never brighter are bars of a letterbox


def thumbnail(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return resize(frame, min(THUMBNAIL_SIZE, frame.shape[0]), min(THUMBNAIL_SIZE, frame.shape[1]))


def find_cuts(thumbnails: UInt8[np.ndarray, "T h w 3"]) -> list[int]:
    """Return the first frames of all shots except the first one.

    A shot starts after a hard cut, or at the frame of least contrast between two fades. Dissolves are not detected.
    """
    pictures = without_bars(thumbnails.astype(np.float32) / 255)
    return sorted({*hard_cuts(pictures), *fades(pictures.std(axis=(1, 2, 3)))})


def without_bars(pictures: Float[np.ndarray, "T h w 3"]) -> Float[np.ndarray, "T H W 3"]:
    """Crop letterbox bars, which would add contrast to a blank frame."""
    lit_rows, lit_columns = (pictures.max(axis=axes) > BLACK for axes in ((0, 2, 3), (0, 1, 3)))
    return pictures[:, lit_rows][:, :, lit_columns] if lit_rows.any() else pictures


def hard_cuts(pictures: Float[np.ndarray, "T h w 3"]) -> list[int]:
    """Return the frames that differ from the previous one much more than is usual around them."""
    if len(pictures) < 2:
        return []
    difference = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    around = sliding_window_view(np.pad(difference, NEIGHBOURS, mode="reflect"), 2 * NEIGHBOURS + 1)
    usual = np.median(np.delete(around, NEIGHBOURS, axis=1), axis=1)
    is_cut = (difference > SMALLEST_JUMP) & (difference > JUMP_RATIO * (usual + NOISE))
    return [int(frame) + 1 for frame in np.flatnonzero(is_cut)]


def fades(contrast: Float[np.ndarray, " T"]) -> list[int]:
    """Return the frame of least contrast between each fade to one colour and the following fade from it."""
    dips: list[int] = []
    highest, lowest, lowest_frame = 0.0, 0.0, None
    for frame, value in enumerate((contrast + NOISE).tolist()):
        if lowest_frame is None:
            highest = max(highest, value)
            if value < FADE_RATIO * highest:
                lowest, lowest_frame = value, frame
        elif value < lowest:
            lowest, lowest_frame = value, frame
        elif lowest < FADE_RATIO * value:
            dips.append(lowest_frame)
            highest, lowest_frame = value, None
    return dips

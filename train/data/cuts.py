"""Where one shot ends and the next begins."""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from ...pipelines.media.resizing import resize

THUMBNAIL_SIZE = 16
NEIGHBOURS = 6  # on either side; their differences say how much motion is usual here
SMALLEST_JUMP = 0.03  # of [0, 1], mean over a thumbnail
JUMP_RATIO = 3.5  # of a jump to the usual difference
FADE_RATIO = 0.4  # of the contrast in the dip to the contrast on both sides
NOISE = 0.01  # differences and contrasts below this are no evidence
BLACK = 0.1  # rows and columns that never get brighter are the bars of a letterbox


def thumbnail(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return resize(frame, min(THUMBNAIL_SIZE, frame.shape[0]), min(THUMBNAIL_SIZE, frame.shape[1]))


def find_cuts(thumbnails: UInt8[np.ndarray, "T h w 3"]) -> list[int]:
    """First frames of all shots but the first one: after hard cuts, and in the emptiest frame between two fades.

    Slow dissolves from one picture into another are not found.
    """
    pictures = without_bars(thumbnails.astype(np.float32) / 255)
    return sorted({*hard_cuts(pictures), *fades(pictures.std(axis=(1, 2, 3)))})


def without_bars(pictures: Float[np.ndarray, "T h w 3"]) -> Float[np.ndarray, "T H W 3"]:
    """The part that is ever lit: the bars of a letterbox would lend contrast to an empty picture."""
    lit_rows, lit_columns = (pictures.max(axis=axes) > BLACK for axes in ((0, 2, 3), (0, 1, 3)))
    return pictures[:, lit_rows][:, :, lit_columns] if lit_rows.any() else pictures


def hard_cuts(pictures: Float[np.ndarray, "T h w 3"]) -> list[int]:
    """Frames that differ from the one before far more than frames do around there."""
    if len(pictures) < 2:
        return []
    difference = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    around = sliding_window_view(np.pad(difference, NEIGHBOURS, mode="reflect"), 2 * NEIGHBOURS + 1)
    usual = np.median(np.delete(around, NEIGHBOURS, axis=1), axis=1)
    is_cut = (difference > SMALLEST_JUMP) & (difference > JUMP_RATIO * (usual + NOISE))
    return [int(frame) + 1 for frame in np.flatnonzero(is_cut)]


def fades(contrast: Float[np.ndarray, " T"]) -> list[int]:
    """The frame of least contrast in each dip: after a fade to one colour, and before the next fade from it."""
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

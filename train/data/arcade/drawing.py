"""Drawing of rectangles and sprites with exact area coverage, for all frames of a clip at once.

Places and sizes are in tiles, 16 to the width of the frame. Pictures are the sum of a ground colour and of the
differences of each sprite to the colour under it. The sum is exact at any resolution if sprites do not overlap: a pixel
is the mean of the colours inside it.
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

TILES = 16  # width and height of the frame
UNIT = 0.25  # in tiles: things move by whole units, so that at 64 pixels their edges are those of pixels

Colour = tuple[int, int, int]  # red, green, blue, from 0 to 255
Frames = Float[np.ndarray, "3 T H W"]  # from 0 to 255
Cells = Float[np.ndarray, "channels #T h w"]
Edges = Float[np.ndarray, "t edges"]


def in_units(places: Float[np.ndarray, "*axes"] | float) -> Any:
    """Round places to whole units."""
    return np.round(np.divide(places, UNIT)) * UNIT


def blank(resolution: int, ground: Colour) -> Frames:
    """Return a single frame of one colour. 0.5 is added to all values, so that `finished` rounds them."""
    frame = np.empty((3, 1, resolution, resolution), np.float32)
    frame[:] = np.reshape(ground, (3, 1, 1, 1)) + np.float32(0.5)
    return frame


def stamp(
    frames: Frames,
    cells: Cells,
    x: Float[np.ndarray, "#T w+1"],
    y: Float[np.ndarray, "#T h+1"],
    colour: Float[np.ndarray, "3 1 1 1"] | None = None,
) -> None:
    """Add a grid of colour differences to frames.

    Args:
        x: left edges of the columns of `cells`, and the right edge of the last one. It may be the same in all frames.
        y: upper edges of the rows, and the lower edge of the last one.
        colour: factor of `cells`, if they have one channel.
    """
    rows, tops = coverage(y, frames.shape[2])
    columns, lefts = coverage(x, frames.shape[3])
    patch = rows @ cells @ columns.swapaxes(1, 2)
    if colour is not None:
        patch = colour * patch
    height, width = patch.shape[2:]
    if len({*tops}) == len({*lefts}) == 1:
        frames[:, :, tops[0] : tops[0] + height, lefts[0] : lefts[0] + width] += patch
        return
    num_frames = frames.shape[1]
    tops, lefts = (first * (num_frames // len(first)) for first in (tops, lefts))
    patch = np.broadcast_to(patch, (3, num_frames, height, width))
    for time, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        view = frames[:, time, top : top + height, left : left + width]
        view += patch[:, time]


def stamp_board(
    frames: Frames,
    board: Int[np.ndarray, "T h w"],
    colours: Sequence[Colour],
    x: Float[np.ndarray, "1 w+1"],
    y: Float[np.ndarray, "1 h+1"],
) -> None:
    """Add boards of colour numbers to frames, at one place. Number 0 is the ground. Equal boards are drawn once."""
    is_new = np.append(True, (board[1:] != board[:-1]).any(axis=(1, 2)))
    rows, (top,) = coverage(y, frames.shape[2])
    columns, (left,) = coverage(x, frames.shape[3])
    patch = rows @ painted(board[is_new], colours) @ columns.swapaxes(1, 2)
    window = frames[:, :, top : top + patch.shape[2], left : left + patch.shape[3]]
    for number, (start, stop) in enumerate(pairwise([*is_new.nonzero()[0].tolist(), len(board)])):
        window[:, start:stop] += patch[:, number, None]


def painted(board: Int[np.ndarray, "T h w"], colours: Sequence[Colour]) -> Cells:
    """Return the cells of boards of colour numbers. Number 0 is the ground."""
    differences = np.subtract(colours, colours[0], dtype=np.float32)
    return differences.T.copy()[:, board]


def coverage(edges: Edges, resolution: int) -> tuple[Float[np.ndarray, "t pixels cells"], list[int]]:
    """Return how much of each pixel lies in each interval between edges, and the first of these pixels.

    The number of pixels is the same in all frames: enough for the longest grid.
    """
    places = (edges * (resolution / TILES)).astype(np.float32)
    length = min(resolution, math.ceil((places[:, -1] - places[:, 0]).max()) + 1)
    first = np.minimum(np.maximum(np.floor(places[:, 0]), 0), resolution - length)
    pixels = first[:, None] + np.arange(length, dtype=np.float32)
    below = np.minimum(np.maximum(places[:, None, :] - pixels[:, :, None], 0), 1)  # share of the pixel before each edge
    return below[:, :, 1:] - below[:, :, :-1], first.astype(int).tolist()


def box(
    frames: Frames,
    x: Float[np.ndarray, " #T"] | float,
    y: Float[np.ndarray, " #T"] | float,
    size: tuple[float, float],
    cells: Cells,
) -> None:
    """Add a grid of equal cells to frames.

    Args:
        x: left edge.
        y: upper edge.
        size: width and height of the grid.
    """
    height, width = cells.shape[2:]
    columns = np.reshape(x, (-1, 1)) + np.arange(width + 1) * (size[0] / width)
    rows = np.reshape(y, (-1, 1)) + np.arange(height + 1) * (size[1] / height)
    stamp(frames, cells, columns, rows)


def plain(colour: Colour, ground: Colour) -> Cells:
    """Return one cell of one colour."""
    return sprite("#", ground, colour)


@cache
def sprite(rows: str, ground: Colour, *colours: Colour) -> Cells:
    """Return the cells of a picture of characters, with rows separated by spaces.

    Args:
        colours: of the characters "#", "a" and "b". All others are ground.
    """
    colour_of = dict(zip("#ab", colours, strict=False))
    grid = np.array([[colour_of.get(letter, ground) for letter in row] for row in rows.split()], np.float32)
    return np.moveaxis(grid - np.array(ground, np.float32), -1, 0)[:, None].copy()


def spaced(board: Int[np.ndarray, "T h w"]) -> Int[np.ndarray, "T h2 w2"]:
    """Insert an empty row and column between neighbours, for the gaps of `gapped`."""
    num_frames, height, width = board.shape
    wide = np.zeros((num_frames, 2 * height - 1, 2 * width - 1), board.dtype)
    wide[:, ::2, ::2] = board
    return wide


def gapped(first: float, number: int, cell: float, gap: float) -> Edges:
    """Return the edges of cells with gaps between them, starting at the left edge of the first cell."""
    starts = first + (cell + gap) * np.arange(number)
    return np.stack([starts, starts + cell], axis=1).reshape(1, -1)


def with_gaps(cells: Cells, number: int) -> Float[np.ndarray, "3 #T h all"]:
    """Return copies of a sprite in a row for `copies_along`: with a column of ground before each and after the last."""
    padded = np.pad(cells, ((0, 0), (0, 0), (0, 0), (1, 0)))
    return np.pad(np.tile(padded, number), ((0, 0), (0, 0), (0, 0), (0, 1)))


def copies_along(edges: Float[np.ndarray, "*T copies edges"]) -> Float[np.ndarray, "*T all"]:
    """Return the edges of the columns of copies in any order, from the left to the right side of the frame.

    Columns between copies may have a negative width. This is harmless, since they are ground.
    """
    inner = edges.reshape(*edges.shape[:-2], -1)
    ends = [np.full((*inner.shape[:-1], 1), end) for end in (0, TILES)]
    return np.concatenate([ends[0], inner, ends[1]], axis=-1)


def finished(frames: Frames) -> UInt8[np.ndarray, "T H W 3"]:
    """Return the frames with colours rounded to whole numbers."""
    return np.moveaxis(frames.astype(np.uint8), 0, -1)

"""Falling blocks that fill a well.

A piece falls in its column at half a cell per frame until it lies on the floor or on the stack. One frame later full
rows have been removed and the next piece begins to fall. The agent chooses rotation and column before a piece falls: it
avoids holes. If a piece has no room, a new game begins with an empty well.

Action: the leftmost column of the piece. Score: removed rows.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .drawing import Frames, blank, box, finished, gapped, painted, plain, spaced, stamp, stamp_board

GROUND, WALL = (16, 14, 30), (88, 92, 120)
COLOURS = ((60, 215, 230), (250, 215, 50), (230, 70, 210), (70, 210, 80), (240, 50, 50), (60, 90, 255), (230, 230, 235))
NUM_ROWS, NUM_COLUMNS = 10, 6
CELL, GAP = 1.25, 0.25
PITCH = CELL + GAP
LEFT = 3.25  # edge of the well
SPEED = 0.5  # cells per frame

PIECES = ("####", "## ##", ".#. ###", ".## ##.", "##. .##", "#.. ###", "..# ###")


class Placement(NamedTuple):
    """A rotated piece."""

    cells: Int[np.ndarray, "h w"]
    lowest: tuple[int, ...]  # last row of each column


def placements(piece: str) -> list[Placement]:
    cells = np.array([[letter == "#" for letter in row] for row in piece.split()], int)
    rotated = {np.rot90(cells, turn).tobytes() + bytes([turn % 2]): np.rot90(cells, turn) for turn in range(4)}.values()
    return [Placement(one, tuple(int(column.nonzero()[0].max()) for column in one.T)) for one in rotated]


PLACEMENTS = [placements(piece) for piece in PIECES]
FLOOR = np.ones(NUM_COLUMNS, np.int8)


class Blocks(NamedTuple):
    stack: Int[np.ndarray, "T rows columns"]  # numbers of colours; 0 = empty
    piece: Int[np.ndarray, "T 4 4"]
    column: Int[np.ndarray, " T"]  # of the left edge of the piece
    row: Float[np.ndarray, " T"]  # of its upper edge
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Blocks:
    stack = np.zeros((NUM_ROWS, NUM_COLUMNS), np.int8)
    for _ in range(int(numbers.integers(2, 7))):
        kind, placement, column, row = choose(numbers, stack)
        stack = without_full_rows(put(stack, kind, placement, column, row))
    states, score, share = [], 0, numbers.random()
    while len(states) < num_steps:
        kind, placement, column, last_row = choose(numbers, stack)
        if last_row < 0:
            stack = np.zeros_like(stack)
            continue
        piece = np.zeros((4, 4), np.int8)
        height, width = placement.cells.shape
        piece[:height, :width] = placement.cells * (kind + 1)
        first_row = -height if states else int(-height + share * (last_row + height - 2))
        for row in np.arange(first_row, last_row + SPEED, SPEED).tolist():
            states.append((stack, piece, column, row, column, score))
        stack = put(stack, kind, placement, column, last_row)
        score += int(is_full(stack).sum())
        stack = without_full_rows(stack)
    return Blocks(*(np.array(column) for column in zip(*states[:num_steps], strict=True)))


def choose(numbers: np.random.Generator, stack: Int[np.ndarray, "rows columns"]) -> tuple[int, Placement, int, int]:
    """Return a random piece, its rotation, its column and the row where it ends, which is low and covers few cells."""
    kind = int(numbers.integers(len(PIECES)))
    noise = iter(numbers.uniform(0, 1.5, size=4 * NUM_COLUMNS).tolist())
    tops = (np.vstack([stack, FLOOR]) > 0).argmax(axis=0).tolist()
    options = []
    for placement in PLACEMENTS[kind]:
        for column in range(NUM_COLUMNS - len(placement.lowest) + 1):
            rooms = [top - 1 - lowest for top, lowest in zip(tops[column:], placement.lowest, strict=False)]
            row = min(rooms)
            cost = 3 * (sum(rooms) - row * len(rooms)) - row - len(placement.cells) / 2 + next(noise)
            options.append((row < 0, cost, placement, column, row))
    *_, placement, column, row = min(options, key=lambda option: option[:2])
    return kind, placement, column, row


def put(
    stack: Int[np.ndarray, "rows columns"], kind: int, placement: Placement, column: int, row: int
) -> Int[np.ndarray, "rows columns"]:
    """Return the stack with a piece; a piece that does not fit into the well is left out."""
    if row < 0:
        return stack
    stack = stack.copy()
    height, width = placement.cells.shape
    stack[row : row + height, column : column + width] += placement.cells.astype(np.int8) * (kind + 1)
    return stack


def is_full(stack: Int[np.ndarray, "rows columns"]) -> Bool[np.ndarray, " rows"]:
    return stack.min(axis=1) > 0


def without_full_rows(stack: Int[np.ndarray, "rows columns"]) -> Int[np.ndarray, "rows columns"]:
    rows = stack[~is_full(stack)]
    return np.concatenate([np.zeros((NUM_ROWS - len(rows), NUM_COLUMNS), np.int8), rows])


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, WALL)
    box(frame, LEFT, 0, (NUM_COLUMNS * PITCH + GAP, NUM_ROWS * PITCH + GAP), plain(GROUND, WALL))
    return frame


def draw(game: Blocks, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.stack), axis=1)
    colours = (GROUND, *COLOURS)
    edges = LEFT + GAP, GAP
    columns, rows = (
        gapped(edge, number, CELL, GAP) for edge, number in zip(edges, (NUM_COLUMNS, NUM_ROWS), strict=True)
    )
    stamp_board(frames, spaced(game.stack), colours, columns, rows)
    shape = gapped(0, 4, CELL, GAP)
    x, y = (edge + PITCH * place[:, None] for edge, place in zip(edges, (game.column, game.row), strict=True))
    stamp(frames, painted(spaced(game.piece), colours), x + shape, y + shape)
    return finished(frames)

"""A snake that grows when it eats.

The head moves to a neighbouring cell every second frame. The tail leaves its cell in the same frame, unless the head
has reached the food, which then appears in another cell. The snake turns to the food and avoids walls and itself.

Action, the direction of the next move: 0 = up, 1 = right, 2 = down, 3 = left. Score: eaten food.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from .drawing import TILES, Frames, blank, box, finished, gapped, plain, stamp_board

GROUND, WALL = (178, 208, 92), (70, 90, 50)
BODY, HEAD, FOOD = (40, 110, 60), (40, 50, 210), (225, 40, 50)
SIZE = 8  # cells along each side
CELL, GAP, BORDER = 1.5, 0.5, 0.25
MOVE_TIME = 2  # frames
LENGTHS = (4, 9)  # of the snake at the start
FORESIGHT = 12  # moves for which the snake must find a way

_, OF_BODY, OF_HEAD, OF_FOOD = range(4)
WIDTH = SIZE + 2  # cells have numbers in a grid with a border
STEPS = (-WIDTH, 1, WIDTH, -1)
OUTSIDE = frozenset(cell for cell in range(WIDTH**2) if not {cell // WIDTH, cell % WIDTH}.isdisjoint({0, WIDTH - 1}))


class Snake(NamedTuple):
    board: Int[np.ndarray, "T 15 15"]
    """What is in each cell and, at odd indices, in the gaps between cells."""
    length: Int[np.ndarray, " T"]
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Snake:
    body = first_body(numbers)  # the head is last
    until_move = int(numbers.integers(MOVE_TIME))
    food = free_cell(numbers, body)
    score, states = 0, []
    for _ in range(num_steps // MOVE_TIME + 2):
        by_distance = sorted(range(4), key=lambda step: distance(body[-1] + STEPS[step], food))
        if numbers.random() < 0.15:
            by_distance = numbers.permutation(4).tolist()
        ways = (step for step in by_distance if has_way(body, STEPS[step], FORESIGHT))
        step = next(ways, None)
        states.append((body, food, step or 0, score))
        if step is None:  # no way out: a new game
            body = first_body(numbers)
            food = free_cell(numbers, body)
            continue
        body = [*body, body[-1] + STEPS[step]]
        if body[-1] == food:
            score, food = score + 1, free_cell(numbers, body)
        else:
            body = body[1:]
    moves = (np.arange(num_steps) + until_move) // MOVE_TIME
    bodies, foods, actions, scores = zip(*states, strict=True)
    return Snake(
        board=boards(bodies, foods)[moves],
        length=np.array([len(body) for body in bodies])[moves],
        action=np.array(actions)[moves],
        score=np.array(scores)[moves],
    )


def first_body(numbers: np.random.Generator) -> list[int]:
    """Return a random chain of cells from which the snake can move on."""
    while True:
        row, column = numbers.integers(2, SIZE, size=2).tolist()
        body = [row * WIDTH + column]
        heading, length = int(numbers.integers(4)), int(numbers.integers(*LENGTHS, endpoint=True))
        for turn in numbers.choice((0, 0, 0, 1, 3), size=length - 1).tolist():
            heading = (heading + turn) % 4
            body.append(body[-1] + STEPS[heading])
            if body[-1] in OUTSIDE:
                break
        if (
            OUTSIDE.isdisjoint(body)
            and len({*body}) == length
            and any(has_way(body, step, FORESIGHT) for step in STEPS)
        ):
            return body


def free_cell(numbers: np.random.Generator, body: list[int]) -> int:
    """Return a cell for the food within a few moves of the head."""
    while True:
        row, column = numbers.integers(-5, 6, size=2).tolist()
        row, column = row + body[-1] // WIDTH, column + body[-1] % WIDTH
        if 0 < row <= SIZE and 0 < column <= SIZE and (cell := row * WIDTH + column) not in body:
            return cell


def distance(cell: int, other: int) -> int:
    """Return the square of the distance between two cells."""
    return (cell // WIDTH - other // WIDTH) ** 2 + (cell % WIDTH - other % WIDTH) ** 2


def has_way(body: list[int], step: int, moves: int) -> bool:
    """Return whether the snake can take the step and then go on for some moves."""
    head = body[-1] + step
    if head in OUTSIDE or head in body:
        return False
    body = [*body[1:], head]
    return moves == 0 or any(has_way(body, next_step, moves - 1) for next_step in (step, *STEPS))


def boards(bodies: Sequence[list[int]], foods: Sequence[int]) -> Int[np.ndarray, "states 15 15"]:
    """Return the boards of some states."""
    state = np.arange(len(bodies)).repeat([len(body) for body in bodies])
    rows, columns = (2 * part - 2 for part in np.divmod(np.concatenate(bodies), WIDTH))
    board = np.zeros((len(bodies), 2 * SIZE - 1, 2 * SIZE - 1), np.int8)
    board[state, rows, columns] = OF_BODY
    is_head = state != np.append(state[1:], -1)
    joints = np.flatnonzero(~is_head)
    board[state[joints], (rows[joints] + rows[joints + 1]) // 2, (columns[joints] + columns[joints + 1]) // 2] = OF_BODY
    board[state[is_head], rows[is_head], columns[is_head]] = OF_HEAD
    rows, columns = (2 * part - 2 for part in np.divmod(foods, WIDTH))
    board[np.arange(len(foods)), rows, columns] = OF_FOOD
    return board


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, WALL)
    box(frame, BORDER / 2, BORDER / 2, (TILES - BORDER, TILES - BORDER), plain(GROUND, WALL))
    return frame


def draw(game: Snake, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.board), axis=1)
    edges = gapped(BORDER, SIZE, CELL, GAP)
    stamp_board(frames, game.board, (GROUND, BODY, HEAD, FOOD), edges, edges)
    return finished(frames)

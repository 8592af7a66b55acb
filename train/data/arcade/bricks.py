"""A paddle, a ball and a wall of bricks.

The ball moves at constant speed and is reflected by the walls, the paddle and the bricks. Each reflection at a brick
removes it. The paddle never misses the ball.

Action: 0 = stay, 1 = left, 2 = right. Score: removed bricks.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .drawing import TILES, Frames, blank, box, finished, gapped, in_units, plain, spaced, stamp_board

GROUND, WALL, BALL, PADDLE = (20, 12, 28), (130, 130, 140), (255, 255, 255), (70, 130, 255)
ROWS = ((230, 50, 60), (250, 200, 50), (60, 200, 80))  # colours of the bricks
NUM_COLUMNS = 5
BRICK_SIZE, GAP = (2.5, 1.5), 0.5
FIRST = (0.75, 1.5)  # left and upper edge of the first brick
WALL_WIDTH = 0.5
BALL_SIZE = 1.75
SPEEDS = (0.5, 0.75)  # along x and along y
PADDLE_SIZE = (4.5, 1.25)
PADDLE_Y = 14.0
MISSING = np.array([0.05, 0.25, 0.5])[:, None]  # share of the bricks that have gone before the clip, by row
PADDLE_SPEED = 0.6

WAIT = 0.4  # of the time between two returns

COLUMN_EDGES = gapped(FIRST[0], NUM_COLUMNS, BRICK_SIZE[0], GAP)
ROW_EDGES = gapped(FIRST[1], len(ROWS), BRICK_SIZE[1], GAP)
CORNERS = np.stack([np.tile(COLUMN_EDGES[0, ::2], len(ROWS)), ROW_EDGES[0, ::2].repeat(NUM_COLUMNS)])


class Bricks(NamedTuple):
    ball_x: Float[np.ndarray, " T"]  # of the middle
    ball_y: Float[np.ndarray, " T"]
    paddle: Float[np.ndarray, " T"]  # x of the middle
    bricks: Bool[np.ndarray, "T rows columns"]
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Bricks:
    half = BALL_SIZE / 2
    velocity = numbers.choice(SPEEDS, 2)
    velocity *= np.where(numbers.random(2) < [0.5, 0.7], -1, 1)
    place = WALL_WIDTH + half + in_units(numbers.uniform((2, 7), (12, 11.5)))
    end = np.where((numbers.random((len(ROWS), NUM_COLUMNS)) < MISSING).ravel(), -1.0, np.inf)  # of each brick
    low = np.array([WALL_WIDTH + half, WALL_WIDTH + half])
    high = np.array([TILES - WALL_WIDTH - half, PADDLE_Y - half])
    corners = CORNERS - half  # of bricks enlarged by the ball, which is then a point
    sizes = np.array(BRICK_SIZE)[:, None] + BALL_SIZE

    time, knots = 0.0, [(0.0, *place)]  # time, x and y where the ball changes its direction
    targets, wish = [], numbers.uniform(-1, 1)  # times and places of the paddle at its returns
    while not targets or time < num_steps:
        near = corners + sizes * (velocity < 0)[:, None] - place[:, None]
        enters = near / velocity[:, None]
        leaves = enters + sizes / np.abs(velocity)[:, None]
        enter = enters.max(axis=0)
        is_hit = (enter < leaves.min(axis=0)) & (enter > -1e-9) & (end == np.inf)
        brick = int(np.where(is_hit, enter, np.inf).argmin())
        to_walls = (np.where(velocity < 0, low, high) - place) / velocity
        axis, duration = int(to_walls.argmin()), float(to_walls.min())
        if is_hit[brick] and enter[brick] < duration:
            axis, duration = int(enters[:, brick].argmax()), max(0.0, float(enter[brick]))
            end[brick] = time + duration
        elif axis == 1 and velocity[1] > 0:
            targets.append((time + duration, place[0] + duration * velocity[0] + numbers.uniform(-1.4, 1.4)))
        time, place = time + duration, place + duration * velocity
        velocity[axis] *= -1
        knots.append((time, *place))

    times = np.arange(num_steps + 1.0)
    ball_times, ball_x, ball_y = np.transpose(knots)
    paddle = paddle_path(np.array(targets), wish, times)
    bricks = end > times[:-1, None]
    return Bricks(
        ball_x=np.interp(times[:-1], ball_times, ball_x),
        ball_y=np.interp(times[:-1], ball_times, ball_y),
        paddle=paddle[:-1],
        bricks=bricks.reshape(-1, len(ROWS), NUM_COLUMNS),
        action=np.array([0, 2, 1])[np.sign(np.diff(paddle).round(6)).astype(int)],
        score=bricks[0].sum() - bricks.sum(axis=1),
    )


def paddle_path(
    targets: Float[np.ndarray, "returns 2"], wish: float, times: Float[np.ndarray, " _"]
) -> Float[np.ndarray, " _"]:
    """Return the places of a paddle that waits after each return, and then moves to the next one at constant speed.

    Args:
        targets: times and places of the returns.
        wish: distance of the start from the first return, as a share of the longest distance, in [-1, 1].
    """
    reach = WALL_WIDTH + PADDLE_SIZE[0] / 2
    returns, places = targets.T
    places = places.clip(reach, TILES - reach)
    start = (places[0] + wish * min(5, PADDLE_SPEED * returns[0])).clip(reach, TILES - reach)
    leaving = returns + WAIT * np.diff(returns, append=2 * returns[-1])
    knots = np.stack([returns, leaving], axis=1).ravel()
    path = np.interp(times, np.concatenate([[0], knots]), np.concatenate([[start], places.repeat(2)]))
    return np.asarray(in_units(path))


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, WALL)
    box(frame, WALL_WIDTH, WALL_WIDTH, (TILES - 2 * WALL_WIDTH, TILES), plain(GROUND, WALL))
    return frame


def draw(game: Bricks, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.bricks), axis=1)
    board = spaced(game.bricks * np.arange(1, len(ROWS) + 1)[:, None])
    stamp_board(frames, board, (GROUND, *ROWS), COLUMN_EDGES, ROW_EDGES)
    width, height = PADDLE_SIZE
    box(frames, game.paddle - width / 2, PADDLE_Y, (width, height), plain(PADDLE, GROUND))
    half = BALL_SIZE / 2
    box(frames, game.ball_x - half, game.ball_y - half, (BALL_SIZE, BALL_SIZE), plain(BALL, GROUND))
    return finished(frames)

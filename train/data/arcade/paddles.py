"""Two paddles and a ball.

The ball moves at constant speed. It is reflected by the walls at the top and the bottom and by the paddles, which never
miss it. A paddle waits after its return and then moves to where the ball will come.

Action of the left paddle: 0 = stay, 1 = up, 2 = down. Score: returns of the left paddle.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .drawing import TILES, Frames, blank, box, finished, in_units, plain, stamp_board

GROUND, WALL, NET, BALL = (12, 16, 40), (150, 160, 190), (60, 70, 120), (255, 255, 255)
LEFT, RIGHT = (255, 70, 70), (60, 190, 255)  # of the paddles
BALL_SIZE = 1.75
SPEEDS_X, SPEEDS_Y = (0.5, 0.75), (0.25, 0.5)
PADDLE_SIZE = (1.25, 4.5)
FACES = (2.0, 14.0)  # x of the sides of the paddles that the ball touches
WALL_HEIGHT = 0.75
WAIT = 0.4  # of the time between two returns
NET_X, NET_WIDTH = 7.75, 0.5
NET_EDGES = 1.0 + 1.25 * np.arange(12)  # every second interval is a dash


class Paddles(NamedTuple):
    ball_x: Float[np.ndarray, " T"]  # of the middle
    ball_y: Float[np.ndarray, " T"]
    left: Float[np.ndarray, " T"]  # y of the middle of the paddle
    right: Float[np.ndarray, " T"]
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Paddles:
    speed_x, speed_y = numbers.choice(SPEEDS_X), numbers.choice(SPEEDS_Y)
    low_x, high_x = FACES[0] + BALL_SIZE / 2, FACES[1] - BALL_SIZE / 2
    low_y, high_y = WALL_HEIGHT + BALL_SIZE / 2, TILES - WALL_HEIGHT - BALL_SIZE / 2
    start_x = low_x + in_units(numbers.uniform(0, 2) * (high_x - low_x))  # the second half is the way back
    start_y = low_y + in_units(numbers.uniform(0, 2) * (high_y - low_y))

    def ball_y(times: Float[np.ndarray, " _"]) -> Float[np.ndarray, " _"]:
        return reflected(start_y + speed_y * times, low_y, high_y)

    period = 2 * (high_x - low_x) / speed_x
    num_returns = math.ceil(num_steps / period) + 2
    offsets = numbers.uniform(-1.3, 1.3, size=(num_returns, 2))  # of the middle of the paddle from the ball
    times = np.arange(num_steps + 1.0)
    paddles, returns = [], []
    for side, face in enumerate((2 * high_x - low_x, high_x)):
        hits = (face - start_x) / speed_x % period + period * np.arange(-1, num_returns - 1)
        reach = WALL_HEIGHT + PADDLE_SIZE[1] / 2
        places = (ball_y(hits) + offsets[:, side]).clip(reach, TILES - reach)
        path = np.interp(times, np.stack([hits, hits + WAIT * period], axis=1).ravel(), places.repeat(2))
        paddles.append(in_units(path))
        returns.append(np.searchsorted(hits[hits > 0], times[:-1], side="right"))
    moves = np.sign(np.diff(paddles[0]).round(6)).astype(int)
    return Paddles(
        ball_x=reflected(start_x + speed_x * times[:-1], low_x, high_x),
        ball_y=ball_y(times[:-1]),
        left=paddles[0][:-1],
        right=paddles[1][:-1],
        action=np.array([0, 2, 1])[moves],
        score=returns[0],
    )


def reflected(place: Float[np.ndarray, " _"], low: float, high: float) -> Float[np.ndarray, " _"]:
    """Return the place of something that moves on a line and is reflected at both ends."""
    return high - np.abs((place - low) % (2 * (high - low)) - (high - low))


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, GROUND)
    for y in (0, TILES - WALL_HEIGHT):
        box(frame, 0, y, (TILES, WALL_HEIGHT), plain(WALL, GROUND))
    return frame


def draw(game: Paddles, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.ball_x), axis=1)
    dashes = np.zeros((len(game.ball_x), 11, 1), int)
    dashes[:, ::2, 0] = ~hidden_dashes(game)
    stamp_board(frames, dashes, (GROUND, NET), np.array([[NET_X, NET_X + NET_WIDTH]]), NET_EDGES[None])
    width, height = PADDLE_SIZE
    box(frames, FACES[0] - width, game.left - height / 2, PADDLE_SIZE, plain(LEFT, GROUND))
    box(frames, FACES[1], game.right - height / 2, PADDLE_SIZE, plain(RIGHT, GROUND))
    half = BALL_SIZE / 2
    box(frames, game.ball_x - half, game.ball_y - half, (BALL_SIZE, BALL_SIZE), plain(BALL, GROUND))
    return finished(frames)


def hidden_dashes(game: Paddles) -> Bool[np.ndarray, "T dashes"]:
    """Return which dashes of the net the ball touches. They are not drawn."""
    half = BALL_SIZE / 2
    is_at_net = np.abs(game.ball_x - TILES / 2) < half + NET_WIDTH / 2
    y = game.ball_y[:, None]
    return is_at_net[:, None] & (y + half > NET_EDGES[:-1:2]) & (y - half < NET_EDGES[1::2])

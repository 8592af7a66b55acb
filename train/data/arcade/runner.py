"""A runner who jumps over pipes.

The ground and the pipes move to the left at constant speed, and the clouds at a quarter of it. The height of a jump is
a parabola of time. The runner is highest near the middle of a pipe.

Action: 1 = jump, in the last frame on the ground; 0 = run. Score: passed pipes.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from .drawing import TILES, UNIT, Frames, blank, box, copies_along, finished, in_units, plain, sprite, stamp, with_gaps

SKY, CLOUD, GRASS, EARTH, STONE = (120, 190, 255), (255, 255, 255), (70, 190, 60), (150, 95, 50), (110, 65, 35)
PIPE, RIM = (20, 130, 60), (10, 90, 40)
CAP, SKIN, TROUSERS = (230, 40, 40), (255, 205, 160), (40, 50, 160)
GROUND_Y, GRASS_HEIGHT = 13.0, 0.75
RUNNER_X, RUNNER_SIZE = 3.5, (2.5, 3.0)  # x of the left edge
PIPE_SIZE = (2.0, 2.25)
JUMP_HEIGHT, JUMP_TIME = 6.0, 14.0  # frames
SPEEDS, PIPE_DISTANCES = (0.5, 0.75), (13.0, 18.0)
STONE_DISTANCE, CLOUD_DISTANCE = 4.0, 10.0
CLOUD_SIZE, CLOUD_Y = (4.0, 1.5), 1.25
LEG_TIME = 3  # frames

RUNNING = (".###. ##### ##### .aaa. bbbbb b...b", ".###. ##### ##### .aaa. bbbbb .b.b.")
JUMPING = ".###. ##### ##### .aaa. bbbbb bb..."


class Runner(NamedTuple):
    height: Float[np.ndarray, " T"]  # of the feet above the ground
    pipes: Float[np.ndarray, "T pipes"]  # left edges
    moved: Float[np.ndarray, " T"]  # distance from the first frame
    time: Int[np.ndarray, " T"]
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Runner:
    speed, start = numbers.choice(SPEEDS), in_units(numbers.uniform(0, 100))
    moved = start + speed * np.arange(num_steps)
    num_pipes = int((num_steps * speed + 32) / PIPE_DISTANCES[0]) + 2
    chances, delays = numbers.random((num_pipes, 2)).T
    distances = in_units(PIPE_DISTANCES[0] + (PIPE_DISTANCES[1] - PIPE_DISTANCES[0]) * chances)
    places = distances.cumsum() - 25  # the first one is to the left of the runner
    highest = (places + PIPE_SIZE[0] / 2 - RUNNER_X - RUNNER_SIZE[0] / 2) / speed + 2 * delays - 1  # times
    times = np.arange(num_steps)[:, None]
    jumps = 1 - ((times - highest) / (JUMP_TIME / 2)) ** 2
    takeoffs = highest - JUMP_TIME / 2
    pipes = places - (moved - start)[:, None]
    is_passed = pipes + PIPE_SIZE[0] < RUNNER_X
    return Runner(
        height=np.ceil(JUMP_HEIGHT * jumps.max(axis=1).clip(0) / UNIT) * UNIT,
        pipes=pipes,
        moved=moved,
        time=times[:, 0],
        action=((times < takeoffs) & (takeoffs <= times + 1)).any(axis=1).astype(int),
        score=is_passed.sum(axis=1) - is_passed[0].sum(),
    )


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, SKY)
    box(frame, 0, GROUND_Y, (TILES, GRASS_HEIGHT), plain(GRASS, SKY))
    box(frame, 0, GROUND_Y + GRASS_HEIGHT, (TILES, TILES - GROUND_Y - GRASS_HEIGHT), plain(EARTH, SKY))
    return frame


def draw(game: Runner, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.height), axis=1)
    stones = sprite("#." * 5 + " " + ".#" * 5, EARTH, STONE)
    left = -(game.moved % STONE_DISTANCE)
    box(frames, left, GROUND_Y + GRASS_HEIGHT, (5 * STONE_DISTANCE, TILES - GROUND_Y - GRASS_HEIGHT), stones)
    clouds = (np.arange(2) * CLOUD_DISTANCE - in_units(game.moved[:, None] / 4)) % (2 * CLOUD_DISTANCE) - CLOUD_SIZE[0]
    pipes = game.pipes[:, (np.abs(game.pipes - TILES / 2) < TILES).any(axis=0)]
    for lefts, top, size, cells in (
        (clouds, CLOUD_Y, CLOUD_SIZE, sprite(".##. ####", SKY, CLOUD)),
        (pipes, GROUND_Y - PIPE_SIZE[1], PIPE_SIZE, sprite("aaaa .##. .##.", SKY, PIPE, RIM)),
    ):
        columns, rows = (np.linspace(0, side, 1 + cells.shape[axis]) for side, axis in zip(size, (3, 2), strict=True))
        stamp(frames, with_gaps(cells, lefts.shape[1]), copies_along(lefts[:, :, None] + columns), top + rows[None])
    shapes = [sprite(shape, SKY, CAP, SKIN, TROUSERS) for shape in (*RUNNING, JUMPING)]
    pose = np.where(game.height > 0, len(RUNNING), game.time // LEG_TIME % len(RUNNING))
    y = GROUND_Y - RUNNER_SIZE[1] - game.height
    box(frames, RUNNER_X, y, RUNNER_SIZE, np.concatenate(shapes, axis=1)[:, pose])
    return finished(frames)

"""A formation of invaders and a cannon.

The formation moves sideways at constant speed. At the edge of the frame it goes down by one tile and turns. The cannon
moves under an invader and shoots. A shot rises at constant speed until it hits an invader, which then vanishes, or
leaves the frame. There is one shot at a time.

Action: 0 = stay, 1 = left, 2 = right, 3 = shoot. Score: hit invaders.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .drawing import TILES, Frames, blank, box, finished, in_units, plain, sprite, stamp

GROUND, CANNON, SHOT = (6, 6, 14), (60, 225, 90), (255, 255, 255)
INVADERS = ((240, 80, 220), (80, 220, 240))  # by row
EARTH = (40, 130, 60)
NUM_COLUMNS = 3
NUM_INVADERS = len(INVADERS) * NUM_COLUMNS
INVADER_SIZE = (2.5, 2.0)
PITCH = (3.75, 2.75)
SHAPES = (".###. #.#.# ##### #...#", ".###. #.#.# ##### .#.#.")  # two poses
POSE_TIME = 8  # frames
SPEEDS, DROP = (0.25, 0.5), 1.0  # tiles per frame; tiles at each turn
CANNON_SIZE, CANNON_Y, CANNON_SPEED = (2.5, 1.5), 13.5, 0.5
EARTH_Y = CANNON_Y + CANNON_SIZE[1]
CANNON_SHAPE = "..#.. .###. #####"
SHOT_SIZE, SHOT_SPEED = (1.0, 2.0), 1.0
SHOT_Y = CANNON_Y - SHOT_SIZE[1]
NO_SHOT = -2.5  # y of the shot if there is none, above the frame
MISSING = 0.2  # share of the invaders that have been hit before the clip
NUM_DROPS = 5  # then the formation starts again at the top

FORMATION = (PITCH[0] * (NUM_COLUMNS - 1) + INVADER_SIZE[0], PITCH[1] * (len(INVADERS) - 1) + INVADER_SIZE[1])
ROOM = TILES - FORMATION[0]  # to move in
MIDDLES_X = np.tile(PITCH[0] * np.arange(NUM_COLUMNS) + INVADER_SIZE[0] / 2, len(INVADERS))
MIDDLES_Y = (PITCH[1] * np.arange(len(INVADERS)) + INVADER_SIZE[1] / 2).repeat(NUM_COLUMNS)
POSES = np.array([[[[letter == "#" for letter in row + "."]] for row in shape.split()] for shape in SHAPES])
INVADER_COLUMNS = (
    PITCH[0] * np.arange(NUM_COLUMNS)[:, None] + np.linspace(0, INVADER_SIZE[0], POSES.shape[-1])
).ravel()
INVADER_ROWS = np.linspace(0, INVADER_SIZE[1], POSES.shape[1] + 1)


class Invaders(NamedTuple):
    left: Float[np.ndarray, " T"]  # of the formation
    top: Float[np.ndarray, " T"]
    invaders: Bool[np.ndarray, "T 6"]  # row by row
    cannon: Float[np.ndarray, " T"]  # x of its middle
    shot: Float[np.ndarray, "T 2"]  # x of its middle, y of its upper edge, which is outside of the frame without a shot
    time: Int[np.ndarray, " T"]
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Invaders:
    speed, drops = numbers.choice(SPEEDS), int(numbers.integers(2))
    start = in_units(numbers.uniform(0, 2) * ROOM) / ROOM
    alive = numbers.random(NUM_INVADERS) > MISSING
    cannon, has_shot = in_units(numbers.uniform(2, TILES - 2)), numbers.random() < 0.5
    shot_x, shot_y = in_units(numbers.uniform((2, 10.5), (TILES - 2, SHOT_Y)))
    shot_y = shot_y if has_shot else NO_SHOT
    target = int(numbers.integers(NUM_INVADERS))
    score, states = 0, []
    for time, chance in enumerate(numbers.random(num_steps).tolist()):
        left, top = formation(time, speed, start, drops)
        if shot_y != NO_SHOT:
            shot_y = shot_y - SHOT_SPEED if shot_y > SHOT_SPEED - SHOT_SIZE[1] else NO_SHOT
            over_x, over_y = np.abs(shot_x - left - MIDDLES_X), np.abs(shot_y + SHOT_SIZE[1] / 2 - top - MIDDLES_Y)
            hits = (
                alive
                & (over_x < (SHOT_SIZE[0] + INVADER_SIZE[0]) / 2)
                & (over_y < (SHOT_SIZE[1] + INVADER_SIZE[1]) / 2)
            )
            if hits.any():
                alive = alive & (np.arange(NUM_INVADERS) != hits.nonzero()[0].max())
                score, shot_y = score + 1, NO_SHOT
        elif not alive.any():
            alive = np.ones(NUM_INVADERS, bool)
        while alive.any() and not alive[target]:
            target = (target + 1) % NUM_INVADERS
        flight = (SHOT_Y - top - MIDDLES_Y[target]) / SHOT_SPEED
        way = formation(time + flight, speed, start, drops)[0] + MIDDLES_X[target] - cannon
        action = 0
        if abs(way) > CANNON_SPEED:
            action = 1 if way < 0 else 2
        elif shot_y == NO_SHOT and chance < 0.7:
            action = 3
        states.append((left, top, alive, cannon, (shot_x, shot_y), time, action, score))
        cannon += (0, -CANNON_SPEED, CANNON_SPEED, 0)[action]
        if action == 3:
            shot_x, shot_y, target = cannon, SHOT_Y + SHOT_SPEED, int(chance * 1e6) % NUM_INVADERS
    return Invaders(*(np.array(column) for column in zip(*states, strict=True)))


def formation(time: float, speed: float, start: float, drops: int) -> tuple[float, float]:
    """Return the left and upper edge of the formation.

    Args:
        start: place at time 0, in widths of the room to move in; from 1 to 2 on the way back.
        drops: number of turns before time 0.
    """
    turns, part = divmod(start + speed * time / ROOM + 1e-9, 1)
    left = ROOM * (part if turns % 2 == 0 else 1 - part)
    return float(in_units(left)), 1 + DROP * ((drops + turns - int(start)) % NUM_DROPS)


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, GROUND)
    box(frame, 0, EARTH_Y, (TILES, TILES - EARTH_Y), plain(EARTH, GROUND))
    return frame


def draw(game: Invaders, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.left), axis=1)
    alive = game.invaders.reshape(-1, len(INVADERS), NUM_COLUMNS)
    poses = POSES[game.time // POSE_TIME % len(SHAPES)]
    cells = (poses[:, None] & alive[:, :, None, :, None]).reshape(len(alive), len(INVADERS), *poses.shape[1:2], -1)
    for row, colour in enumerate(INVADERS):
        edges = game.left[:, None] + INVADER_COLUMNS, game.top[:, None] + INVADER_ROWS + PITCH[1] * row
        difference = np.subtract(colour, GROUND, dtype=np.float32).reshape(3, 1, 1, 1)
        stamp(frames, cells[None, :, row, :, :-1].astype(np.float32), *edges, difference)
    cannon = sprite(CANNON_SHAPE, GROUND, CANNON)
    box(frames, game.cannon - CANNON_SIZE[0] / 2, CANNON_Y, CANNON_SIZE, cannon)
    box(frames, game.shot[:, 0] - SHOT_SIZE[0] / 2, game.shot[:, 1], SHOT_SIZE, plain(SHOT, GROUND))
    return finished(frames)

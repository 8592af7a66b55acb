"""A frog that crosses a road.

The cars of a lane have the same constant speed. The frog may hop to the lane above or below it every third frame. It
looks ahead and hops where no car will come. After a rest on the grass at the top, or if there is no way out, it starts
again in another column of the grass at the bottom.

Action, before the next frame: 0 = stay, 1 = up, 2 = down. Score: crossings.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from .drawing import TILES, Frames, blank, box, copies_along, coverage, finished, in_units, plain, sprite, with_gaps

ASPHALT, GRASS, LINE = (62, 62, 72), (15, 85, 45), (150, 150, 150)
FROG, WINDOW = (120, 255, 40), (170, 220, 250)
CARS = ((235, 60, 60), (250, 200, 50), (80, 150, 250), (200, 100, 230))  # by lane
NUM_LANES = len(CARS)
BOTTOM = NUM_LANES + 1  # row of the lower grass
LANE = 2.5  # height
PERIOD = 22.0  # distance after which a car returns on the other side
LENGTHS, SPEEDS = (3.5, 5.0), (0.25, 0.5, 0.75)  # of cars and trucks
CAR_HEIGHT, LINE_HEIGHT = 2.0, 0.25
PARTS = np.array([0, 0.25, 0.75, 1])  # of the height of a car, above, beside and below its window
FROG_SIZE, FROG_SHAPE = 2.0, "#..# #### #### #..#"
MARGIN = 0.1  # smallest distance between the frog and a car
HOP_TIME, FORESIGHT = 3, 5  # frames between hops; hops


class Road(NamedTuple):
    cars: Float[np.ndarray, "T lanes 2"]  # left edges
    lengths: Float[np.ndarray, "T lanes"]  # of the cars
    speeds: Float[np.ndarray, "T lanes"]
    frog: Float[np.ndarray, " T"]  # x of its middle
    row: Int[np.ndarray, " T"]  # of the frog; 0 and 5 are grass
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Road:
    direction = np.where(np.arange(NUM_LANES) % 2 == numbers.integers(2), 1, -1)
    speeds = direction * numbers.choice(SPEEDS, NUM_LANES)
    lengths = numbers.choice(LENGTHS, NUM_LANES)
    first, second = in_units(numbers.uniform((0, 9), (PERIOD, 13), (NUM_LANES, 2))).T
    starts = np.stack([first, first + second], axis=1)
    phase = int(numbers.integers(HOP_TIME))
    beats = (np.arange(num_steps + 1) + phase) // HOP_TIME  # also of the frame after the last one
    times = np.arange((beats[-1] + FORESIGHT + 1) * HOP_TIME) - phase
    cars = (starts + speeds[:, None] * times[:, None, None]) % PERIOD - max(LENGTHS)

    row, score, states = int(numbers.integers(1, BOTTOM + 1)), 0, []
    frog, ways = new_frog(numbers, cars, lengths)
    for beat in range(beats[-1] + 1):
        moves = {0: 0} if beat == 0 else {1: -1, 0: 0, 2: 1} if numbers.random() < 0.8 else {0: 0, 1: -1, 2: 1}
        moves = {move: step for move, step in moves.items() if row + step <= BOTTOM}
        action = max(moves, key=lambda move: ways[beat, row + moves[move]])
        if (row == 0 and beat > 0) or ways[beat, row + moves[action]] == 0:
            row, action = BOTTOM, 0
            frog, ways = new_frog(numbers, cars, lengths)
        row += moves[action]
        score += int(row == 0)
        states.append((frog, row, action, score))
    frogs, rows, hops, scores = (np.array(column)[beats] for column in zip(*states, strict=True))
    shape = (num_steps, NUM_LANES)
    return Road(
        cars=cars[phase : phase + num_steps],
        lengths=np.broadcast_to(lengths, shape),
        speeds=np.broadcast_to(speeds, shape),
        frog=frogs[:-1],
        row=rows[:-1],
        action=hops[1:] * np.diff(beats),
        score=scores[:-1],
    )


def new_frog(
    numbers: np.random.Generator,
    cars: Float[np.ndarray, "times lanes 2"],
    lengths: Float[np.ndarray, " lanes"],
) -> tuple[float, Int[np.ndarray, "beats rows"]]:
    """Return a random column, and for how many hops, up to `FORESIGHT`, the frog has a way from each beat and row."""
    frog = float(in_units(numbers.uniform(1.5, TILES - 1.5)))
    is_near = np.abs(cars + lengths[:, None] / 2 - frog) < lengths[:, None] / 2 + (FROG_SIZE / 2 + MARGIN)
    is_free = np.ones((len(cars) // HOP_TIME, NUM_LANES + 4), bool)  # with a row that cannot be reached at each end
    is_free[:, 2:-2] = ~is_near.any(axis=2).reshape(-1, HOP_TIME, NUM_LANES).any(axis=1)
    is_free[:, [0, -1]] = False
    ways = is_free.astype(int)
    for _ in range(FORESIGHT - 1):
        later = np.maximum.reduce([ways[1:, :-2], ways[1:, 1:-1], ways[1:, 2:]])
        ways[:-1, 1:-1] = is_free[:-1, 1:-1] * (1 + later)
    return frog, ways[:, 1:-1]


@cache
def background(resolution: int) -> Frames:
    frame = blank(resolution, ASPHALT)
    for y, height in ((0, LANE), (BOTTOM * LANE, TILES - BOTTOM * LANE)):
        box(frame, 0, y, (TILES, height), plain(GRASS, ASPHALT))
    line = sprite("#." * 8, ASPHALT, LINE)
    for lane in range(1, NUM_LANES):
        box(frame, 0, (lane + 1) * LANE - LINE_HEIGHT / 2, (TILES, LINE_HEIGHT), line)
    return frame


def draw(game: Road, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frames = background(resolution).repeat(len(game.cars), axis=1)
    add_cars(frames, game)
    is_on_grass = (game.row == 0) | (game.row == BOTTOM)
    on_grass, on_asphalt = (sprite(FROG_SHAPE, ground, FROG) for ground in (GRASS, ASPHALT))
    cells = np.where(is_on_grass[:, None, None], on_grass, on_asphalt)
    y = game.row * LANE + (LANE - FROG_SIZE) / 2
    box(frames, game.frog - FROG_SIZE / 2, y, (FROG_SIZE, FROG_SIZE), cells)
    return finished(frames)


def add_cars(frames: Frames, game: Road) -> None:
    """Add all cars at once: first the colours of each lane along x, then the lanes along y."""
    is_forwards = game.speeds[0] > 0
    length = game.lengths[0]
    window = np.where(is_forwards, length - 1.25, 0.5)
    parts = np.stack([np.zeros(NUM_LANES), window, window + 0.75, length], axis=1)
    columns, _ = coverage(copies_along(game.cars[..., None] + parts[:, None]).reshape(-1, 10), frames.shape[3])
    columns = columns.reshape(len(game.cars), NUM_LANES, -1, 9).swapaxes(2, 3)
    cells = np.stack([with_gaps(sprite("### #a# ### ...", ASPHALT, colour, WINDOW), 2)[:, 0] for colour in CARS])
    strips = cells.reshape(NUM_LANES, -1, 9) @ columns  # T lanes channels * rows W
    strips = strips.reshape(len(strips), NUM_LANES, 3, 4, -1).transpose(2, 0, 1, 3, 4)
    edges = LANE * np.arange(1, NUM_LANES + 1)[:, None] + (LANE - CAR_HEIGHT) / 2 + CAR_HEIGHT * PARTS
    rows, (top,) = coverage(np.append(edges.ravel(), BOTTOM * LANE)[None], frames.shape[2])
    frames[:, :, top : top + rows.shape[1]] += rows @ strips.reshape(*strips.shape[:2], -1, strips.shape[4])

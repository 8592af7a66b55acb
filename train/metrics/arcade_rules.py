"""Whether videos of the arcade games keep the rules of their game, measured on pixels without a learned model.

Objects are found by their colours, so this works for real and for generated videos. A video that stands still or is
blank breaks the rules. Lengths are in tiles, 16 to the width of the frame, and speeds in tiles per frame, for clips
with a frame stride of 1.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.arcade import blocks, bricks, invaders, maze, paddles, road, runner, snake
from ..data.arcade.drawing import TILES, Colour, coverage, gapped

SIZE = 64  # videos are averaged down to this size
PIXELS = (np.arange(SIZE) + 0.5) * TILES / SIZE  # middles of the pixels
RED = np.array([[letter == "#" for letter in row] for row in runner.RUNNING[0].split()])  # parts of the runner
RED_PLACE = (
    runner.RUNNER_X + runner.RUNNER_SIZE[0] / 2,
    runner.GROUND_Y + runner.RUNNER_SIZE[1] * ((RED.nonzero()[0].mean() + 0.5) / len(RED) - 1),
)  # middle of what is red in a runner on the ground
NEAR, SAME = 110, 18  # largest distances of a pixel to a colour, from 0 to 255 in each channel

Frames = Float[np.ndarray, "T h w 3"]  # from 0 to 255
Rules = dict[str, bool]


def kept_rules(video: Float[Tensor, "3 T H W"], game: str) -> Rules:
    """Return which rules of a game a video in [0, 1] keeps.

    Raises:
        ValueError: if the video has fewer than 9 frames or fewer than 64 pixels, or if there is no such game.
    """
    if game not in RULES:
        raise ValueError(f"game must be one of {', '.join(RULES)}, got {game!r}")
    if video.shape[1] < 9 or min(video.shape[2:]) < SIZE:
        raise ValueError(f"videos must have 9 frames or more of {SIZE} pixels or more, got {tuple(video.shape[1:])}")
    small = F.interpolate(video.movedim(1, 0).float(), size=(SIZE, SIZE), mode="area")
    return RULES[game](small.movedim(1, -1).cpu().numpy() * 255)


def share_of_rules_kept(videos: Float[Tensor, "b 3 T H W"], games: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return for each game the share of its videos that keep each rule, and under "all", that keep all rules."""
    kept: dict[str, list[Rules]] = {}
    for video, game in zip(videos, games, strict=True):
        rules = kept_rules(video, game)
        kept.setdefault(game, []).append(rules | {"all": all(rules.values())})
    return {
        game: {rule: float(np.mean([one[rule] for one in rows])) for rule in rows[0]} for game, rows in kept.items()
    }


class Track(NamedTuple):
    """What all pixels of a colour have in common, per frame."""

    area: Float[np.ndarray, " T"]
    x: Float[np.ndarray, " T"]  # mean
    y: Float[np.ndarray, " T"]
    width: Float[np.ndarray, " T"]  # of a rectangle with the same standard deviation
    height: Float[np.ndarray, " T"]

    def is_one(self, size: tuple[float, float], share: float = 1.0) -> bool:
        """Return whether there is always one object of this size, with a share of its rectangle in this colour."""
        expected = size[0] * size[1] * share
        has_area = (self.area > 0.45 * expected) & (self.area < 1.5 * expected)
        return bool((has_area & (self.width < size[0] + 0.7) & (self.height < size[1] + 0.7)).all())


def nearest(pixels: Float[np.ndarray, "*axes 3"], colours: Sequence[Colour]) -> Int[np.ndarray, "*axes"]:
    """Return the number of the nearest colour of each pixel."""
    return distances_to(pixels, colours).argmin(axis=0)


def distances_to(
    pixels: Float[np.ndarray, "*axes 3"], colours: Sequence[Colour] | Float[np.ndarray, "_ 3"]
) -> Float[np.ndarray, " _ *axes"]:
    """Return the distances of pixels to colours."""
    numbers = np.asarray(colours, pixels.dtype)
    squares = (pixels**2).sum(axis=-1, keepdims=True) - 2 * pixels @ numbers.T + (numbers**2).sum(axis=1)
    return np.sqrt(np.moveaxis(squares, -1, 0).clip(0))


def track(frames: Frames, colour: Colour, ground: Colour, others: Sequence[Colour]) -> Track:
    """Find what has a colour.

    Args:
        ground: colour around it. A pixel between both counts in part if it is next to one of the colour.
        others: other colours, whose pixels do not count.
    """
    distances = distances_to(frames, (colour, ground, *others))
    is_near = (distances.argmin(axis=0) == 0) & (distances[0] < NEAR)
    around = neighbours(is_near & (neighbours(is_near) >= 4)) > 0  # single pixels are noise
    direction = np.subtract(colour, ground)
    share = ((frames - ground) @ direction / (direction @ direction)).clip(0, 1) * around
    share *= (distances[2:] > SAME).all(axis=0)
    total = share.sum(axis=(1, 2)) + 1e-9
    moments = []
    for axis in (1, 2):
        profile = share.sum(axis=axis) / total[:, None]
        places = PIXELS[: profile.shape[1]]
        middle = profile @ places
        variance = (profile * (places - middle[:, None]) ** 2).sum(axis=1)
        moments += [middle, np.sqrt(12 * variance)]
    return Track(total * (TILES / SIZE) ** 2, moments[0], moments[2], moments[1], moments[3])


def neighbours(mask: Bool[np.ndarray, "T h w"]) -> Int[np.ndarray, "T h w"]:
    """Return the number of pixels of a mask in the square of 3 x 3 pixels around each pixel."""
    padded = np.pad(mask.astype(int), ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]


def cell_colours(
    frames: Frames, x: Float[np.ndarray, "1 _"], y: Float[np.ndarray, "1 _"]
) -> Float[np.ndarray, "T rows columns 3"]:
    """Return the mean colour of every second interval between edges, which `gapped` gives."""
    (rows,), (top,) = coverage(y, SIZE)
    (columns,), (left,) = coverage(x, SIZE)
    rows, columns = (part[:, ::2] / part[:, ::2].sum(axis=0) for part in (rows, columns))
    window = frames[:, top : top + len(rows), left : left + len(columns)]
    return np.einsum("thwc,hi,wj->tijc", window, rows, columns, optimize=True)


def has_colour(cells: Float[np.ndarray, "*axes 3"], colour: Colour, ground: Colour) -> Bool[np.ndarray, "*axes"]:
    """Return whether cells are nearer to a colour than to the ground."""
    direction = np.subtract(colour, ground)
    return (cells - ground) @ direction > 0.5 * direction @ direction


def bounces(
    place: Float[np.ndarray, " T"], low: float, high: float, is_free: Bool[np.ndarray, " T"]
) -> tuple[bool, bool]:
    """Return whether a coordinate has a constant speed, and whether it is reflected only at the ends of [low, high].

    Args:
        is_free: frames around which it may also be reflected.
    """
    steps = np.diff(place)
    speed = float(np.median(np.abs(steps)))
    room = np.minimum(place - low, high - place)
    at_end = (np.minimum(room[:-1], room[1:]) < speed + 0.3) | is_free[:-1] | is_free[1:]
    is_steady = np.abs(np.abs(steps) - speed) < 0.2
    turned = (steps[1:] * steps[:-1] < 0) & (np.minimum(np.abs(steps[1:]), np.abs(steps[:-1])) > 0.1)
    may_turn = at_end[1:] | at_end[:-1]
    is_slower = np.abs(steps) < speed + 0.25
    return bool((is_steady | (at_end & is_slower)).all()) and speed > 0.15, bool(
        (~turned | may_turn).all() and room.min() > -0.4
    )


def shift_speed(
    profile: Float[np.ndarray, "T 64"], slowest: float, fastest: float, gap: int = 3
) -> tuple[float, float]:
    """Return the speed, in [slowest, fastest], that explains how a profile moves along x, and the worst mean error."""
    best = (math.nan, math.inf)
    for speed in np.arange(slowest, fastest, 0.025).tolist():
        before = PIXELS - gap * speed
        is_seen = (before > 0) & (before < TILES)
        moved = np.stack([np.interp(before[is_seen], PIXELS, row) for row in profile[:-gap]])
        error = np.abs(profile[gap:, is_seen] - moved).mean(axis=1).max()
        if error < best[1]:
            best = (speed, float(error))
    return best


def rules_of_paddles(frames: Frames) -> Rules:
    palette = (paddles.BALL, paddles.LEFT, paddles.RIGHT, paddles.WALL, paddles.NET)
    ball, left, right = (
        track(frames, colour, paddles.GROUND, [other for other in palette if other != colour]) for colour in palette[:3]
    )
    half = paddles.BALL_SIZE / 2
    low, high = paddles.FACES[0] + half, paddles.FACES[1] - half
    nowhere = np.zeros(len(frames), bool)
    ends = paddles.WALL_HEIGHT + half
    speed_x, turns_x = bounces(ball.x, low, high, nowhere)
    speed_y, turns_y = bounces(ball.y, ends, TILES - ends, nowhere)
    width, height = paddles.PADDLE_SIZE
    middles = paddles.FACES[0] - width / 2, paddles.FACES[1] + width / 2
    reach = (height + paddles.BALL_SIZE) / 2 + 0.3
    return {
        "one ball": ball.is_one((paddles.BALL_SIZE, paddles.BALL_SIZE)),
        "one paddle on each side": all(
            paddle.is_one(paddles.PADDLE_SIZE) and bool((np.abs(paddle.x - middle) < 0.4).all())
            for paddle, middle in zip((left, right), middles, strict=True)
        ),
        "constant speed": speed_x and speed_y,
        "reflected at walls and paddles": turns_x and turns_y,
        "never missed": bool(
            (np.abs(left.y - ball.y)[ball.x < low + 0.2] < reach).all()
            and (np.abs(right.y - ball.y)[ball.x > high - 0.2] < reach).all()
        ),
    }


def rules_of_bricks(frames: Frames) -> Rules:
    others = (bricks.WALL, *bricks.ROWS)
    ball = track(frames, bricks.BALL, bricks.GROUND, (bricks.PADDLE, *others))
    paddle = track(frames, bricks.PADDLE, bricks.GROUND, (bricks.BALL, *others))
    cells = cell_colours(frames, bricks.COLUMN_EDGES, bricks.ROW_EDGES)
    saturation = np.ptp(np.array(bricks.ROWS), axis=1)  # the ball and the ground have almost none
    present = (np.ptp(cells, axis=-1) > 0.5 * saturation[:, None]).reshape(len(frames), -1)
    middles = bricks.CORNERS + np.array(bricks.BRICK_SIZE)[:, None] / 2
    half = bricks.BALL_SIZE / 2
    reach = np.array(bricks.BRICK_SIZE)[:, None] / 2 + half + 1.3
    is_at = (np.abs(np.stack([ball.x, ball.y])[:, :, None] - middles[:, None]) - reach[:, None]).max(axis=0) < 0
    gone = present[:-1] & ~present[1:]
    is_hit = np.append(False, gone.any(axis=1))
    low = bricks.WALL_WIDTH + half
    speed_x, turns_x = bounces(ball.x, low, TILES - low, is_hit)
    speed_y, turns_y = bounces(ball.y, low, bricks.PADDLE_Y - half, is_hit)
    return {
        "one ball": ball.is_one((bricks.BALL_SIZE, bricks.BALL_SIZE)),
        "one paddle": paddle.is_one(bricks.PADDLE_SIZE)
        and bool((np.abs(paddle.y - bricks.PADDLE_Y - bricks.PADDLE_SIZE[1] / 2) < 0.4).all()),
        "constant speed": speed_x and speed_y,
        "reflected at walls, paddle and bricks": turns_x and turns_y,
        "bricks vanish only when hit": bool(
            (~gone | is_at[:-1] | is_at[1:]).all() and (gone.sum(axis=1) <= 2).all() and present[0].any()
        ),
        "bricks never come back": not (~present[:-1] & present[1:]).any(),
    }


def rules_of_snake(frames: Frames) -> Rules:
    margin = 0.15  # edges of cells are mixed with the ground
    edges = gapped(snake.BORDER + margin, snake.SIZE, snake.CELL - 2 * margin, snake.GAP + 2 * margin)
    colours = (snake.GROUND, snake.BODY, snake.HEAD, snake.FOOD)
    board = nearest(cell_colours(frames, edges, edges), colours)
    is_snake = (board == snake.OF_BODY) | (board == snake.OF_HEAD)
    heads, foods = (board == snake.OF_HEAD).sum(axis=(1, 2)), (board == snake.OF_FOOD).sum(axis=(1, 2))
    if (heads != 1).any():
        return dict.fromkeys(("one head and food", "one piece", "moves by one cell", "grows by eating"), False)
    places = np.array([np.argwhere(one == snake.OF_HEAD)[0] for one in board])
    steps = np.abs(np.diff(places, axis=0)).sum(axis=1)
    moves = steps.nonzero()[0]
    added = (is_snake[1:] & ~is_snake[:-1]).sum(axis=(1, 2))
    removed = (is_snake[:-1] & ~is_snake[1:]).sum(axis=(1, 2))
    ate = np.array([before[tuple(place)] == snake.OF_FOOD for before, place in zip(board, places[1:], strict=False)])
    num_moves = (len(frames) - 1) // snake.MOVE_TIME
    return {
        "one head and food": bool((foods == 1).all()),
        "one piece": all(is_connected(one) for one in is_snake) and bool((is_snake.sum(axis=(1, 2)) >= 4).all()),
        "moves by one cell": bool((steps <= 1).all() and (added == steps).all() and (removed <= steps).all())
        and bool((np.diff(moves) == snake.MOVE_TIME).all())
        and len(moves) >= num_moves - 1,
        "grows by eating": bool((added - removed == ate).all()),
    }


def is_connected(mask: Bool[np.ndarray, "h w"]) -> bool:
    """Return whether all cells of a mask are connected by sides."""
    waiting = {(row, column) for row, column in np.argwhere(mask).tolist()}
    edge = [waiting.pop()] if waiting else []
    while edge:
        row, column = edge.pop()
        found = waiting & {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)}
        waiting -= found
        edge += found
    return not waiting


def rules_of_blocks(frames: Frames) -> Rules:
    board = half_cells(frames)
    is_flicker = (board[:-2] == board[2:]) & (board[:-2] > 0) & (board[1:-1] > 0)  # no piece takes another one's place
    board[1:-1] = np.where(is_flicker, board[:-2], board[1:-1])
    columns_before, kinds = None, []
    for before, after in pairwise(board):
        kind, columns = change_of_blocks(before, after)
        if kind == "fall" and columns_before is not None and not columns_before <= columns:
            kind = "wrong column"
        columns_before = columns if kind == "fall" else None
        kinds.append(kind)
    changes = [kind for kind in kinds if kind != "none"]
    return {
        "blocks fall at a constant rate": kinds.count("none") <= len(kinds) // 4
        and kinds.count("fall") > len(kinds) // 2,
        "blocks stay in their column": "wrong column" not in kinds,
        "only falling blocks and full rows change": "other" not in changes,
    }


def half_cells(frames: Frames) -> Int[np.ndarray, "T rows columns"]:
    """Return the numbers of the colours of the upper and lower half of each cell."""
    columns = gapped(blocks.LEFT + blocks.GAP, blocks.NUM_COLUMNS, blocks.CELL, blocks.GAP)
    rows = gapped(blocks.GAP + 0.15, 2 * blocks.NUM_ROWS, blocks.PITCH / 2 - 0.4, 0.4)
    light = cell_colours(frames, columns, rows) - blocks.GROUND
    strength = light.max(axis=-1, keepdims=True)  # less where a piece has a gap
    hues = np.subtract(blocks.COLOURS, blocks.GROUND).astype(float)
    hues /= hues.max(axis=-1, keepdims=True)
    return np.where(strength[..., 0] > 110, 1 + distances_to(light / np.maximum(strength, 1), hues).argmin(axis=0), 0)


def change_of_blocks(
    before: Int[np.ndarray, "rows columns"], after: Int[np.ndarray, "rows columns"]
) -> tuple[str, set[int]]:
    """Return what happens between two frames, and the columns where a piece falls."""
    rows, columns = (before != after).nonzero()
    if not len(rows):
        return "none", set()
    is_full = (before[::2] > 0).all(axis=1) & (before[1::2] > 0).all(axis=1)
    if is_full.any():
        kept = before[~is_full.repeat(2)]
        expected = np.concatenate([np.zeros((2 * is_full.sum(), before.shape[1]), int), kept])
        if np.array_equal(expected, after):
            return "clear", set()
    colours = {*before[rows, columns].tolist(), *after[rows, columns].tolist()} - {0}
    falls = len(colours) == 1 and np.ptp(columns) < 4
    for column in {*columns.tolist()}:
        changed = rows[columns == column]
        filled = [row for row in changed.tolist() if before[row, column] == 0]
        emptied = [row for row in changed.tolist() if after[row, column] == 0]
        falls &= all(row == 0 or before[row - 1, column] for row in filled)
        falls &= all(row == len(before) - 1 or after[row + 1, column] for row in emptied)
        falls &= len(filled) - len(emptied) in ((0, 1) if after[0, column] else (0,))
    return ("fall" if falls else "other"), {*columns.tolist()}


def rules_of_road(frames: Frames) -> Rules:
    frog = track(frames, road.FROG, road.ASPHALT, (road.GRASS, road.LINE, *road.CARS))
    is_steady, is_whole = True, True
    for lane, colour in enumerate(road.CARS):
        top = int((road.LANE * (lane + 1) + (road.LANE - road.CAR_HEIGHT) / 2) * SIZE / TILES)
        strip = frames[:, top : top + int(road.CAR_HEIGHT * SIZE / TILES)]
        kinds = nearest(strip, (road.ASPHALT, colour, road.WINDOW, road.FROG))
        profile = ((kinds == 1) | (kinds == 2)).mean(axis=1)
        slow, fast = 0.2, 0.85
        errors = [shift_speed(profile, *speeds)[1] for speeds in ((slow, fast), (-fast, -slow))]
        is_steady &= min(errors) < 0.06
        lengths = np.concatenate([runs(row > 0.5) for row in profile])
        is_whole &= len(lengths) > 0 and (np.ptp(lengths) < 1 and abs(lengths.mean() - np.mean(road.LENGTHS)) < 1.2)
    rows = (frog.y - road.LANE / 2) / road.LANE
    nearest_rows = rows.round()
    hops = np.diff(nearest_rows)
    is_new = nearest_rows[1:] == road.BOTTOM
    return {
        "one frog": frog.is_one((road.FROG_SIZE, road.FROG_SIZE), 0.75),
        "frog in lanes": bool((np.abs(rows - nearest_rows) < 0.2).all()),
        "frog hops by one lane": bool(
            ((np.abs(hops) <= 1) & (np.abs(np.diff(frog.x)) < 0.5) | is_new).all() and (np.abs(hops) > 0).sum() <= 7
        ),
        "cars at constant speed": is_steady,
        "cars whole": is_whole,
    }


def runs(mask: Bool[np.ndarray, " 64"]) -> Float[np.ndarray, " runs"]:
    """Return the lengths of runs that do not touch the sides."""
    changes = np.flatnonzero(np.diff(mask.astype(int)))
    starts = changes[~mask[changes]]
    ends = changes[mask[changes]]
    ends = ends[ends > starts[0]] if len(starts) else ends[:0]
    return (ends - starts[: len(ends)]) * (TILES / SIZE)


def rules_of_maze(frames: Frames) -> Rules:
    palette = (maze.PLAYER, maze.CHASER, maze.WALL, maze.DOT, maze.EYES)
    player, chaser = (
        track(frames, colour, maze.GROUND, [other for other in palette if other != colour]) for colour in palette[:2]
    )
    is_wall = walls_seen(frames)
    size = (maze.CHARACTER_SIZE, maze.CHARACTER_SIZE)
    first = (maze.PITCH + maze.WALL_WIDTH - maze.DOT_SIZE) / 2
    edges = gapped(first, maze.SIZE, maze.DOT_SIZE, maze.PITCH - maze.DOT_SIZE)
    dots = has_colour(cell_colours(frames, edges, edges), maze.DOT, maze.GROUND).reshape(len(frames), -1)
    middles = maze.middle(np.arange(maze.SIZE**2))
    reach = maze.TOUCH + maze.PITCH / maze.MOVE_TIME + 0.2
    near = [np.abs(np.stack([one.x, one.y], axis=1)[:, None] - middles).max(axis=2) < reach for one in (player, chaser)]
    is_near = near[0] | near[1]
    was_touched = np.logical_or.accumulate(near[0], axis=0)
    return {
        "one player": player.is_one(size, 0.75),
        "one chaser": chaser.is_one(size, 0.75),
        "in corridors": all(in_corridors(one, is_wall[0]) for one in (player, chaser)),
        "constant speed between junctions": all(is_walking(one) for one in (player, chaser)) and is_moving(player),
        "walls stay": bool((is_wall == is_wall[0]).mean() > 0.995),
        "dots vanish only when touched": all(
            only_vanishes(dot[~is_over], touched[~is_over])
            for dot, is_over, touched in zip(dots.T, is_near.T, was_touched.T, strict=True)
        ),
    }


def only_vanishes(is_there: Bool[np.ndarray, " t"], was_touched: Bool[np.ndarray, " t"]) -> bool:
    """Return whether a dot is always there, never, or there until it is touched."""
    return not (is_there[1:] & ~is_there[:-1]).any() and not (~is_there & is_there[:1] & ~was_touched).any()


def walls_seen(frames: Frames) -> Bool[np.ndarray, "T 9 9"]:
    """Return which walls and posts there are, and False for corridors."""
    is_wall = np.zeros((len(frames), 2 * maze.SIZE + 1, 2 * maze.SIZE + 1), bool)
    corridors = gapped(maze.WALL_WIDTH, maze.SIZE, maze.PITCH - maze.WALL_WIDTH, maze.WALL_WIDTH)
    for rows, columns in ((0, 1), (1, 0)):
        edges = (maze.WALL_EDGES, corridors)
        cells = cell_colours(frames, edges[columns], edges[rows])
        is_wall[:, rows::2, columns::2] = has_colour(cells, maze.WALL, maze.GROUND)
    return is_wall


def in_corridors(one: Track, is_wall: Bool[np.ndarray, "9 9"]) -> bool:
    """Return whether something is always on the middle line of a corridor without a wall across."""
    for x, y in zip(one.x, one.y, strict=True):
        column, row = ((place - maze.WALL_WIDTH / 2) / maze.PITCH - 0.5 for place in (x, y))
        off = abs(column - round(column)), abs(row - round(row))
        if min(off) * maze.PITCH > 0.4 or not (min(row, column) > -0.2 and max(row, column) < maze.SIZE - 0.8):
            return False
        if max(off) > 0.2:
            place = (
                (2 * round(row) + 1, 2 * math.floor(column) + 2)
                if off[0] > off[1]
                else (2 * math.floor(row) + 2, 2 * round(column) + 1)
            )
            if is_wall[place]:
                return False
    return True


def is_walking(one: Track) -> bool:
    """Return whether something moves at the speed of the maze, and waits at junctions only."""
    steps = np.abs(np.diff(one.x)) + np.abs(np.diff(one.y))
    is_step = np.abs(steps - maze.PITCH / maze.MOVE_TIME) < 0.35
    off = [np.abs((place - maze.WALL_WIDTH / 2) / maze.PITCH % 1 - 0.5) * maze.PITCH for place in (one.x, one.y)]
    is_at_junction = np.maximum(*off) < 0.35
    return bool((is_step | ((steps < 0.3) & is_at_junction[:-1])).all())


def is_moving(one: Track) -> bool:
    """Return whether something moves in more than half of the frames."""
    return float(np.median(np.abs(np.diff(one.x)) + np.abs(np.diff(one.y)))) > 0.3


def rules_of_runner(frames: Frames) -> Rules:
    others = (runner.SKIN, runner.TROUSERS, runner.PIPE, runner.RIM, runner.GRASS, runner.EARTH, runner.STONE)
    cap = track(frames, runner.CAP, runner.SKY, others)
    earth = int((runner.GROUND_Y + runner.GRASS_HEIGHT) * SIZE / TILES)
    stones = nearest(frames[:, earth + 1 : earth + 4], (runner.EARTH, runner.STONE)).mean(axis=1)
    speed, error = shift_speed(stones, -0.85, -0.4)
    top, bottom = (int((runner.GROUND_Y - height) * SIZE / TILES) for height in (1.4, 0.2))
    kinds = nearest(frames[:, top:bottom], (runner.PIPE, runner.RIM, runner.SKY, runner.CAP, *others[:2]))
    pipes = (kinds <= 1).mean(axis=1)
    moved = np.stack([np.interp(PIXELS - speed, PIXELS, row) for row in pipes[:-1]])
    is_seen = PIXELS < TILES - 1
    return {
        "one runner": cap.is_one(runner.RUNNER_SIZE, RED.mean()) and bool((np.abs(cap.x - RED_PLACE[0]) < 0.4).all()),
        "on the ground or on a parabola": is_jumping(RED_PLACE[1] - cap.y),
        "ground at constant speed": error < 0.15 and stones.std() > 0.2,
        "pipes move with the ground": bool(np.abs(pipes[1:] - moved)[:, is_seen].mean(axis=1).max() < 0.06),
    }


def is_jumping(height: Float[np.ndarray, " T"]) -> bool:
    """Return whether a height is near 0, or follows a jump of the runner wherever it is not."""
    times = np.arange(len(height))
    in_air = np.flatnonzero(height > 0.5)
    for run in np.split(in_air, np.flatnonzero(np.diff(in_air) > 1) + 1):
        highest = np.arange(-10, len(height) + 10, 0.1)[:, None]
        jumps = runner.JUMP_HEIGHT * (1 - ((times[run] - highest) / (runner.JUMP_TIME / 2)) ** 2)
        if len(run) and np.abs(jumps - height[run]).max(axis=1).min() > 0.6:
            return False
    return bool((height > -0.4).all())


def rules_of_invaders(frames: Frames) -> Rules:
    others = (invaders.EARTH, invaders.CANNON, invaders.SHOT)
    colours = (*invaders.INVADERS, *others, invaders.GROUND)
    kinds = nearest(frames, colours)
    x_phases, y_phases, weights = [], [], []
    for row in range(len(invaders.INVADERS)):
        mask = (kinds == row)[:, : int(invaders.CANNON_Y * SIZE / TILES)]
        x_phases.append(mask.sum(axis=1) @ np.exp(2j * math.pi * PIXELS / invaders.PITCH[0]))
        y_phases.append(mask.sum(axis=2) @ np.exp(2j * math.pi * PIXELS[: mask.shape[1]] / invaders.PITCH[1]))
        weights.append(mask.sum(axis=(1, 2)))
    is_shown = np.array(weights) > 6
    off = np.angle(np.array(x_phases) * np.conj(np.sum(x_phases, axis=0))) * invaders.PITCH[0] / (2 * math.pi)
    x, y = (
        np.unwrap(np.angle(np.sum(phases, axis=0))) * pitch / (2 * math.pi)
        for phases, pitch in zip((x_phases, y_phases), invaders.PITCH, strict=True)
    )
    steps, drops = np.diff(x), np.diff(y)
    speed = float(np.median(np.abs(steps)))
    is_drop = np.abs(drops - invaders.DROP) < 0.35
    turned = steps[1:] * steps[:-1] < 0
    left = np.round(x[0] - invaders.INVADER_SIZE[0] / 2, 6) % invaders.PITCH[0] + x - x[0] - invaders.PITCH[0]
    alive = invaders_at(kinds, left, len(invaders.INVADERS))
    top = int(invaders.CANNON_Y * SIZE / TILES) - 2
    cannon = track(frames[:, top:], invaders.CANNON, invaders.GROUND, (invaders.EARTH, invaders.SHOT))
    shot = track(frames, invaders.SHOT, invaders.GROUND, (*invaders.INVADERS, *others[:2]))
    gone = alive[:-1] & ~alive[1:]
    has_shot = shot.area[:-1] > 0.5
    shot_rises = np.diff(shot.y)[has_shot & (shot.area[1:] > 0.5)]
    is_whole = (shot.y > 0.8) & (shot.area > 0.5)
    return {
        "one formation": bool((is_shown[:, 0]).any()) and bool((np.abs(off)[is_shown] < 0.35).all()),
        "constant speed": speed > 0.15 and bool((is_drop | (np.abs(np.abs(steps) - speed) < 0.25)).all()),
        "turns and goes down at once": bool(
            (is_drop | (np.abs(drops) < 0.3)).all() and (~turned | is_drop[1:] | is_drop[:-1]).all()
        ),
        "invaders vanish only when hit": bool(
            (gone.sum(axis=(1, 2)) <= has_shot).all() and not (~alive[:-1] & alive[1:]).any()
        ),
        "one cannon": cannon.is_one(invaders.CANNON_SIZE, 0.6)
        and bool((np.abs(np.diff(cannon.x)) < invaders.CANNON_SPEED + 0.2).all()),
        "one shot at constant speed": bool(
            (shot.area < 1.5 * invaders.SHOT_SIZE[0] * invaders.SHOT_SIZE[1]).all()
            and (shot.width < invaders.SHOT_SIZE[0] + 0.75)[is_whole].all()
            and ((np.abs(shot_rises + invaders.SHOT_SPEED) < 0.5) | (shot_rises > 1)).all()
        ),
    }


def invaders_at(
    kinds: Int[np.ndarray, "T 64 64"], left: Float[np.ndarray, " T"], num_rows: int
) -> Bool[np.ndarray, "T rows columns"]:
    """Return where invaders are, by colour and by column of a grid that moves with the formation.

    Args:
        left: edge of the first column of the grid, which reaches beyond the frame on both sides.
    """
    starts = left[:, None] + invaders.PITCH[0] * np.arange(-3, 9)
    is_inside = (starts[:, :, None] < PIXELS) & (starts[:, :, None] + invaders.INVADER_SIZE[0] > PIXELS)
    counts = np.stack([(kinds == row).sum(axis=1) for row in range(num_rows)], axis=1)
    areas = np.einsum("trx,tcx->trc", counts, is_inside) * (TILES / SIZE) ** 2
    return areas > 0.25 * invaders.INVADER_SIZE[0] * invaders.INVADER_SIZE[1]


RULES: dict[str, Callable[[Frames], Rules]] = {
    "blocks": rules_of_blocks,
    "bricks": rules_of_bricks,
    "invaders": rules_of_invaders,
    "maze": rules_of_maze,
    "paddles": rules_of_paddles,
    "road": rules_of_road,
    "runner": rules_of_runner,
    "snake": rules_of_snake,
}

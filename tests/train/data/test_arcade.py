from itertools import pairwise
from time import process_time
from typing import Any

import numpy as np
import pytest

from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.data.arcade import (
    GAMES,
    blocks,
    bricks,
    invaders,
    maze,
    paddles,
    play_clip,
    render_clip,
    road,
    runner,
    snake,
)
from magvit2_pytorch.train.data.arcade.drawing import TILES, UNIT

NUM_STEPS = 60
SEEDS = range(25)


def games_of(module: Any) -> list[Any]:
    return [module.play(np.random.default_rng(seed), NUM_STEPS) for seed in SEEDS]


def clip(index: int, num_frames: int = 17, stride: int = 1, resolution: int = 64) -> np.ndarray:
    return render_clip((0,), index, num_frames=num_frames, stride=stride, resolution=resolution)


def is_near(frames: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a frame has a colour."""
    return np.abs(frames.astype(int) - colour).max(axis=-1) <= 1


def overlaps(place: np.ndarray, size: tuple[float, float], other: np.ndarray, other_size: tuple[float, float]) -> Any:
    """Whether rectangles with these middles overlap."""
    return (np.abs(place - other) < (np.array(size) + other_size) / 2 - 1e-6).all(axis=-1)


@pytest.mark.parametrize("index", range(16))
def test_a_pixel_is_the_mean_of_the_finer_pixels_in_it(index: int) -> None:
    coarse, fine = (clip(index, num_frames=9, resolution=resolution).astype(float) for resolution in (48, 96))

    assert np.abs(fine.reshape(9, 48, 2, 48, 2, 3).mean(axis=(2, 4)) - coarse).max() <= 1


@pytest.mark.parametrize("index", range(16))
def test_things_move_by_whole_pixels_at_64(index: int) -> None:
    coarse, fine = (clip(index, resolution=resolution).astype(int) for resolution in (64, 128))

    between_pixels = np.abs(coarse.repeat(2, axis=1).repeat(2, axis=2) - fine).max(axis=-1) > 1
    assert np.array_equal(between_pixels, np.broadcast_to(between_pixels[0], between_pixels.shape))
    assert between_pixels.mean() < 0.1


@pytest.mark.parametrize("index", range(8))
def test_a_clip_depends_on_seed_and_number_alone_and_the_stride_is_the_speed(index: int) -> None:
    frames = clip(index, num_frames=13, resolution=16)

    assert np.array_equal(clip(index, num_frames=5, stride=3, resolution=16), frames[::3])
    assert not np.array_equal(clip(index + 8, num_frames=13, resolution=16), frames)


@pytest.mark.parametrize("index", range(24))
def test_something_moves_between_any_two_frames_of_every_third(index: int) -> None:
    frames = clip(index, num_frames=6, stride=3).astype(float)

    assert (np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)) > 20).sum() >= 4


def test_labels_are_games_and_clips_are_never_mirrored() -> None:
    data = load_data(DataConfig(path="arcade", resolution=16, num_frames=5, image_ratio=0.5))

    assert data.labels == ("blocks", "bricks", "invaders", "maze", "paddles", "road", "runner", "snake")
    assert (len(data.train), len(data.heldout)) == (4096, 256)
    assert np.bincount(data.heldout.table["label"]).tolist() == [32] * 8
    assert not data.allows_flip
    assert data.images is not None
    for clips, seed in ((data.train.every_window(), (0, 0)), (data.heldout, (0, 1))):
        expected = render_clip(seed, 13, num_frames=5, stride=1, resolution=16)
        assert np.array_equal(clips.pixels(13), np.moveaxis(expected, -1, 0))
        assert data.labels[clips.table[13]["label"]] == "road"


def test_clips_have_one_action_and_one_score_per_frame() -> None:
    scored = set[str]()
    for index in range(160):
        played = play_clip((0,), index, num_frames=17, stride=2, resolution=8)
        assert played.action.shape == played.score.shape == (17,)
        assert played.score[0] == 0
        assert set(np.diff(played.score)) <= {0, 1, 2, 3, 4}
        assert played.action.min() >= 0
        assert played.action.max() <= 7
        if played.score[-1]:
            scored.add(list(GAMES)[index % 8])
    assert scored == set(GAMES)


def assert_bounces(place: np.ndarray, low: float, high: float) -> None:
    """The speed is constant, and changes its sign only at the ends of [low, high]."""
    steps = np.diff(place)
    speed = np.median(np.abs(steps))
    is_turn = np.abs(np.abs(steps) - speed) > 1e-9
    turns = np.minimum(place[:-1] - low, high - place[:-1])[is_turn]
    assert (turns < speed).all()
    assert low - 1e-9 <= place.min()
    assert place.max() <= high + 1e-9
    for before, after in pairwise(np.flatnonzero(~is_turn).tolist()):
        is_reflected = after > before + 1 or min(place[after] - low, high - place[after]) < 1e-9
        assert steps[before] == pytest.approx(steps[after] * (-1 if is_reflected else 1))


def test_paddles_the_ball_bounces_and_is_never_missed() -> None:
    half = paddles.BALL_SIZE / 2
    low, high = paddles.FACES[0] + half, paddles.FACES[1] - half
    for game in games_of(paddles):
        assert_bounces(game.ball_x, low, high)
        assert_bounces(game.ball_y, paddles.WALL_HEIGHT + half, TILES - paddles.WALL_HEIGHT - half)
        for paddle, gap in ((game.left, game.ball_x - low), (game.right, high - game.ball_x)):
            assert (np.abs(paddle - game.ball_y)[gap < 0.1] < (paddles.PADDLE_SIZE[1] + paddles.BALL_SIZE) / 2).all()
            assert np.abs(np.diff(paddle)).max() < 1.1
        moves = np.sign(np.diff(game.left).round(6))
        assert np.array_equal(np.array([0, -1, 1])[game.action[:-1]], moves)
        steps = np.diff(game.ball_x)
        moves = np.flatnonzero(steps)  # the ball is at one place twice if it is reflected in the middle of a step
        is_right = steps[moves] > 0
        returns = np.flatnonzero(is_right[1:] & ~is_right[:-1] & (game.ball_x[moves[1:]] < TILES / 2))
        assert abs(game.score[-1] - len(returns)) <= 1


def test_bricks_vanish_one_by_one_where_the_ball_turns() -> None:
    num_hits = 0
    for game in games_of(bricks):
        steps = np.stack([np.diff(game.ball_x), np.diff(game.ball_y)], axis=1)
        speed = np.median(np.abs(steps), axis=0)
        assert (np.abs(steps) <= speed + 1e-9).all()
        left, upper = bricks.CORNERS + np.array(bricks.BRICK_SIZE)[:, None] / 2
        middles = np.stack([left, upper], axis=1)
        present = game.bricks.reshape(NUM_STEPS, -1)
        for time in range(NUM_STEPS):
            place = np.array([game.ball_x[time], game.ball_y[time]])
            ball = (bricks.BALL_SIZE, bricks.BALL_SIZE)
            assert not overlaps(place, ball, middles[present[time]], bricks.BRICK_SIZE).any()
            if time:
                gone = present[time - 1] & ~present[time]
                assert not (~present[time - 1] & present[time]).any()
                wide = (bricks.BRICK_SIZE[0] + 2.2, bricks.BRICK_SIZE[1] + 2.2)
                assert overlaps(place, ball, middles[gone], wide).all()
                assert not gone.any() or (np.abs(np.diff(steps[max(0, time - 2) : time + 1], axis=0)) > 1e-9).any()
                num_hits += gone.sum()
        assert np.array_equal(game.score, present[0].sum() - present.sum(axis=1))
        is_low = game.ball_y > bricks.PADDLE_Y - bricks.BALL_SIZE / 2 - 0.1
        assert (np.abs(game.ball_x - game.paddle)[is_low] < bricks.PADDLE_SIZE[0] / 2).all()
        assert np.array_equal(np.array([0, -1, 1])[game.action[:-1]], np.sign(np.diff(game.paddle).round(6)))
    assert num_hits > 25


def test_snake_is_a_chain_that_grows_where_the_food_was() -> None:
    num_meals = 0
    for game in games_of(snake):
        for before, after, action, grew in zip(
            game.board, game.board[1:], game.action, np.diff(game.length), strict=False
        ):
            (head,), (new,) = (np.argwhere(board == snake.OF_HEAD) // 2 for board in (before, after))
            cells = before[::2, ::2]
            assert np.isin(cells, (1, 2)).sum() - 1 == (before[1::2] == 1).sum() + (before[:, 1::2] == 1).sum()
            if np.array_equal(before, after):
                assert grew == 0
                continue
            assert np.array_equal(new - head, [(-1, 0), (0, 1), (1, 0), (0, -1)][action])
            assert grew == (cells[tuple(new)] == snake.OF_FOOD)
            assert cells[tuple(new)] != snake.OF_BODY
            num_meals += grew
        assert np.array_equal(game.score, game.length - game.length[0])
        is_moving = (game.board[1:] != game.board[:-1]).any(axis=(1, 2))
        assert (is_moving[1:] ^ is_moving[:-1]).all()
    assert num_meals > 25


def test_blocks_fall_in_their_column_and_lie_where_they_land() -> None:
    num_full, num_new = 0, 0
    for game in games_of(blocks):
        assert np.array_equal(game.action, game.column)
        for time in range(1, NUM_STEPS):
            if game.row[time] > game.row[time - 1]:
                assert game.row[time] == game.row[time - 1] + blocks.SPEED
                assert game.column[time] == game.column[time - 1]
                assert np.array_equal(game.stack[time], game.stack[time - 1])
                assert game.score[time] == game.score[time - 1]
            elif not game.stack[time].any() and not game.score[time] > game.score[time - 1]:
                num_new += 1  # no piece fitted
            else:  # the next piece
                row, column, piece = int(game.row[time - 1]), game.column[time - 1], game.piece[time - 1]
                stack = np.pad(game.stack[time - 1], ((0, 4), (0, 4)))
                assert not (stack[row : row + 4, column : column + 4] * piece).any()
                stack[row : row + 4, column : column + 4] += piece
                below = np.append(stack[1 : blocks.NUM_ROWS], np.ones((1, stack.shape[1]), int), axis=0)
                assert (below[row : row + 4, column : column + 4] * piece[: len(below) - row]).any()  # it lies on them
                stack = stack[: blocks.NUM_ROWS, : blocks.NUM_COLUMNS]
                full = (stack > 0).all(axis=1)
                assert np.array_equal(game.stack[time][full.sum() :], stack[~full])
                assert game.score[time] - game.score[time - 1] == full.sum()
                num_full += full.sum()
    assert num_full > 10
    assert num_new <= 2


def test_cars_keep_their_speed_and_never_touch_the_frog() -> None:
    num_hops = 0
    for game in games_of(road):
        steps = (np.diff(game.cars, axis=0) + road.PERIOD / 2) % road.PERIOD - road.PERIOD / 2
        assert np.allclose(steps, game.speeds[1:, :, None])
        for time, row in enumerate(game.row.tolist()):
            if 0 < row < road.BOTTOM:
                middles = game.cars[time, row - 1] + game.lengths[time, row - 1] / 2
                reach = (game.lengths[time, row - 1] + road.FROG_SIZE) / 2
                assert (np.abs(middles - game.frog[time]) > reach).all()
        hops = np.diff(game.row)
        is_same = np.diff(game.frog) == 0
        assert np.array_equal(np.array([0, -1, 1])[game.action[:-1]][is_same], hops[is_same])
        assert (game.row[1:][~is_same] == road.BOTTOM).all()
        assert np.array_equal(np.diff(game.score) > 0, (game.row[1:] == 0) & (hops < 0))
        num_hops += np.abs(hops[is_same]).sum()
    assert num_hops > 125


def test_the_characters_of_the_maze_stay_in_corridors_and_apart() -> None:
    size = maze.CHARACTER_SIZE
    for game in games_of(maze):
        edges = maze.WALL_EDGES[0]
        middles = (edges[1:] + edges[:-1]) / 2
        rows, columns = game.walls[0].nonzero()
        walls = np.stack([middles[columns], middles[rows]], axis=1)
        sizes = np.stack([np.diff(edges)[columns], np.diff(edges)[rows]], axis=1)
        for place in (game.player, game.chaser):
            is_inside = np.abs(place[:, None] - walls) < (size + sizes) / 2 - 1e-6
            assert not is_inside.all(axis=2).any()
            steps = np.abs(np.diff(place, axis=0)).sum(axis=1)
            assert np.isclose(steps[:, None], [0, maze.PITCH / maze.MOVE_TIME]).any(axis=1).all()
        assert not overlaps(game.player, (size, size), game.chaser, (size, size)).any()
        assert np.array_equal(game.walls, game.walls[:, :, ::-1])
        dots = maze.middle(np.arange(maze.SIZE**2))
        touched = overlaps(game.player[:, None], (size, size), dots, (maze.DOT_SIZE, maze.DOT_SIZE))
        assert not (touched & game.dots).any()
        assert (touched[1:] | (game.dots[1:] == game.dots[:-1])).all()
        directions = np.array([(0, -1), (1, 0), (0, 1), (-1, 0), (0, 0)])[game.action[:-1]]
        assert np.allclose(directions * maze.PITCH / maze.MOVE_TIME, np.diff(game.player, axis=0))
        assert np.array_equal(game.score, game.dots[0].sum() - game.dots.sum(axis=1))


def test_mazes_are_connected_and_have_no_dead_ends() -> None:
    for seed in SEEDS:
        ways = maze.random_ways(np.random.default_rng(seed))
        assert max(maze.distances(ways, 0)) < maze.SIZE**2
        assert min(map(len, ways)) >= 2


def test_the_runner_is_on_the_ground_or_on_a_parabola_and_touches_no_pipe() -> None:
    num_jumps = 0
    for game in games_of(runner):
        curvature = np.diff(game.height, n=2) + 8 * runner.JUMP_HEIGHT / runner.JUMP_TIME**2
        is_in_air = (game.height[:-2] > 0) & (game.height[1:-1] > 0) & (game.height[2:] > 0)
        assert np.abs(curvature[is_in_air]).max(initial=0) < 2 * UNIT
        middles = game.pipes + runner.PIPE_SIZE[0] / 2
        is_over = np.abs(middles - runner.RUNNER_X - runner.RUNNER_SIZE[0] / 2) < sum(
            (runner.RUNNER_SIZE[0] / 2, runner.PIPE_SIZE[0] / 2)
        )
        assert (game.height[is_over.any(axis=1)] >= runner.PIPE_SIZE[1]).all()
        assert np.allclose(np.diff(game.pipes, n=2, axis=0), 0)
        assert np.allclose(-np.diff(game.pipes, axis=0), np.diff(game.moved)[:, None])
        takeoffs = (game.height[:-1] == 0) & (game.height[1:] > 0)
        assert np.array_equal(takeoffs, game.action[:-1] == 1)
        num_jumps += takeoffs.sum()
        assert game.score[-1] == ((game.pipes[0] >= 1.5) & (game.pipes[-1] < 1.5)).sum()
    assert num_jumps > 25


def test_invaders_move_as_one_and_vanish_only_where_they_are_hit() -> None:
    num_hits = 0
    for game in games_of(invaders):
        steps = np.diff(game.left)
        speed = np.median(np.abs(steps))
        is_turn = np.diff(game.top) != 0
        assert np.allclose(np.abs(steps)[~is_turn], speed)
        assert (np.sign(steps[1:]) == np.sign(steps[:-1]))[~is_turn[1:] & ~is_turn[:-1]].all()
        for time in range(1, NUM_STEPS):
            gone = (game.invaders[time - 1] & ~game.invaders[time]).nonzero()[0]
            assert len(gone) == game.score[time] - game.score[time - 1] <= 1
            place = np.array([game.left[time], game.top[time]])
            middles = place + np.stack([invaders.MIDDLES_X, invaders.MIDDLES_Y], axis=1)
            shot = game.shot[time] + [0, invaders.SHOT_SIZE[1] / 2]
            alive = game.invaders[time]
            assert not overlaps(shot, invaders.SHOT_SIZE, middles[alive], invaders.INVADER_SIZE).any()
            if len(gone):
                shot = game.shot[time - 1] + [0, invaders.SHOT_SIZE[1] / 2 - invaders.SHOT_SPEED]
                assert overlaps(shot, invaders.SHOT_SIZE, middles[gone], invaders.INVADER_SIZE).all()
                num_hits += 1
            rises = game.shot[time - 1, 1] - game.shot[time, 1]
            is_new = game.action[time - 1] == 3
            is_shown = game.shot[time, 1] > -invaders.SHOT_SIZE[1]
            assert is_new or not is_shown or np.isclose(rises, invaders.SHOT_SPEED)
        moves = np.array([0, -1, 1, 0])[game.action[:-1]] * invaders.CANNON_SPEED
        assert np.allclose(np.diff(game.cannon), moves)
    assert num_hits > 25


@pytest.mark.parametrize(
    ("name", "colour", "size"),
    [
        ("paddles", paddles.BALL, paddles.BALL_SIZE**2),
        ("paddles", paddles.LEFT, paddles.PADDLE_SIZE[0] * paddles.PADDLE_SIZE[1]),
        ("bricks", bricks.PADDLE, bricks.PADDLE_SIZE[0] * bricks.PADDLE_SIZE[1]),
        ("snake", snake.HEAD, snake.CELL**2),
        ("snake", snake.FOOD, snake.CELL**2),
        ("runner", runner.SKIN, 3 / 30 * runner.RUNNER_SIZE[0] * runner.RUNNER_SIZE[1]),
    ],
)
def test_there_is_exactly_one_of_each_in_every_frame(name: str, colour: tuple[int, int, int], size: float) -> None:
    label = list(GAMES).index(name)
    for index in range(label, label + 80, 8):
        frames = clip(index, resolution=256)
        area = is_near(frames, colour).mean(axis=(1, 2)) * TILES**2
        assert (0.65 * size < area).all()  # without the pixels at the edges
        assert (area <= size + 1e-6).all()


def test_one_clip_takes_a_moment() -> None:
    started = process_time()
    for index in range(80):
        clip(index)

    assert (process_time() - started) / 80 < 0.02

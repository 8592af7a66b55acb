"""A maze with dots, a player and a chaser.

Both move from one junction to the next in five frames, along corridors. The chaser takes the shortest way to the player
most of the time. It waits where it would touch the player. The player avoids the chaser and eats the dots that it
touches. The right half of the maze mirrors the left half.

Action, the direction of the player: 0 = up, 1 = right, 2 = down, 3 = left, 4 = stay. Score: eaten dots.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .drawing import TILES, blank, box, finished, gapped, spaced, sprite, stamp_board

GROUND, WALL, DOT = (8, 8, 16), (50, 70, 235), (255, 225, 190)
PLAYER, CHASER, EYES = (255, 225, 40), (245, 60, 80), (245, 245, 255)
SIZE = 4  # junctions along each side
WALL_WIDTH = 1.0
PITCH = (TILES - WALL_WIDTH) / SIZE
CHARACTER_SIZE, DOT_SIZE = 2.25, 0.75
TOUCH = (CHARACTER_SIZE + DOT_SIZE) / 2  # distance of the middles
MOVE_TIME = 5  # frames
EATEN = 0.4  # share of the dots that have been eaten before the clip
STEPS = (-SIZE, 1, SIZE, -1)  # up, right, down, left
STAY = 4
HALF_EDGES = [(cell, 1) for cell in range(SIZE**2) if cell % SIZE < SIZE // 2 - 1]
HALF_EDGES += [(cell, 2) for cell in range(SIZE**2 - SIZE) if cell % SIZE < SIZE // 2]

CLOSED = "..#####.. .#######. ######### ######### ######### ######### ######### .#######. ..#####.."
OPEN = "..#####.. .#######. ######### ########. ######... ########. ######### .#######. ..#####.."  # to the right
CHASER_SHAPE = "..#####.. .#######. ######### #aa###aa# #aa###aa# ######### ######### ##.###.## ##..#..##"
WALL_EDGES = gapped(0, SIZE + 1, WALL_WIDTH, PITCH - WALL_WIDTH)

Ways = list[dict[int, int]]  # neighbours of each junction by direction


class Maze(NamedTuple):
    walls: Bool[np.ndarray, "T 9 9"]  # even rows and columns are walls or passages, the others are corridors
    player: Float[np.ndarray, "T 2"]  # x and y of the middle
    chaser: Float[np.ndarray, "T 2"]
    dots: Bool[np.ndarray, "T 16"]  # by junction
    action: Int[np.ndarray, " T"]
    score: Int[np.ndarray, " T"]


def play(numbers: np.random.Generator, num_steps: int) -> Maze:
    ways = random_ways(numbers)
    phase = int(numbers.integers(MOVE_TIME))
    player, chaser = numbers.integers(SIZE**2, size=2).tolist()
    while chaser in (player, *ways[player].values()):
        chaser = int(numbers.integers(SIZE**2))
    had_dot = numbers.random(SIZE**2) > EATEN
    wanted = had_dot.tolist()
    num_moves = (num_steps - 1 + phase) // MOVE_TIME + 1
    path, headings = [(player, chaser)], [STAY]
    for chance, *noise in numbers.random((num_moves, 5)).tolist():
        wanted[player] = False
        from_chaser, from_player = distances(ways, chaser), distances(ways, player)

        free = {heading: cell for heading, cell in ways[player].items() if cell != chaser}
        worth = {
            heading: 2 * min(from_chaser[cell], 4)
            + 1.5 * wanted[cell]
            - (abs(heading - headings[-1]) == 2)  # not back
            + noise[heading]
            for heading, cell in free.items()
        }
        headings.append(max(worth, key=worth.__getitem__, default=STAY))
        player = free.get(headings[-1], player)
        taken = (path[-1][0], player)
        near = [cell for cell in ways[chaser].values() if cell not in taken]
        if near:
            chaser = near[int(chance * 1e6) % len(near)] if chance > 0.85 else min(near, key=from_player.__getitem__)
        path.append((player, chaser))

    move, part = np.divmod(np.arange(num_steps) + phase, MOVE_TIME)
    nodes = middle(np.array(path))
    places = nodes[move] + (nodes[move + 1] - nodes[move]) * (part / MOVE_TIME)[:, None, None]
    to_dots = np.abs(middle(np.arange(SIZE**2)) - places[:, :1]).max(axis=2)
    dots = had_dot & ~np.logical_or.accumulate(to_dots < TOUCH, axis=0)
    return Maze(
        walls=np.broadcast_to(walls_of(ways), (num_steps, 2 * SIZE + 1, 2 * SIZE + 1)),
        player=places[:, 0],
        chaser=places[:, 1],
        dots=dots,
        action=np.array(headings)[move + 1],
        score=dots[0].sum() - dots.sum(axis=1),
    )


def middle(cells: Int[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes 2"]:
    """Return the x and y of junctions."""
    return (np.stack([cells % SIZE, cells // SIZE], axis=-1) + 0.5) * PITCH + WALL_WIDTH / 2


def random_ways(numbers: np.random.Generator) -> Ways:
    """Return the neighbours of each junction in a random maze without dead ends."""
    ways: Ways = [{} for _ in range(SIZE**2)]

    def connect(cell: int, heading: int) -> None:
        other = cell + STEPS[heading]
        ways[cell][heading], ways[other][(heading + 2) % 4] = other, cell
        mirrored, back = mirror(cell), -heading % 4
        ways[mirrored][back], ways[mirrored + STEPS[back]][(back + 2) % 4] = mirrored + STEPS[back], mirrored

    for row in numbers.choice(SIZE, size=2, replace=False).tolist():
        connect(row * SIZE + SIZE // 2 - 1, 1)
    edges = [HALF_EDGES[index] for index in numbers.permutation(len(HALF_EDGES)).tolist()]
    group = list(range(SIZE**2))
    for cell, heading in edges:  # a spanning tree of the left half
        old, new = group[cell + STEPS[heading]], group[cell]
        if old != new:
            group = [new if one == old else one for one in group]
            connect(cell, heading)
    for cell, heading in edges:
        if len(ways[cell]) == 1 or len(ways[cell + STEPS[heading]]) == 1:
            connect(cell, heading)
    return ways


def mirror(cell: int) -> int:
    return cell + SIZE - 1 - 2 * (cell % SIZE)


def distances(ways: Ways, start: int) -> list[int]:
    """Return the number of moves from one junction to each."""
    found, waiting = {start: 0}, [start]
    for cell in waiting:
        for other in ways[cell].values():
            if other not in found:
                found[other] = found[cell] + 1
                waiting.append(other)
    return [found[cell] for cell in range(SIZE**2)]


def walls_of(ways: Ways) -> Bool[np.ndarray, "9 9"]:
    walls = np.ones((2 * SIZE + 1, 2 * SIZE + 1), bool)
    walls[1::2, 1::2] = False
    for cell, neighbours in enumerate(ways):
        row, column = 2 * (cell // SIZE) + 1, 2 * (cell % SIZE) + 1
        if 1 in neighbours:
            walls[row, column + 1] = False
        if 2 in neighbours:
            walls[row + 1, column] = False
    posts = walls[2:-1:2, 2:-1:2]
    posts &= walls[1:-2:2, 2:-1:2] | walls[3::2, 2:-1:2] | walls[2:-1:2, 1:-2:2] | walls[2:-1:2, 3::2]
    return walls


def draw(game: Maze, resolution: int) -> UInt8[np.ndarray, "T H W 3"]:
    frame = blank(resolution, GROUND)
    stamp_board(frame, game.walls[:1].astype(int), (GROUND, WALL), WALL_EDGES, WALL_EDGES)
    frames = frame.repeat(len(game.walls), axis=1)
    places = middle(np.arange(SIZE**2))
    is_hidden = (np.abs(places - game.chaser[:, None]) < TOUCH).all(axis=2)  # under the chaser
    dots = (game.dots & ~is_hidden).reshape(-1, SIZE, SIZE).astype(int)
    edges = gapped(places[0, 0] - DOT_SIZE / 2, SIZE, DOT_SIZE, PITCH - DOT_SIZE)
    stamp_board(frames, spaced(dots), (GROUND, DOT), edges, edges)
    size, half = (CHARACTER_SIZE, CHARACTER_SIZE), CHARACTER_SIZE / 2
    chaser = sprite(CHASER_SHAPE, GROUND, CHASER, EYES)
    box(frames, game.chaser[:, 0] - half, game.chaser[:, 1] - half, size, chaser)
    mouth, closed = (sprite(shape, GROUND, PLAYER) for shape in (OPEN, CLOSED))
    turned = np.concatenate([np.rot90(mouth, turn, axes=(2, 3)) for turn in (1, 0, 3, 2)] + [closed], axis=1)
    box(frames, game.player[:, 0] - half, game.player[:, 1] - half, size, turned[:, game.action])
    return finished(frames)

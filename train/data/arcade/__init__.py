"""Eight tiny arcade games: an endless labelled source without files. The label is the game.

Each module simulates one game with simple agents (`play`) and draws it (`draw`). The rules are exact: they are given at
the top of the module.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from . import blocks, bricks, invaders, maze, paddles, road, runner, snake

VERSION = 1  # increase it if the same seed gives other clips; otherwise old tables of codes would be reused


class Game(NamedTuple):
    play: Callable[[np.random.Generator, int], Any]
    """Return a tuple of arrays, one entry per frame, which include `action` and `score`."""
    draw: Callable[[Any, int], UInt8[np.ndarray, "T H W 3"]]


GAMES = {
    module.__name__.rpartition(".")[2]: Game(module.play, module.draw)
    for module in (blocks, bricks, invaders, maze, paddles, road, runner, snake)
}


class PlayedClip(NamedTuple):
    frames: UInt8[np.ndarray, "T H W 3"]
    action: Int[np.ndarray, " T"]
    """What the agent does after each frame. The module of each game gives the meaning of the numbers."""
    score: Int[np.ndarray, " T"]
    """Points since the first frame."""


def play_clip(seed: tuple[int, ...], index: int, *, num_frames: int, stride: int, resolution: int) -> PlayedClip:
    """Return clip number `index`, whose label is `index` modulo the number of games, with actions and scores."""
    numbers = np.random.default_rng((*seed, index))
    game = list(GAMES.values())[index % len(GAMES)]
    played = game.play(numbers, (num_frames - 1) * stride + 1)
    shown = type(played)(*(values[::stride] for values in played))
    return PlayedClip(game.draw(shown, resolution), shown.action, shown.score)


def render_clip(
    seed: tuple[int, ...], index: int, *, num_frames: int, stride: int, resolution: int
) -> UInt8[np.ndarray, "T H W 3"]:
    """Return the frames of `play_clip`."""
    return play_clip(seed, index, num_frames=num_frames, stride=stride, resolution=resolution).frames

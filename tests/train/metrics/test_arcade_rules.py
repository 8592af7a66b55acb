from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from magvit2_pytorch.train.data.arcade import GAMES, bricks, invaders, paddles, render_clip, road, runner, snake
from magvit2_pytorch.train.data.arcade.drawing import Colour
from magvit2_pytorch.train.metrics.arcade_rules import RULES, kept_rules, share_of_rules_kept
from magvit2_pytorch.train.metrics.classifiers import blur

NUM_CLIPS = 4


def clip(game: str, number: int, resolution: int = 64) -> Tensor:
    index = list(GAMES).index(game) + number * len(GAMES)
    frames = render_clip((7,), index, num_frames=17, stride=1, resolution=resolution)
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 0) / 255


CLIPS = {game: [clip(game, number) for number in range(NUM_CLIPS)] for game in GAMES}


def num_kept(game: str, change: Callable[[Tensor], Tensor]) -> int:
    return sum(all(kept_rules(change(video), game).values()) for video in CLIPS[game])


def test_every_game_has_rules() -> None:
    assert set(RULES) == set(GAMES)


@pytest.mark.parametrize("game", GAMES)
def test_real_clips_keep_all_rules(game: str) -> None:
    broken = [[rule for rule, is_kept in kept_rules(video, game).items() if not is_kept] for video in CLIPS[game]]

    assert broken == [[]] * NUM_CLIPS
    assert all(kept_rules(clip(game, 0, resolution=128), game).values())


@pytest.mark.parametrize("game", GAMES)
def test_a_slight_blur_and_noise_break_no_rule(game: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def spoilt(video: Tensor) -> Tensor:
        soft = 0.5 * video + 0.5 * blur(video[None], 2)[0]
        return (soft + 0.02 * torch.randn(video.shape, generator=generator)).clamp(0, 1)

    assert num_kept(game, spoilt) >= NUM_CLIPS - 1


def shuffled(video: Tensor) -> Tensor:
    return video[:, torch.randperm(video.shape[1], generator=torch.Generator().manual_seed(0))]


def cut(video: Tensor) -> Tensor:
    return torch.cat([video[:, 9:], video[:, :9]], dim=1)


def with_wrong_codes(video: Tensor) -> Tensor:
    """Replace a tenth of the cells of 4 frames and 8 x 8 pixels by others."""
    is_wrong = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.1
    is_wrong = is_wrong.repeat_interleave(8, 1).repeat_interleave(8, 2).repeat_interleave(4, 0)
    is_wrong = torch.cat([is_wrong[:1], is_wrong])
    return torch.where(is_wrong, video.roll((16, 24), dims=(2, 3)), video)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(
    "change",
    [
        shuffled,
        cut,
        with_wrong_codes,
        lambda video: video[:, :1].expand_as(video),
        lambda video: video.mean(dim=(1, 2, 3), keepdim=True).expand_as(video),
        lambda video: video.repeat_interleave(2, dim=1)[:, :17],
        lambda video: torch.cat([video[:, :8], video[:, 10:]], dim=1),
    ],
    ids=["shuffled", "cut", "wrong codes", "still", "blank", "every frame twice", "skips"],
)
def test_broken_clips_break_a_rule(game: str, change: Callable[[Tensor], Tensor]) -> None:
    assert num_kept(game, change) <= NUM_CLIPS // 4


def painted(video: Tensor, colour: Colour, top: int, left: int, height: int, width: int) -> Tensor:
    changed = video.clone()
    box = changed[:, :, top : top + height, left : left + width]
    box[:] = torch.tensor(colour).reshape(3, 1, 1, 1) / 255
    return changed


@pytest.mark.parametrize(
    ("game", "rule", "box"),
    [
        ("paddles", "one ball", (paddles.BALL, 30, 24, 5, 5)),
        ("paddles", "one paddle on each side", (paddles.LEFT, 40, 20, 16, 4)),
        ("bricks", "one paddle", (bricks.PADDLE, 48, 30, 4, 16)),
        ("bricks", "one ball", (bricks.BALL, 44, 30, 5, 5)),
        ("snake", "one piece", (snake.BODY, 33, 33, 5, 5)),
        ("snake", "one head and food", (snake.HEAD, 33, 33, 5, 5)),
        ("road", "one frog", (road.FROG, 57, 30, 6, 6)),
        ("road", "cars at constant speed", (road.CARS[2], 25, 30, 6, 12)),
        ("runner", "one runner", (runner.CAP, 40, 40, 4, 6)),
        ("invaders", "one cannon", (invaders.CANNON, 54, 4, 6, 10)),
    ],
)
def test_a_rule_is_broken_by_what_it_forbids(game: str, rule: str, box: tuple[Colour, int, int, int, int]) -> None:
    kept = [kept_rules(painted(video, *box), game)[rule] for video in CLIPS[game]]

    assert sum(kept) <= 1


def without_row(video: Tensor) -> Tensor:
    changed = video.clone()
    changed[:, 8:] = torch.tensor(bricks.GROUND).reshape(3, 1, 1, 1) / 255
    changed[:, 8:, 28:] = video[:, 8:, 28:]
    return changed


def test_bricks_that_vanish_by_themselves_or_come_back_are_seen() -> None:
    for video in CLIPS["bricks"]:
        assert not kept_rules(without_row(video), "bricks")["bricks vanish only when hit"]
        assert not kept_rules(without_row(video).flip(1), "bricks")["bricks never come back"]


def test_a_game_is_not_another_game() -> None:
    for game in GAMES:
        others = [clips[0] for name, clips in CLIPS.items() if name != game]
        assert not any(all(kept_rules(video, game).values()) for video in others)


def test_shares_are_those_of_the_videos_of_a_game() -> None:
    still = CLIPS["snake"][0][:, :1].expand(-1, 17, -1, -1)
    videos = torch.stack([CLIPS["snake"][0], still, CLIPS["road"][0]])

    shares = share_of_rules_kept(videos, ["snake", "snake", "road"])

    assert set(shares["road"].values()) == {1.0}
    assert shares["snake"]["all"] == shares["snake"]["moves by one cell"] == 0.5
    assert shares["snake"]["one piece"] == 1


@pytest.mark.parametrize(
    ("shape", "game", "message"),
    [
        ((3, 17, 64, 64), "pong", "game must be one of blocks, bricks, .*, got 'pong'"),
        ((3, 5, 64, 64), "snake", r"must have 9 frames or more of 64 pixels or more, got \(5, 64, 64\)"),
        ((3, 17, 32, 32), "snake", r"must have 9 frames or more of 64 pixels or more, got \(17, 32, 32\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(shape: tuple[int, ...], game: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kept_rules(torch.zeros(shape), game)

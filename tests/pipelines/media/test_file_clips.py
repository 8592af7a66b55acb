import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from magvit2_pytorch.pipelines.media import file_clips
from magvit2_pytorch.pipelines.media.file_clips import (
    first_frames,
    last_frames,
    masked_frames,
    with_box,
    with_margins,
    with_mask,
)
from magvit2_pytorch.pipelines.media.video_files import iterate_video


def frames_of(number: int, height: int = 4, width: int = 6) -> list[Tensor]:
    return list(torch.rand(3, number, height, width).split(1, dim=1))


@pytest.fixture
def film(tmp_path: Path, write_video, noise) -> Path:
    return write_video(tmp_path / "film.mkv", noise(9, height=12, width=16))


def test_first_and_last_frames_of_a_file(film: Path) -> None:
    whole = torch.cat(list(iterate_video(film)), dim=1)

    assert torch.equal(last_frames(film, 3, None).pixels, whole[:, 6:])
    assert torch.equal(last_frames(film, 3, None, max_frames=5).pixels, whole[:, 2:5])
    assert torch.equal(last_frames(film, 30, None).pixels, whole)
    assert torch.equal(first_frames(film, 3, None).pixels, whole[:, :3])
    assert first_frames(film, 30, (6, 6)).pixels.shape == (3, 9, 6, 6)
    assert last_frames(film, 1, None).fps == 25


def test_last_frames_keeps_no_other_frames_in_memory(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def watched(path: Path, size: tuple[int, int] | None) -> Iterator[Tensor]:
        nonlocal most
        for frame in iterate_video(path, size):
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    monkeypatch.setattr(file_clips, "iterate_video", watched)
    last_frames(film, 2, None)

    assert most <= 4


def test_a_box_or_everything_around_it_is_hidden() -> None:
    frames = frames_of(2)

    for keep in (False, True):
        for frame, (pixels, hidden) in zip(frames, with_box(frames, (1, 2, 2, 3), keep=keep), strict=True):
            assert pixels is frame
            assert (hidden[0, 1:3, 2:5] != keep).all()
            assert hidden.sum() == (24 - 6 if keep else 6)


def test_margins_are_above_below_left_and_right() -> None:
    (frame,) = frames_of(1)

    ((pixels, hidden),) = with_margins([frame], (1, 2, 3, 4))

    assert pixels.shape == (3, 1, 1 + 4 + 2, 3 + 6 + 4)
    assert torch.equal(pixels[:, :, 1:5, 3:9], frame)
    assert not hidden[0, 1:5, 3:9].any()
    assert (~hidden).sum() == 24


def test_margins_are_increased_to_the_aspect_ratio_of_the_model() -> None:
    (frame,) = frames_of(1, height=8, width=8)

    ((pixels, hidden),) = with_margins([frame], (0, 0, 1, 3), (4, 4))

    assert pixels.shape == (3, 1, 12, 12)
    assert torch.equal(pixels[:, :, 2:10, 1:9], frame)
    assert not hidden[0, 2:10, 1:9].any()
    assert (~hidden).sum() == 64


def test_a_video_with_margins_is_not_cropped(film: Path) -> None:
    clip = masked_frames(film, (8, 8), max_frames=1, margins=(0, 0, 8, 8))  # 12 x 16 pixels in the middle of 32 x 32

    assert clip.hidden[0].tolist() == [
        [not (row in (3, 4) and 2 <= column <= 5) for column in range(8)] for row in range(8)
    ]


def test_masks_are_rounded_to_black_or_white(tmp_path: Path) -> None:
    mask = Image.new("L", (6, 4))
    for column, level in enumerate((0, 100, 127, 128, 200, 255)):
        mask.paste(level, (column, 0, column + 1, 4))
    mask.save(tmp_path / "mask.png")

    masked = list(with_mask(frames_of(3), tmp_path / "mask.png"))

    assert len(masked) == 3
    assert all(hidden[0].tolist() == [[False] * 3 + [True] * 3] * 4 for _, hidden in masked)


def test_a_resized_pixel_is_hidden_if_any_part_is(film: Path) -> None:
    clip = masked_frames(film, (6, 6), max_frames=2, hide=(3, 4, 1, 1))

    expected = torch.zeros(2, 6, 6, dtype=torch.bool)
    expected[:, 1, 1] = True  # of 12 x 12 pixels in the middle of 12 x 16, in blocks of 2 x 2
    assert torch.equal(clip.hidden, expected)
    assert torch.equal(clip.pixels, first_frames(film, 2, (6, 6)).pixels)
    assert torch.equal(clip.shown[:, clip.hidden], torch.full((3, 2), 0.5))
    assert torch.equal(clip.shown[:, ~clip.hidden], clip.pixels[:, ~clip.hidden])


def test_exactly_one_kind_of_mask_is_required(film: Path) -> None:
    with pytest.raises(ValueError, match="one of mask, hide, keep, margins must be given, got none"):
        masked_frames(film, None)
    with pytest.raises(ValueError, match="got hide and margins"):
        masked_frames(film, None, hide=(0, 0, 1, 1), margins=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="number of frames must be at least 1, got 0"):
        masked_frames(film, None, max_frames=0, hide=(0, 0, 1, 1))

"""Odd media files, `tests/cases/`: each is shown as a player shows it, and the same through every entry point.

`plain.mp4` is the picture that most of the others vary: quadrants red, green / blue, yellow, and a white box of 16 x 16
pixels that moves right along the top.
"""

import functools
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.pipelines import VideoCodes
from magvit2_pytorch.pipelines.media.resizing import fit
from magvit2_pytorch.pipelines.media.video_files import read_video
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.data.cache.frame_cache import store_videos
from magvit2_pytorch.train.data.sources.folder import find_in_folder

CASES = Path(__file__).parent / "cases"
RED, GREEN, BLUE, YELLOW, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 200, 30), (255, 255, 255)


class Shown(NamedTuple):
    """What a player shows of a file."""

    num_frames: int = 24
    height: int = 96
    width: int = 128
    corners: tuple[tuple[int, int, int], ...] = (RED, GREEN, BLUE, YELLOW)
    """Colours of the last frame near its left and right edge: below the box, and at the bottom."""
    tolerance: int = 4
    gap: int | None = None
    """Frame before which others are lost."""


RIGHT = {
    "plain.mp4": Shown(),
    "hflip.mov": Shown(corners=(GREEN, RED, YELLOW, BLUE)),
    "sar2.mp4": Shown(),
    "skydio.mp4": Shown(),
    "cover_first.mkv": Shown(),
    "damaged.mp4": Shown(95, gap=25),
    "damaged.ts": Shown(85, gap=36),
    "hdr_hlg.mp4": Shown(tolerance=50),  # grey would be off by 80 and more
    "alpha.webm": Shown(corners=(WHITE,) * 4),
    "CAM00001.MTS": Shown(),
    "old_phone.3gp": Shown(),
    "anim.webp": Shown(8, 48, 64, corners=((210, 100, 60),) * 4),
    "disposal2.gif": Shown(9, 48, 64, corners=(WHITE,) * 4),
}
everywhere = pytest.mark.parametrize("name", RIGHT)


@functools.cache
def frames_of(name: str) -> torch.Tensor:
    return read_video(CASES / name)


def as_bytes(video: torch.Tensor) -> np.ndarray:
    return video.mul(255).round().byte().permute(1, 2, 3, 0).numpy()


def check_codes(codes: torch.Tensor, name: str, pipeline: VideoGenerationPipeline) -> None:
    """Rounding depends on the layout in memory, so that a few codes may differ."""
    right = pipeline.tokenization.tokenize(frames_of(name), own_size=True, progress=False).codes
    assert codes.shape == right.shape
    assert (codes != right).float().mean() < 1e-3


@pytest.fixture
def check_warnings(caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    """Checks that what is lost of a file was logged since the last call, and nothing else."""

    def check(name: str) -> None:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        if RIGHT[name].gap is None:
            assert not messages
            return
        (message,) = messages
        assert re.search(rf"{name}: {RIGHT[name].num_frames} of (about )?96 frames can be read", message)
        assert f"frames are missing before frame {RIGHT[name].gap}" in message

    return check


@everywhere
def test_a_file_is_shown_as_a_player_shows_it(name: str, check_warnings: Callable[[str], None]) -> None:
    right = RIGHT[name]
    frames = as_bytes(read_video(CASES / name))

    check_warnings(name)
    assert frames.shape == (right.num_frames, right.height, right.width, 3)
    rows, columns = [right.height * 3 // 8] * 2 + [-4] * 2, [3, -4] * 2
    assert np.abs(frames[-1, rows, columns].astype(int) - np.array(right.corners)).max() <= right.tolerance


@everywhere
def test_the_pipeline_reads_the_same_frames(
    name: str, pipeline: VideoGenerationPipeline, check_warnings: Callable[[str], None]
) -> None:
    codes = pipeline.tokenization.tokenize(CASES / name, own_size=True, progress=False).codes

    check_warnings(name)
    check_codes(codes, name, pipeline)


@everywhere
def test_the_commands_read_the_same_frames(
    name: str,
    pipeline: VideoGenerationPipeline,
    magvit2: Callable[..., str],
    check_warnings: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline.save_pretrained(tmp_path / "pipeline")
    right, frames = RIGHT[name], frames_of(name)
    caplog.clear()
    given = {}

    def generate(self: VideoGenerationPipeline, **arguments: object) -> None:
        given.update(arguments)
        raise AssertionError("enough")

    def command(verb: str, *options: str | int, output: str) -> Path:
        magvit2(verb, CASES / name, "--model", tmp_path / "pipeline", *options, "--output", tmp_path / output)
        check_warnings(name)
        return tmp_path / output

    check_codes(VideoCodes.load(command("tokenize", "--own-size", output="a.safetensors")).codes, name, pipeline)

    both = as_bytes(read_video(command("reconstruct", "--own-size", "--side-by-side", output="both.mp4")))
    originals = both[:, -right.height :, : right.width]  # below the captions, and left of the reconstructions
    assert np.abs(originals.astype(int) - as_bytes(frames)).mean() < 5

    monkeypatch.setattr(VideoGenerationPipeline, "generate", generate)
    with pytest.raises(AssertionError, match="enough"):
        command("predict", "--given", 3, output="longer.mp4")
    assert torch.allclose(given["frames"], fit(frames[:, -3:], 16, 16), atol=0.51 / 255)  # files are resized as bytes


@everywhere
def test_training_reads_the_same_frames(name: str, check_warnings: Callable[[str], None], tmp_path: Path) -> None:
    right = RIGHT[name]
    shutil.copy(CASES / name, tmp_path)

    videos, _ = store_videos(find_in_folder(tmp_path).videos, right.height, tmp_path / "cache", progress=False)

    check_warnings(name)
    assert [video.name for video in videos] == [name]
    assert np.array_equal(videos[0].frames(0, right.num_frames, 1), as_bytes(frames_of(name)))
    assert right.gap is None or right.gap in videos.cuts


def test_tiles_of_a_picture_are_refused_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").mkdir()
    for name in ("grid.heic", "plain.mp4"):
        shutil.copy(CASES / name, tmp_path / "data")

    with pytest.raises(ValueError, match=r"images in tiles \(HEIC\) are not supported.*pillow-heif"):
        read_video(CASES / "grid.heic")
    with caplog.at_level(logging.WARNING):
        load_data(
            DataConfig(path=str(tmp_path / "data"), num_frames=3, cache_dir=str(tmp_path / "cache")), progress=False
        )

    assert "grid.heic: images in tiles" in caplog.text
    assert "1 of 2 files" in caplog.text

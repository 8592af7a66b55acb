import gc
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from magvit2_pytorch.pipelines.generation import GenerationOutput
from magvit2_pytorch.pipelines.media.decoding import probe
from magvit2_pytorch.pipelines.media.pictures import GAP, caption_strip, save_videos, tile
from magvit2_pytorch.pipelines.media.video_files import read_video, video_writer, write_frames


def ramp(num_frames: int, height: int, width: int) -> np.ndarray:
    """Return frames with gradients over time and width."""
    frames = np.zeros((num_frames, height, width, 3), dtype=np.uint8)
    frames[..., 0] = np.linspace(0, 255, width)
    frames[..., 1] = np.linspace(20, 220, num_frames)[:, None, None]
    return frames


def write_pieces(path: Path, pieces: Iterable[np.ndarray], fps: float = 10) -> None:
    with video_writer(path, fps=fps) as write:
        for piece in pieces:
            write(piece)


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_written_videos_are_read_again(tmp_path: Path, ending: str) -> None:
    frames = ramp(6, 32, 48)

    write_frames(tmp_path / f"video{ending}", frames, fps=10)
    video = read_video(tmp_path / f"video{ending}")

    assert video.shape == (3, 6, 32, 48)
    expected = torch.from_numpy(frames).permute(3, 0, 1, 2) / 255
    assert (video - expected).abs().mean() < 0.04  # lossy, but neither shifted, swapped nor rescaled


def test_a_png_is_lossless(tmp_path: Path) -> None:
    frames = ramp(1, 9, 7)

    write_frames(tmp_path / "image.png", frames, fps=1)

    assert np.array_equal(imageio.imread(tmp_path / "image.png"), frames[0])


def test_odd_sizes_can_be_written_as_mp4(tmp_path: Path) -> None:
    write_frames(tmp_path / "odd.mp4", ramp(3, 33, 47), fps=10)

    assert read_video(tmp_path / "odd.mp4").shape == (3, 3, 34, 48)


def test_max_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "video.mp4", ramp(6, 32, 32), fps=10)

    assert read_video(tmp_path / "video.mp4", max_frames=2).shape == (3, 2, 32, 32)


def test_videos_are_tiled_and_enlarged_without_smoothing() -> None:
    videos = torch.stack([torch.full((3, 2, 4, 5), value) for value in (0.0, 0.2, 1.0)])

    picture = tile(videos, columns=2, min_width=20)

    factor = 2
    height, width = 4 * factor, 5 * factor
    assert picture.shape == (2, 2 * height + GAP, 2 * width + GAP, 3)
    assert (picture[:, :height, :width] == 0).all()
    assert (picture[:, :height, width + GAP :] == 51).all()
    assert (picture[:, height + GAP :, :width] == 255).all()


@pytest.mark.parametrize("ending", [".gif", ".mp4", ".png"])
def test_saved_samples_have_the_minimum_width(tmp_path: Path, ending: str) -> None:
    output = GenerationOutput(torch.rand(2, 3, 5, 16, 16), torch.zeros(2, 3, 4, 4, dtype=torch.long), ("a", "b"))

    output.save(tmp_path / f"samples{ending}")

    picture = imageio.imread(tmp_path / f"samples{ending}", index=0)
    assert picture.shape[1] >= 512
    assert [path.name for path in tmp_path.iterdir()] == [f"samples{ending}"]


def test_a_long_caption_is_drawn_smaller_so_that_it_is_not_cut() -> None:
    long, short = caption_strip("clockwise", 64), caption_strip("left", 64)

    assert long[:, -2:].min() == 255
    assert np.array_equal(short[:, :30], caption_strip("left", 200)[:, :30])


def test_an_image_shows_the_frames_of_each_video_in_a_row(tmp_path: Path) -> None:
    videos = torch.rand(2, 3, 4, 8, 8)

    save_videos(tmp_path / "rows.png", videos, min_width=0)

    picture = imageio.imread(tmp_path / "rows.png")
    assert picture.shape == (2 * 8 + GAP, 4 * 8 + 3 * GAP, 3)
    expected = (videos[1, :, 2] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(picture[8 + GAP :, 2 * (8 + GAP) : 2 * (8 + GAP) + 8], expected)


def test_wrong_outputs_are_refused_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"video\.avi must end in one of \.mp4"):
        write_frames(tmp_path / "video.avi", ramp(2, 16, 16), fps=10)
    with pytest.raises(ValueError, match=r"\.png can contain only one frame"):
        write_frames(tmp_path / "video.png", ramp(2, 16, 16), fps=10)
    for ending in (".mp4", ".gif"):
        with pytest.raises(ValueError, match=rf"at least one frame must be written to .*video\{ending}"):
            write_frames(tmp_path / f"video{ending}", ramp(0, 16, 16), fps=10)
        with pytest.raises(ValueError, match=r"fps must be from 0\.01 to 1000, got 0"):
            write_frames(tmp_path / f"video{ending}", ramp(2, 16, 16), fps=0)
    with pytest.raises(ValueError, match=r"fps must be at most 50 for \.gif, got 60"):
        write_frames(tmp_path / "video.gif", ramp(2, 16, 16), fps=60)
    with pytest.raises(ValueError, match=r"the same size, got \(16, 16\) and \(16, 8\)"):
        write_pieces(tmp_path / "a.gif", [ramp(1, 16, 16), ramp(1, 16, 8)])

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".png"])
def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"video{ending}"
    write_frames(path, ramp(1, 16, 16), fps=10)
    before = path.read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield ramp(1, 16, 16)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_pieces(path, broken())

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_writing_in_pieces_gives_the_same_file(tmp_path: Path, ending: str) -> None:
    frames = ramp(9, 33, 48)
    write_frames(tmp_path / f"whole{ending}", frames, fps=24000 / 1001)

    write_pieces(tmp_path / f"pieces{ending}", np.split(frames, [1, 5]), fps=24000 / 1001)

    assert (tmp_path / f"pieces{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()


@pytest.mark.parametrize(("ending", "num_frames"), [(".mp4", 150), (".gif", 60)])
def test_frames_are_written_immediately(tmp_path: Path, ending: str, num_frames: int) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (num_frames, 64, 64, 3), dtype=np.uint8)

    with video_writer(tmp_path / f"noise{ending}", fps=10) as write:
        for frame in frames:
            write(frame[None])
        (aside,) = tmp_path.iterdir()
        size_before_the_end = aside.stat().st_size

    (path,) = tmp_path.iterdir()
    assert path.name == f"noise{ending}"
    assert size_before_the_end > path.stat().st_size / 2


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_a_finished_writer_is_freed(tmp_path: Path, ending: str) -> None:
    frames = ramp(2, 16, 16)
    with video_writer(tmp_path / f"video{ending}", fps=10) as write:
        write(frames)
    gc.collect()
    writers = [one for one in gc.get_objects() if type(one).__name__ in ("PyAVPlugin", "OutputContainer")]

    assert writers == []
    assert callable(write)


def test_repeated_frames_of_an_animation_are_kept(tmp_path: Path) -> None:
    write_frames(tmp_path / "still.gif", ramp(1, 16, 16).repeat(7, axis=0), fps=10)

    assert read_video(tmp_path / "still.gif").shape[1] == 7


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
@pytest.mark.parametrize("fps", [0.5, 12, 24000 / 1001, 25, 50])
def test_the_frame_rate_is_kept(tmp_path: Path, ending: str, fps: float) -> None:
    write_frames(tmp_path / f"video{ending}", ramp(20, 16, 16), fps=fps)

    assert probe(tmp_path / f"video{ending}") == (pytest.approx(fps, rel=1e-6), 20)


def test_a_picture_has_no_frame_rate(tmp_path: Path) -> None:
    for ending in (".png", ".jpg", ".gif"):
        write_frames(tmp_path / f"picture{ending}", ramp(1, 16, 16), fps=10)

        assert probe(tmp_path / f"picture{ending}") == (None, 1)


def test_messages_name_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.gif").write_text("no video")

    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        read_video(tmp_path / "missing.mp4")
    for name in ("text.mp4", "text.gif"):
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name)

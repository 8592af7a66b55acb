from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from magvit2_pytorch.pipelines.media.video_files import write_frames
from magvit2_pytorch.pipelines.media.video_source import VideoSource, fit


def test_fit_crops_the_middle_and_averages_areas() -> None:
    video = torch.zeros(1, 3, 1, 4, 12)
    video[..., 4:8] = torch.tensor([0.0, 1.0, 0.2, 0.4]).repeat(4, 1)

    fitted = fit(video, 2, 2)

    torch.testing.assert_close(fitted[0, 0, 0], torch.tensor([[0.5, 0.3], [0.5, 0.3]]))


def test_fit_keeps_a_video_of_the_same_size() -> None:
    video = torch.rand(2, 3, 2, 5, 6)

    assert torch.equal(fit(video, 5, 6), video)
    assert fit(video, 10, 10).shape == (2, 3, 2, 10, 10)


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_a_file_equals_a_tensor_of_its_frames(tmp_path: Path, write_video, noise, size) -> None:
    frames = noise(7, height=12, width=16)
    path = write_video(tmp_path / "a.mkv", frames)
    tensor = torch.from_numpy(frames).permute(3, 0, 1, 2) / 255

    of_file = VideoSource(path, size=size, piece_frames=3)
    of_tensor = VideoSource(tensor, size=size, piece_frames=3)

    assert of_file.num_frames == 0
    pieces, expected = list(of_file), list(of_tensor)
    assert [piece.shape[2] for piece in pieces] == [3, 3, 1]
    rounding = 0.501 / 255  # frames of files are bytes
    torch.testing.assert_close(torch.cat(pieces, dim=2), torch.cat(expected, dim=2), atol=rounding, rtol=0)
    assert (of_file.num_frames, of_file.fps, of_tensor.fps) == (7, 25, None)
    assert (of_file.height, of_file.width) == (of_tensor.height, of_tensor.width) == (size or (12, 16))


def test_at_most_max_frames_are_read(tmp_path: Path, write_video, noise, caplog) -> None:
    path = write_video(tmp_path / "a.mov", noise(10), "png", "rgb24")
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"IHDR"]
    content[places[6] : places[6] + 12] = bytes(12)
    path.write_bytes(content)

    def num_frames(max_frames: int) -> int:
        return sum(piece.shape[2] for piece in VideoSource(path, size=None, piece_frames=4, max_frames=max_frames))

    assert num_frames(6) == 6
    assert caplog.text == ""
    assert num_frames(12) == 9
    assert "a.mov: 9 of 10 frames can be read" in caplog.text


def test_an_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    (piece,) = VideoSource(tmp_path / "a.png", size=None, piece_frames=4)

    assert np.array_equal((piece[0, :, 0] * 255).round().byte().permute(1, 2, 0).numpy(), pixels)


def test_pixels_in_all_forms() -> None:
    video = torch.rand(3, 5, 4, 6)
    as_bytes = (video * 255).round().byte()
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in as_bytes.unbind(1)]

    for form in (as_bytes, as_bytes.permute(1, 2, 3, 0).numpy(), pictures):
        (piece,) = VideoSource(form, size=None, piece_frames=8)

        torch.testing.assert_close(piece, as_bytes[None] / 255)


@pytest.mark.parametrize(
    ("video", "said"),
    [
        (torch.rand(1, 2, 4, 4), r"3 channels.*got \(1, 2, 4, 4\)"),
        (torch.full((3, 1, 4, 4), -0.5), r"video must be in \[0, 1\].*got values from -0.5 to -0.5"),
    ],
)
def test_wrong_pixels_are_refused(video: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VideoSource(video, size=None, piece_frames=4)


def test_arguments_are_checked_before_reading(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.gif", np.zeros((2, 8, 8, 3), dtype=np.uint8), fps=5)
    (tmp_path / "text.mp4").write_text("no video")

    with pytest.raises(ValueError, match="piece_frames must be positive, got 0"):
        VideoSource(tmp_path / "a.gif", size=None, piece_frames=0)
    with pytest.raises(ValueError, match="max_frames must be positive, got 0"):
        VideoSource(tmp_path / "a.gif", size=None, piece_frames=1, max_frames=0)
    with pytest.raises(FileNotFoundError, match="missing"):
        VideoSource(tmp_path / "missing.mp4", size=None, piece_frames=1)
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read"):
        VideoSource(tmp_path / "text.mp4", size=None, piece_frames=1)

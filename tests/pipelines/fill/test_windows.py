from itertools import pairwise

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.pipelines.fill.windows import Window, generate_windows, plan_windows
from magvit2_pytorch.tokenizer.pixels import to_unit_range


@pytest.fixture
def tokenizer(pipeline: VideoGenerationPipeline) -> VideoTokenizer:
    return pipeline.tokenizer


def spans(num_frames: int, *, num_first: int = 0, window: int = 17, overlap: int = 5, stride: int = 4) -> list[Window]:
    return plan_windows(num_frames, num_first=num_first, window_frames=window, overlap=overlap, stride=stride)


def test_a_short_video_is_one_window() -> None:
    assert spans(17) == [Window(0, 17, 0, 0)]
    assert spans(1) == [Window(0, 1, 0, 0)]
    assert spans(16, window=16) == [Window(0, 16, 0, 0)]


def test_a_window_overlaps_the_previous_one() -> None:
    assert spans(65) == [
        Window(0, 17, 0, 0),
        Window(12, 29, 3, 2),
        Window(24, 41, 6, 2),
        Window(36, 53, 9, 2),
        Window(48, 65, 12, 2),
    ]


def test_all_windows_have_the_same_length() -> None:
    assert spans(20) == [Window(0, 17, 0, 0), Window(4, 20, 1, 4)]
    assert spans(30) == [Window(0, 17, 0, 0), Window(12, 29, 3, 2), Window(16, 30, 4, 4)]


@pytest.mark.parametrize(("overlap", "shared"), [(1, 1), (2, 5), (5, 5), (6, 9), (17, 13), (99, 13)])
def test_the_overlap_fills_latent_frames_and_leaves_a_new_one(overlap: int, shared: int) -> None:
    first, second = spans(40, overlap=overlap)[:2]

    assert first.stop - second.start == shared


def test_given_frames_fill_whole_latent_frames() -> None:
    assert spans(17, num_first=5) == [Window(0, 17, 0, 0)]
    assert spans(17, num_first=7) == [Window(2, 17, 0, 0)]
    assert spans(17, num_first=3) == [Window(0, 17, 0, 0)]
    assert spans(65, num_first=40)[:2] == [Window(35, 52, 0, 0), Window(47, 64, 3, 2)]
    assert spans(45, num_first=40) == [Window(31, 45, 0, 0)]


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("num_first", [0, 1, 3, 6, 9, 22])
@pytest.mark.parametrize("window", [5, 9, 16, 17])
@pytest.mark.parametrize("overlap", [1, 4, 5])
def test_windows_share_a_grid_and_generate_each_latent_frame_once(
    stride: int, num_first: int, window: int, overlap: int
) -> None:
    for num_frames in range(num_first + 1, num_first + 40):
        windows = spans(num_frames, num_first=num_first, window=window, overlap=overlap, stride=stride)
        first, last = windows[0].start, windows[-1].stop
        made: list[int] = []
        for start, stop, place, num_old in windows:
            latent_frames = 1 + -(-(stop - start - 1) // stride)
            assert (start - first) % stride == 0
            assert stop - start <= window
            assert place == (start - first) // stride
            assert num_old < latent_frames
            made += range(place + num_old, place + latent_frames)
        assert made == list(range(1 + -(-(num_frames - first - 1) // stride)))
        assert last == num_frames
        assert first == 0 or first < num_first
        assert all(later.start < earlier.stop for earlier, later in pairwise(windows))


def test_clips_of_one_latent_frame_cannot_be_continued() -> None:
    with pytest.raises(ValueError, match="num_frames must be at most 1, got 2"):
        spans(2, window=1)


def test_each_frame_is_from_the_first_window_that_contains_it(tokenizer: VideoTokenizer) -> None:
    windows = plan_windows(10, num_first=0, window_frames=5, overlap=3, stride=2)
    written: list[Int[Tensor, "b t h w"]] = []

    def write(window: Window, pixels: Tensor, known: Tensor) -> Int[Tensor, "b t h w"]:
        written.append(torch.randint(tokenizer.codebook_size, (2, *tokenizer.code_shape(*pixels.shape[2:]))))
        return written[-1]

    drawing = generate_windows(tokenizer, windows, torch.zeros(2, 3, 10, 16, 16), torch.zeros(2, 10, 16, 16) > 0, write)

    assert [(window.start, window.stop) for window in windows] == [(0, 5), (2, 7), (4, 9), (6, 10)]
    with torch.no_grad():
        drawn = [to_unit_range(tokenizer.decode(codes)) for codes in written]
    assert torch.equal(drawing.videos, torch.cat([drawn[0], *(clip[:, :, 3:] for clip in drawn[1:])], dim=2)[:, :, :10])
    assert torch.equal(drawing.codes, torch.cat([written[0], *(codes[:, 2:] for codes in written[1:])], dim=1))


def test_a_window_gets_generated_and_given_frames(tokenizer: VideoTokenizer) -> None:
    given = torch.rand(1, 3, 9, 16, 16)
    known = torch.zeros(1, 9, 16, 16) > 0
    known[:, :, :8] = True
    told: list[tuple[Window, Tensor, Tensor]] = []

    def write(window: Window, pixels: Tensor, is_known: Tensor) -> Int[Tensor, "b t h w"]:
        told.append((window, to_unit_range(pixels), is_known.clone()))
        return torch.randint(tokenizer.codebook_size, (1, *tokenizer.code_shape(*pixels.shape[2:])))

    windows = plan_windows(9, num_first=0, window_frames=5, overlap=3, stride=2)
    videos = generate_windows(tokenizer, windows, given, known, write).videos

    for number, (window, pixels, is_known) in enumerate(told):
        made = windows[number - 1].stop - window.start if number else 0
        clip = slice(window.start, window.stop)
        assert is_known[:, :made].all()
        assert torch.equal(is_known[:, made:], known[:, clip][:, made:])
        torch.testing.assert_close(pixels[:, :, :, :8], given[:, :, clip, :8])
        torch.testing.assert_close(pixels[:, :, :made, 8:], videos[:, :, clip, 8:][:, :, :made])

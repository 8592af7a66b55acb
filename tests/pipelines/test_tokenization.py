import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.pipelines import tokenization as tokenization_module
from magvit2_pytorch.pipelines.code_files import VideoCodes
from magvit2_pytorch.pipelines.media import video_source
from magvit2_pytorch.pipelines.media.decoding import probe
from magvit2_pytorch.pipelines.media.video_files import read_video, write_frames
from magvit2_pytorch.pipelines.tokenization import TokenizationPipeline
from magvit2_pytorch.tokenizer.pixels import to_model_range, to_unit_range

FPS = 24000 / 1001


@pytest.fixture
def tokenization() -> TokenizationPipeline:
    """Convolutions and local attention over 4 frames, with large model weights."""
    tokenizer = VideoTokenizer(
        image_size=16,
        init_dim=16,
        layers=("residual", "compress_time", ("compress", (2, 2, 2)), ("local_attend_time", 3)),
        codebook_size=2**7,
    )
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.normal_(std=0.3)
    return TokenizationPipeline(tokenizer)


@pytest.fixture
def film(tmp_path: Path, write_video, noise) -> Path:
    """Lossless video of 22 frames of 16 x 21 pixels."""
    return write_video(tmp_path / "film.mkv", noise(22, height=16, width=21))


def tensor_of(film: Path) -> Tensor:
    return read_video(film)[None]


def whole_codes(tokenizer: VideoTokenizer, video: Tensor) -> Tensor:
    with torch.no_grad():
        return tokenizer.encode(to_model_range(video))


def whole_video(tokenizer: VideoTokenizer, codes: Tensor, *sizes: int) -> Tensor:
    with torch.no_grad():
        return to_unit_range(tokenizer.decode(codes, *sizes))


@pytest.mark.parametrize("piece_frames", [1, 4, 7, 17, 100])
@pytest.mark.parametrize("own_size", [True, False])
def test_pieces_of_any_length_give_the_same_result(
    tokenization: TokenizationPipeline, film: Path, piece_frames: int, own_size: bool
) -> None:
    video = tensor_of(film) if own_size else tensor_of(film)[..., 2:18]
    tokenizer = tokenization.tokenizer
    expected = whole_codes(tokenizer, video)

    codes = tokenization.tokenize(film, own_size=own_size, piece_frames=piece_frames, progress=False)
    decoded = tokenization.detokenize(codes, piece_frames=piece_frames, progress=False)
    reconstructed = tokenization.reconstruct(film, own_size=own_size, piece_frames=piece_frames, progress=False)

    assert torch.equal(codes.codes, expected)
    torch.testing.assert_close(decoded, whole_video(tokenizer, expected, 22, *video.shape[3:]))
    torch.testing.assert_close(reconstructed, decoded)


def test_videos_of_a_batch_are_encoded_independently(tokenization: TokenizationPipeline, tmp_path: Path) -> None:
    videos = torch.rand(2, 3, 6, 16, 16)

    together = tokenization.tokenize(videos, progress=False)
    together.save(tmp_path / "both.safetensors")
    written = tokenization.detokenize(
        tmp_path / "both.safetensors", output=tmp_path / "both.gif", min_width=0, progress=False
    )

    for index, video in enumerate(videos):
        assert torch.equal(tokenization.tokenize(video, progress=False).codes, together.codes[index : index + 1])
    assert written.num_frames == 6
    assert read_video(tmp_path / "both.gif").shape == (3, 6, 16, 34)


def test_codes_from_a_file_are_unchanged(tokenization: TokenizationPipeline, film: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.safetensors"
    in_memory = tokenization.tokenize(film, progress=False)

    in_a_file = tokenization.tokenize(film, output=path, progress=False)

    assert isinstance(in_a_file.held, Path)
    assert in_a_file == VideoCodes.load(path)
    assert in_a_file.info == in_memory.info
    assert torch.equal(in_a_file.codes, in_memory.codes)
    decoded = [tokenization.detokenize(codes, progress=False) for codes in (in_memory, in_a_file, path, str(path))]
    assert all(torch.equal(one, decoded[0]) for one in decoded)


def test_size_and_frame_rate_are_restored(tokenization: TokenizationPipeline, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 18, 22, 3), dtype=np.uint8)
    write_frames(tmp_path / "film.mp4", frames, fps=FPS)
    codes = tokenization.tokenize(tmp_path / "film.mp4", own_size=True, progress=False)

    written = tokenization.detokenize(codes, output=tmp_path / "back.mp4", progress=False)

    assert (codes.info.num_frames, codes.info.height, codes.info.width) == (6, 18, 22)
    assert codes.info.fps == written.fps == pytest.approx(FPS)
    assert probe(tmp_path / "back.mp4").fps == pytest.approx(FPS)
    assert read_video(tmp_path / "back.mp4").shape == (3, 6, 18, 22)


def test_an_image_is_decoded_to_an_image(tokenization: TokenizationPipeline, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    codes = tokenization.tokenize(tmp_path / "a.png", progress=False)
    tokenization.detokenize(codes, output=tmp_path / "b.png", progress=False)

    assert codes.shape == (1, 1, 8, 8)
    assert codes.info.fps is None
    shown = read_video(tmp_path / "b.png")[None]
    torch.testing.assert_close(shown, tokenization.detokenize(codes, progress=False), atol=0.5 / 255, rtol=0)


@pytest.mark.parametrize("side_by_side", [True, False])
def test_a_reconstruction_is_written_with_its_psnr(
    tokenization: TokenizationPipeline, film: Path, tmp_path: Path, side_by_side: bool
) -> None:
    original, expected = tensor_of(film)[..., 2:18], tokenization.reconstruct(film, progress=False)

    written = tokenization.reconstruct(
        film, output=tmp_path / "out.gif", side_by_side=side_by_side, piece_frames=5, progress=False
    )

    shown = read_video(tmp_path / "out.gif")
    assert written[:3] == (tmp_path / "out.gif", 22, 25)
    assert written.psnr == pytest.approx(float(-10 * (original - expected).square().mean().log10()), abs=1e-3)
    assert (shown[..., -16:, -16:] - expected[0]).abs().mean() < 0.06
    assert shown.shape == ((3, 22, 36, 34) if side_by_side else (3, 22, 16, 16))
    if side_by_side:
        assert (shown[..., -16:, :16] - original[0]).abs().mean() < 0.06


def test_few_frames_are_in_memory(
    tokenization: TokenizationPipeline, tmp_path: Path, write_video, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {name: weakref.WeakSet[Tensor]() for name in ("read", "codes", "decoded")}
    most = dict.fromkeys(held, 0)

    def watched(name: str, tensors: Iterator[Tensor]) -> Iterator[Tensor]:
        for tensor in tensors:
            held[name].add(tensor)
            most[name] = max(most[name], len(held[name]))
            yield tensor

    for name, module, function in [
        ("read", video_source, "iterate_video"),
        ("codes", tokenization_module, "encode_pieces"),
        ("decoded", tokenization_module, "decode_pieces"),
    ]:
        original = getattr(module, function)
        monkeypatch.setattr(
            module, function, lambda *given, of=original, name=name, **named: watched(name, of(*given, **named))
        )

    seen = []
    for num_frames in (20, 40):
        film = write_video(tmp_path / f"{num_frames}.mkv", noise(num_frames, height=16, width=16))
        most.update(dict.fromkeys(held, 0))
        tokenization.tokenize(film, output=tmp_path / "a.safetensors", piece_frames=4, progress=False)
        tokenization.detokenize(tmp_path / "a.safetensors", output=tmp_path / "a.gif", piece_frames=4, progress=False)
        tokenization.reconstruct(film, output=tmp_path / "b.gif", piece_frames=4, side_by_side=True, progress=False)
        gc.collect()
        seen.append(dict(most))

    assert seen[0] == seen[1]
    assert seen[0]["read"] <= 12
    assert seen[0]["codes"] <= 2
    assert seen[0]["decoded"] <= 2


@pytest.mark.parametrize("layer", ["attend_time", "local_attend_time"])
def test_full_attention_over_many_frames_logs_a_warning(
    layer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = VideoTokenizer(image_size=8, init_dim=8, layers=("compress_space", layer), codebook_size=2**4)
    monkeypatch.setattr(tokenization_module, "MANY_FRAMES", 5)

    for num_frames in (5, 6):
        TokenizationPipeline(tokenizer).tokenize(torch.rand(3, num_frames, 8, 8), progress=False)

    said = ["keep all 6 frames of the video" in record.message for record in caplog.records]
    assert said == ([True] if layer == "attend_time" else [])


def test_codes_of_another_tokenizer_are_refused(
    tokenization: TokenizationPipeline, pipeline: VideoGenerationPipeline, tmp_path: Path
) -> None:
    codes = pipeline.tokenization.tokenize(torch.rand(3, 5, 16, 16), progress=False)

    with pytest.raises(ValueError, match="another tokenizer"):
        tokenization.detokenize(codes, output=tmp_path / "a.mp4", progress=False)

    assert not list(tmp_path.iterdir())


def test_frames_of_several_sizes_leave_no_output(
    tokenization: TokenizationPipeline, tmp_path: Path, write_video, noise
) -> None:
    parts = [write_video(tmp_path / f"{size}.ts", noise(10, size, size), "mpeg2video", "yuv420p") for size in (32, 48)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    for method, output in ((tokenization.tokenize, "a.safetensors"), (tokenization.reconstruct, "a.mp4")):
        with pytest.raises(ValueError, match=r"the same size, got \(32, 32\) and \(48, 48\)"):
            method(path, output=tmp_path / output, own_size=True, piece_frames=2, progress=False)

    assert sorted(tmp_path.iterdir()) == sorted([path, *parts])


def test_endings_are_checked_before_reading(tokenization: TokenizationPipeline, tmp_path: Path) -> None:
    for method in (tokenization.reconstruct, tokenization.detokenize):
        with pytest.raises(ValueError, match=r"a\.avi must end in one of"):
            method(tmp_path / "missing.mp4", output=tmp_path / "a.avi")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        tokenization.tokenize(tmp_path / "missing.mp4", output=tmp_path / "a.codes")

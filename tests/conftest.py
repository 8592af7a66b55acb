import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import jaxtyping
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream

if TYPE_CHECKING:
    from magvit2_pytorch import VideoGenerationPipeline

WriteVideo = Callable[..., Path]


def pytest_configure() -> None:
    """Give each worker of pytest-xdist a core of its own: torch's threads on shared cores wait for each other."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape file names that are not UTF-8 in captured output, which pytest-xdist cannot send to its main process."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def as_users_call() -> Iterator[None]:
    """Without the type checks of the test run, so that a call of wrong type meets the refusal that users meet."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    """Writes frames (`T H W 3`, uint8) to a file; FFV1 and PNG keep every bit of them."""

    def write(path: Path, frames: np.ndarray, codec: str = "ffv1", pixel_format: str = "bgr0", **options: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(path, "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pixel_format
            stream.time_base = Fraction(1, 25)
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Slowly drifting noise: textured, and without anything like a cut."""

    def frames(num_frames: int, height: int = 12, width: int = 12, seed: int = 0) -> np.ndarray:
        texture = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        brightness = np.linspace(0.5, 1, num_frames)[:, None, None, None]
        return (texture * brightness).astype(np.uint8)

    return frames


@pytest.fixture
def pipeline() -> "VideoGenerationPipeline":
    """Random weights: 5 frames of 16 x 16 pixels, a grid of 3 x 4 x 4 of 2^7 codes, three labels."""
    # Here and not above: this file is read before calls are checked for shapes.
    from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
    from magvit2_pytorch.maskgit import MaskGitConfig

    labels = ("left", "right", "up")
    tokenizer = VideoTokenizer(
        image_size=16, init_dim=16, layers=("residual", "compress_space"), codebook_size=2**7, patch_size=(2, 2, 2)
    )
    config = MaskGitConfig(codebook_size=2**7, grid=(3, 4, 4), num_labels=len(labels), width=32, depth=2, num_heads=2)
    maskgit = MaskGit(config)
    for parameter in maskgit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return VideoGenerationPipeline(tokenizer, maskgit, labels=labels, num_frames=5)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, write_video: WriteVideo) -> Path:
    """A folder with all that the pages use: pipelines as large as the demo's but with small random models, files."""
    from PIL import Image
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
    from magvit2_pytorch.maskgit import MaskGitConfig

    folder = tmp_path_factory.mktemp("furnished")
    labels = ("big_buck_bunny", "city_towers", "music_video", "sintel")
    tokenizer = VideoTokenizer(
        image_size=64,
        init_dim=8,
        patch_size=(4, 4, 4),
        layers=("compress_space", "residual", "compress_space"),
        codebook_size=2**8,
    )
    for name, dim_context in (("demo", None), ("texts", 8)):
        config = MaskGitConfig(
            codebook_size=2**8,
            grid=(5, 4, 4),
            num_labels=len(labels),
            width=32,
            depth=1,
            num_heads=2,
            dim_context=dim_context,
        )
        pipeline = VideoGenerationPipeline(tokenizer, MaskGit(config), labels=labels, num_frames=17)
        pipeline.save_pretrained(folder / "outputs" / name / "pipeline")
    texts = T5Tokenizer(
        vocab=[(token, 0.0) for token in ("<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz")]
    )
    texts.save_pretrained(folder / "my_t5")
    t5 = T5Config(vocab_size=len(texts), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5EncoderModel(t5).save_pretrained(folder / "my_t5")

    frames = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    for name in ("film.mp4", "other.mp4", "my_video.mp4"):
        write_video(folder / name, frames, "libx264", "yuv420p")
    Image.fromarray(frames[0]).save(folder / "first.png")
    Image.fromarray(frames[1]).save(folder / "last.png")
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:40, 10:50] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


@pytest.fixture
def workplace(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the current folder."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def magvit2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line and gives what it prints."""

    def run(*arguments: str | int) -> str:
        from magvit2_pytorch import cli

        monkeypatch.setattr(sys, "argv", ["magvit2", *map(str, arguments)])
        capsys.readouterr()
        cli.main()
        return capsys.readouterr().out

    return run

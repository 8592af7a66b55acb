import os
from collections.abc import Callable, Iterator
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

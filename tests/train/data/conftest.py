"""Videos that tests write themselves, and the shipped clips decoded once."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream

from magvit2_pytorch.train.data import DataConfig, VideoData, load_data

WriteVideo = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that share a busy core make many small operations a hundred times slower."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


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
def folder_config(tmp_path: Path) -> DataConfig:
    return DataConfig(
        path=str(tmp_path / "videos"), resolution=8, num_frames=3, cache_dir=str(tmp_path / "cache"), seed=1
    )


@pytest.fixture(scope="session")
def shipped_config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return DataConfig(cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shipped(shipped_config: DataConfig) -> VideoData:
    return load_data(shipped_config, progress=False)


@pytest.fixture(scope="session")
def shapes() -> VideoData:
    return load_data(DataConfig(path="shapes", resolution=16, num_frames=5), progress=False)

"""Data that tests share: folders of their own, and the shipped clips decoded once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from magvit2_pytorch.train.data import DataConfig, VideoData, load_data


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that share a busy core make many small operations a hundred times slower."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


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

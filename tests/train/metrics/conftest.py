from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
import pytest
from jaxtyping import UInt8

from magvit2_pytorch.train.data import Clips, VideoData


class Stripes:
    """Clips of moving stripes over noise, rising to the right in label 0 and to the left in label 1."""

    def __init__(self, resolution: int, num_frames: int, asked: set[int]) -> None:
        self.resolution = resolution
        self.num_frames = num_frames
        self.asked = asked

    def frames(self, row: Mapping[str, Any]) -> UInt8[np.ndarray, "T H W 3"]:
        self.asked.add(row["window"])
        numbers = np.random.default_rng(row["window"])
        time, height, width = np.ogrid[: self.num_frames, : self.resolution, : self.resolution]
        direction = 1 - 2 * row["label"]
        phase = (height + direction * width + time) / 4 + numbers.uniform(0, 2 * np.pi)
        waves = np.repeat(100 + 60 * np.sin(phase)[..., None], 3, axis=-1)
        return (waves + numbers.uniform(0, 60, waves.shape)).astype(np.uint8)


def stripes(num_clips: int, asked: set[int], *, first: int = 0) -> Clips:
    """Every fifth clip is marked as blank."""
    windows = np.arange(first, first + num_clips)
    columns = {"window": windows, "label": windows % 2, "is_blank": windows % 5 == 4}
    table = datasets.Dataset.from_dict({name: values.tolist() for name, values in columns.items()})
    return Clips(table, Stripes(16, 5, asked), 16)


@pytest.fixture
def asked_windows() -> set[int]:
    """What was asked of `stripes_data` in this test; its held-out windows begin at 1000."""
    return set()


@pytest.fixture
def stripes_data(asked_windows: set[int]) -> VideoData:
    return VideoData(
        labels=("rising", "falling"),
        train=stripes(60, asked_windows),
        heldout=stripes(20, asked_windows, first=1000),
        allows_flip=False,
        fingerprint="stripes",
    )

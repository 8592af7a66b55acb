import numpy as np
import pytest
from jaxtyping import Bool, Int, UInt8

from magvit2_pytorch.train.data import Clips, TrainingWindows, VideoData
from magvit2_pytorch.train.data.index import DrawnIndex, Windows
from magvit2_pytorch.train.data.video_data import ClipReader

LABELS = ("rising", "falling")


class Stripes:
    """Clips of moving stripes over noise, rising to the right in label 0 and to the left in label 1.

    Every fifth clip is said to be blank.
    """

    def __init__(self, resolution: int, num_frames: int, asked: set[int]) -> None:
        self.resolution = resolution
        self.num_frames = num_frames
        self.asked = asked

    def frames(self, number: int, first_frame: int) -> UInt8[np.ndarray, "T H W 3"]:
        self.asked.add(number)
        numbers = np.random.default_rng(number)
        time, height, width = np.ogrid[: self.num_frames, : self.resolution, : self.resolution]
        direction = 1 - 2 * (number % 2)
        phase = (height + direction * width + time) / 4 + numbers.uniform(0, 2 * np.pi)
        waves = np.repeat(100 + 60 * np.sin(phase)[..., None], 3, axis=-1)
        return (waves + numbers.uniform(0, 60, waves.shape)).astype(np.uint8)

    def name(self, number: int) -> str:
        return "stripes"

    def names(self) -> list[str]:
        return ["stripes"]

    def are_blank(self, number: int, first_frames: Int[np.ndarray, " windows"]) -> Bool[np.ndarray, " windows"]:
        return np.full(len(first_frames), number % 5 == 4)


@pytest.fixture
def asked_windows() -> set[int]:
    """What was asked of `stripes_data` in this test; its held-out windows begin at 1000."""
    return set()


@pytest.fixture
def stripes_data(asked_windows: set[int]) -> VideoData:
    reader = ClipReader(Stripes(16, 5, asked_windows), 16)
    heldout = np.arange(1000, 1020)
    return VideoData(
        labels=LABELS,
        train=TrainingWindows(DrawnIndex(60, 2), reader, LABELS),
        heldout=Clips.of(Windows(heldout, np.zeros_like(heldout), heldout % 2), reader, LABELS),
        allows_flip=False,
        fingerprint="stripes",
    )

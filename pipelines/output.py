"""The output of `generate`, and its conversion to arrays, PIL images and files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from .animation import filling_in
from .fill.record import DecodingRecord
from .media.pictures import MIN_WIDTH, save_videos
from .media.video_like import as_videos

Videos = Float[Tensor, "b 3 T H W"] | Float[np.ndarray, "b T H W 3"] | list[list[Image.Image]]
LAST_STRIP_REPEATS = 8  # an animation shows the finished videos for this many passes


def to_numpy(videos: Float[Tensor, "b 3 T H W"]) -> Float[np.ndarray, "b T H W 3"]:
    """Return the videos as an array with channels last."""
    return rearrange(videos, "b c T H W -> b T H W c").contiguous().numpy()


def to_pictures(videos: Float[Tensor, "b 3 T H W"]) -> list[list[Image.Image]]:
    """Return the frames of each video, rounded to 8 bits per channel."""
    pixels = (to_numpy(videos) * 255).round().astype(np.uint8)
    return [[Image.fromarray(frame) for frame in video] for video in pixels]


OUTPUT_TYPES: dict[str, Callable[[Float[Tensor, "b 3 T H W"]], Videos]] = {
    "pt": lambda videos: videos,
    "np": to_numpy,
    "pil": to_pictures,
}


@dataclass(frozen=True)
class GenerationOutput:
    """Output of `VideoGenerationPipeline.generate`."""

    videos: Any  # one of `Videos`, depending on `output_type`
    """Videos in [0, 1], on the CPU: a tensor (b, 3, T, H, W), an array (b, T, H, W, 3) if `output_type="np"`, or a list
    of PIL images per video if "pil". Given pixels are unchanged."""
    codes: Int[Tensor, "b t h w"]
    """Generated codes, on the CPU. They may start after the first frames of the videos, see `generate`."""
    labels: tuple[str, ...]
    """Name of the label of each video; empty for a video without label."""
    record: DecodingRecord | None = None
    """The pass that settled each code."""

    def save(self, path: str | Path, *, fps: float = 12, min_width: int = MIN_WIDTH) -> None:
        """Save all videos side by side in one file: .mp4, .gif, or .png with the frames in rows.

        Args:
            fps: frames per second.
            min_width: minimum width of the picture in pixels, reached by enlarging it by an integer factor; 0 keeps the
                size.

        Raises:
            ValueError: if the file has another ending.
        """
        save_videos(path, self._videos(), captions=self._captions(), fps=fps, min_width=min_width)

    def save_decoding(self, path: str | Path, *, fps: float = 4, min_width: int = MIN_WIDTH) -> None:
        """Save an animation of the decoding (.gif or .mp4), or a .png with the passes in rows.

        Each video is a row of frames, one per latent frame. Cells whose code is hidden are grey.

        Args:
            fps: passes per second.
            min_width: as in `save`.

        Raises:
            ValueError: if the file has another ending, or if the output has no record.
        """
        if self.record is None:
            raise ValueError("save_decoding requires the record of an output of `generate`, got None")
        strips = filling_in(self._videos(), self.record)
        still = Path(path).suffix.lower() not in (".gif", ".mp4")
        repeats = torch.ones(strips.shape[2], dtype=torch.long)
        repeats[-1] = 1 if still else LAST_STRIP_REPEATS
        strips = strips.repeat_interleave(repeats, dim=2)
        save_videos(path, strips, captions=self._captions(), fps=fps, columns=1, min_width=min_width)

    def _videos(self) -> Float[Tensor, "b 3 T H W"]:
        return as_videos(self.videos, "videos")

    def _captions(self) -> tuple[str, ...] | None:
        return self.labels if len(self.labels) > 1 else None

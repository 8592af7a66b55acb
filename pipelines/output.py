"""What `generate` gives back: videos in the form asked for, codes, labels; pictures of them."""

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
LAST_STRIP_REPEATS = 8  # the finished videos are shown so many times as long as a pass


def to_numpy(videos: Float[Tensor, "b 3 T H W"]) -> Float[np.ndarray, "b T H W 3"]:
    """Channels last."""
    return rearrange(videos, "b c T H W -> b T H W c").contiguous().numpy()


def to_pictures(videos: Float[Tensor, "b 3 T H W"]) -> list[list[Image.Image]]:
    """The frames of each video, rounded to 8 bits a channel."""
    pixels = (to_numpy(videos) * 255).round().astype(np.uint8)
    return [[Image.fromarray(frame) for frame in video] for video in pixels]


OUTPUT_TYPES: dict[str, Callable[[Float[Tensor, "b 3 T H W"]], Videos]] = {
    "pt": lambda videos: videos,
    "np": to_numpy,
    "pil": to_pictures,
}


@dataclass(frozen=True)
class GenerationOutput:
    """What `VideoGenerationPipeline.generate` made."""

    videos: Any  # one of `Videos`, which the caller knows by what it asked for
    """A tensor `b 3 T H W` in [0, 1], on the CPU. As NumPy (`output_type="np"`) an array `b T H W 3`; as pictures of
    PIL ("pil") a list of frames for each video."""
    codes: Int[Tensor, "b t h w"]
    """The codes that the videos were decoded from, on the CPU. Frames before the first that was coded have none, see
    `generate`; given pixels took the place of the decoded ones."""
    labels: tuple[str, ...]
    """The name of each video's label; empty for one without."""
    record: DecodingRecord | None = None
    """When each code was settled."""

    def save(self, path: str | Path, *, fps: float = 12, min_width: int = MIN_WIDTH) -> None:
        """Save all videos in one file, side by side and enlarged: .mp4 or .gif; .png shows frames in rows.

        Args:
            min_width: the picture is enlarged by a whole factor to at least so many pixels; 0 for none.

        Raises:
            ValueError: another ending.
        """
        save_videos(path, self._videos(), captions=self._captions(), fps=fps, min_width=min_width)

    def save_decoding(self, path: str | Path, *, fps: float = 4, min_width: int = MIN_WIDTH) -> None:
        """Save how the codes were filled in, as an animation (.gif or .mp4), or a .png with the passes in rows.

        Each video is a strip of its frames, one for each latent frame; what is still hidden is grey.

        Args:
            fps: passes per second.
            min_width: as in `save`.

        Raises:
            ValueError: another ending, or an output without a record of its passes.
        """
        if self.record is None:
            raise ValueError("this output has no record of its passes: `generate` makes one")
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

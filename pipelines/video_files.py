"""Video files in and out, through imageio. Videos in files and here are in [0, 1]."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from ..pretrained import written_whole

ANIMATIONS = (".mp4", ".gif")
STILLS = (".png", ".jpg", ".jpeg")


def iterate_frames(path: str | Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video, animation or image, one by one in order from the start (seeking is wrong on real files).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read as a video or an image; frames before a damage have been given by then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    plugin = "pillow" if path.suffix.lower() in (*STILLS, ".gif") else "pyav"
    options = {"mode": "RGB"} if plugin == "pillow" else {"format": "rgb24"}
    try:
        yield from imageio.imiter(path, plugin=plugin, **options)
    except (OSError, IndexError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a video or an image ({type(error).__name__})") from error


def iterate_video(path: str | Path) -> Iterator[Float[Tensor, "3 1 H W"]]:
    """The frames of a file as videos of one frame in [0, 1]; raises what `iterate_frames` raises."""
    for frame in iterate_frames(path):
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).float() / 255
        yield rearrange(pixels, "H W c -> c 1 H W")


def read_video(path: str | Path, *, max_frames: int | None = None) -> Float[Tensor, "3 T H W"]:
    """A video file in [0, 1], its first `max_frames` frames if that is given.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds no frame.
    """
    frames = list(islice(iterate_video(path), max_frames))
    if not frames:
        raise ValueError(f"{path} holds no frame")
    return torch.cat(frames, dim=1)


def write_frames(path: str | Path, frames: UInt8[np.ndarray, "T H W 3"], *, fps: float) -> None:
    """Write frames as .mp4 (H.264) or .gif, or a single one as .png or .jpg: whole or not at all.

    Raises:
        ValueError: another ending, several frames into a still, or a frame rate that is not positive.
    """
    path = check_ending(path)
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    ending = path.suffix.lower()
    if ending in STILLS and len(frames) != 1:
        raise ValueError(f"{ending} holds one frame, got {len(frames)}; allowed for videos are {', '.join(ANIMATIONS)}")
    with written_whole(path) as aside:
        if ending == ".mp4":
            height, width = frames.shape[1:3]
            even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            imageio.imwrite(aside, even, plugin="pyav", codec="libx264", fps=fps, in_pixel_format="rgb24")
        elif ending == ".gif":
            imageio.imwrite(aside, frames, plugin="pillow", duration=1000 / fps, loop=0)
        else:
            imageio.imwrite(aside, frames[0], plugin="pillow")


def check_ending(path: str | Path) -> Path:
    """The path, if its ending is one that can be written.

    Raises:
        ValueError: it is not, or a folder of that name is in the way.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file to write")
    if path.suffix.lower() not in (*ANIMATIONS, *STILLS):
        raise ValueError(f"{path} must end in one of {', '.join((*ANIMATIONS, *STILLS))}")
    return path

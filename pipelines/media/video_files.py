"""Reading and writing of video files frame by frame. Videos are in [0, 1]."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import imageio.v3 as imageio
import numpy as np
import torch
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from ...files import as_path, check_result_file, written_whole
from .decoding import open_frames
from .frame_reader import DecodingError
from .gif_files import MOST_FRAMES_PER_SECOND, gif_writer
from .resizing import fit

ANIMATIONS = (".mp4", ".gif")
STILLS = (".png", ".jpg", ".jpeg")
DEFAULT_FPS = 12.0
"""Frames per second of written files if the input has no frame rate."""

logger = logging.getLogger(__name__)

WriteFrames = Callable[[UInt8[np.ndarray, "_ H W 3"]], None]
WriteFrame = Callable[[UInt8[np.ndarray, "H W 3"]], None]


def iterate_frames(path: str | Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield the frames of a video, animation or image in order from the start, as a player shows them.

    A damaged file yields the frames that can be decoded, and a warning about the missing ones is logged.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as a video or an image.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder, not a file" if path.is_dir() else f"there is no file {path}")
    try:
        with open_frames(path) as reader:
            try:
                yield from reader
            finally:
                if reader.lost:
                    logger.warning("%s: %s", path, reader.lost)
    except DecodingError as error:
        raise ValueError(f"{path} cannot be read as a video or an image ({error})") from error


def iterate_bytes(path: str | Path) -> Iterator[UInt8[Tensor, "3 1 H W"]]:
    """Yield the frames of a file as uint8 videos of one frame. Errors are those of `iterate_frames`."""
    for frame in iterate_frames(path):
        yield rearrange(torch.from_numpy(frame.copy()), "H W c -> c 1 H W")


def iterate_video(path: str | Path, size: tuple[int, int] | None = None) -> Iterator[Float[Tensor, "3 1 H W"]]:
    """Yield the frames of a file as videos of one frame in [0, 1]. Errors are those of `iterate_frames`.

    Args:
        size: height and width that frames are resized and cropped to, as training does.
    """
    for frame in iterate_bytes(path):
        yield in_unit_range(fit(frame, *size) if size else frame)


def in_unit_range(pixels: Shaped[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Convert uint8 pixels to [0, 1]; floating point pixels are unchanged."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def read_video(path: str | Path, *, max_frames: int | None = None) -> Float[Tensor, "3 T H W"]:
    """Return a video file, or its first `max_frames` frames, in [0, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read or contains no frames.
    """
    frames = list(islice(iterate_video(path), max_frames))
    if not frames:
        raise ValueError(f"{path} contains no frames")
    return torch.cat(frames, dim=1)


def write_frames(path: str | Path, frames: UInt8[np.ndarray, "T H W 3"], *, fps: float) -> None:
    """Write frames to an .mp4 (H.264) or .gif, or a single frame to a .png or .jpg, atomically.

    Raises:
        ValueError: as in `video_writer`.
    """
    with video_writer(path, fps=fps) as write:
        write(frames)


@contextmanager
def video_writer(path: str | Path, *, fps: float) -> Iterator[WriteFrames]:
    """Yield a function that adds frames to a video that comes in pieces.

    The file, .mp4 (H.264) or .gif, or .png or .jpg for a single frame, appears when the block ends without an error.
    Frames are not kept in memory. For .mp4, an odd height or width is made even by repeating the last row or column.

    Raises:
        ValueError: if the ending or the frame rate is not supported, if there are no frames, several frames for a
            .png or .jpg, or frames of different sizes.
    """
    path = check_ending(path)
    check_rate(path, fps)
    make_writer = _WRITERS[path.suffix.lower()]
    write_frame: WriteFrame | None = None
    size: tuple[int, ...] = ()
    with written_whole(path) as aside, ExitStack() as opened:

        def write(frames: UInt8[np.ndarray, "_ H W 3"]) -> None:
            nonlocal write_frame, size
            for frame in frames:
                if write_frame is None:
                    size = frame.shape[:2]
                    rate = Fraction(fps).limit_denominator(65535)
                    write_frame = opened.enter_context(make_writer(aside, rate, *size))
                elif make_writer is _still_writer:
                    raise ValueError(f"{path} can contain only one frame; use {' or '.join(ANIMATIONS)} for more")
                if frame.shape[:2] != size:
                    raise ValueError(f"the frames of a video must have the same size, got {size} and {frame.shape[:2]}")
                write_frame(frame)

        try:
            yield write
            opened.close()
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):  # such as a full disk
                raise
            raise ValueError(f"{path} cannot be written: {error}") from error
        finally:
            write_frame = None  # a reference in `write` would keep the writer until exit, where it fails
        if not size:
            raise ValueError(f"at least one frame must be written to {path}, got none")


@contextmanager
def _mp4_writer(path: Path, fps: Fraction, height: int, width: int) -> Iterator[WriteFrame]:
    with path.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.time_base = height + height % 2, width + width % 2, 1 / fps
        num_frames = 0

        def write(frame: UInt8[np.ndarray, "H W 3"]) -> None:
            nonlocal num_frames
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame(stream.width, stream.height, "rgb24")
            plane = picture.planes[0]
            # The conversion to YUV also reads the padding of the rows. Without values of our own, the same frames
            # would not always give the same file.
            rows = np.zeros((stream.height, plane.line_size), np.uint8)
            rows[:, : 3 * stream.width] = even.reshape(stream.height, -1)
            plane.update(rows.tobytes())
            picture.pts, picture.time_base = num_frames, 1 / fps
            num_frames += 1
            container.mux(stream.encode(picture))

        yield write
        container.mux(stream.encode(None))


@contextmanager
def _still_writer(path: Path, fps: Fraction, height: int, width: int) -> Iterator[WriteFrame]:
    def write(frame: UInt8[np.ndarray, "H W 3"]) -> None:
        imageio.imwrite(path, frame, plugin="pillow")

    yield write


_WRITERS = {".mp4": _mp4_writer, ".gif": gif_writer} | dict.fromkeys(STILLS, _still_writer)


def check_rate(path: str | Path, fps: float) -> float:
    """Return the frame rate if the format of the file supports it.

    Raises:
        ValueError: if it does not.
    """
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must be from 0.01 to 1000, got {fps}")
    if Path(path).suffix.lower() == ".gif" and fps > MOST_FRAMES_PER_SECOND:
        raise ValueError(f"fps must be at most {MOST_FRAMES_PER_SECOND} for .gif, got {fps:g}; reduce it or use .mp4")
    return fps


def check_ending(path: str | Path, *others: object) -> Path:
    """Return the path of a video or image file to write.

    Args:
        others: as in `check_result_file`.

    Raises:
        ValueError: if it has another ending, or as in `check_result_file`.
    """
    path = check_result_file(path, *others)
    if path.suffix.lower() not in (*ANIMATIONS, *STILLS):
        raise ValueError(f"{path} must end in one of {', '.join((*ANIMATIONS, *STILLS))}")
    return path

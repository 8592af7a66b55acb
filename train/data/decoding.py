"""Video files to frames, in order from the start: seeking returns wrong frames on real files."""

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8


class DecodingError(Exception):
    """The file holds no video, or no more of it can be decoded."""


def decode_frames(path: Path) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """The frames of a file as they are shown: RGB, upright where the file says how it is turned.

    Raises:
        DecodingError: after the last good frame, where the file is damaged.
    """
    reformatter = VideoReformatter()  # one for all frames: setting it up costs more than using it
    try:
        with av.open(path, metadata_errors="ignore") as container:
            for frame in container.decode(container.streams.video[0]):
                pixels = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                yield np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90)))
    except IndexError as error:
        raise DecodingError("no video stream") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DecodingError(str(error)) from error

"""Writing of animated GIFs frame by frame. Each frame has its own palette and is written immediately."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8

MOST_FRAMES_PER_SECOND = 50
"""Delays are multiples of 0.01 seconds, and viewers replace delays of less than 0.02 with longer ones."""


@contextmanager
def gif_writer(
    path: Path, fps: Fraction, height: int, width: int
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"]], None]]:
    """Yield a function that adds a frame to an animation, which loops forever. The file is complete after the block."""
    with av.open(path, "w", format="gif") as container:
        stream = container.add_stream("gif", rate=fps)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt, stream.time_base = height, width, "pal8", 1 / fps
        palettes = palette_per_frame(height, width, 1 / fps)
        num_frames = 0

        def encode_ready_frames() -> None:
            while True:
                try:
                    picture = palettes.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    return
                assert isinstance(picture, av.VideoFrame)
                container.mux(stream.encode(picture))

        def write(frame: UInt8[np.ndarray, "H W 3"]) -> None:
            nonlocal num_frames
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = num_frames, 1 / fps
            num_frames += 1
            palettes.push(picture)
            encode_ready_frames()

        yield write
        palettes.push(None)
        encode_ready_frames()
        container.mux(stream.encode(None))


def palette_per_frame(height: int, width: int, time_base: Fraction) -> av.filter.Graph:
    """Return a filter that reduces each frame to its best 256 colours, without dithering, which would flicker."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=time_base)
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    use = graph.add("paletteuse", "new=1:dither=none")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(graph.add("buffersink"))
    graph.configure()
    return graph

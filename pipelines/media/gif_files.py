"""Animated GIFs, written frame by frame: every frame has a palette of its own, and none waits for the others."""

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
"""Delays are whole hundredths of a second, and viewers slow down those below two."""


@contextmanager
def gif_writer(
    path: Path, fps: Fraction, height: int, width: int
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"]], None]]:
    """A function that adds a frame to an animation, which repeats for ever and is finished when the block ends."""
    with av.open(path, "w", format="gif") as container:
        stream = container.add_stream("gif", rate=fps)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt, stream.time_base = height, width, "pal8", 1 / fps
        palettes = palette_for_each_frame(height, width, 1 / fps)
        num_frames = 0

        def encode_what_is_ready() -> None:
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
            encode_what_is_ready()

        yield write
        palettes.push(None)
        encode_what_is_ready()
        container.mux(stream.encode(None))


def palette_for_each_frame(height: int, width: int, time_base: Fraction) -> av.filter.Graph:
    """What gives each frame the 256 colours that suit it best, without dithering, which would flicker."""
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

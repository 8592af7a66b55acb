"""Conversion of decoded frames to what a player shows."""

import threading
from fractions import Fraction

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from jaxtyping import UInt8

from .resizing import resize

HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
WIDEST_PIXEL = 8
"""Maximum aspect ratio of pixels. A larger one in a file is considered wrong and ignored."""


class HdrReformatter(threading.local):
    """Shared by the videos of a thread: FFmpeg takes seconds to set one up for a frame size and its colours."""

    def __init__(self) -> None:
        self.reformat = VideoReformatter().reformat


hdr_reformatter = HdrReformatter()


class FrameConverter:
    """Converts the frames of one video to RGB: upright, with square pixels, on white where transparent, HDR as SDR."""

    def __init__(self, pixel_aspect: Fraction | None) -> None:
        """Args:
        pixel_aspect: width of a pixel divided by its height.
        """
        is_plausible = pixel_aspect and Fraction(1, WIDEST_PIXEL) <= pixel_aspect <= WIDEST_PIXEL
        self.pixel_aspect = pixel_aspect if is_plausible else Fraction(1)
        self.reformatter = VideoReformatter()  # one for all frames, since creating it is slow
        self.has_wrong_colours = False
        """Whether colours are wrong because HDR could not be converted."""

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "_ _ 3"]:
        pixels = self.rgb(frame)
        height, width, _ = pixels.shape
        pixels = resize(pixels, height, max(1, round(width * self.pixel_aspect)))
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return pixels if matrix is None else rotated(pixels, np.frombuffer(bytes(matrix), np.int32).reshape(3, 3))

    def rgb(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        layout = "rgba" if has_alpha(frame.format) else "rgb24"
        if frame.color_trc in HDR:
            try:
                converted = hdr_reformatter.reformat(
                    frame,
                    format=layout,
                    threads=1,
                    dst_color_trc=ColorTrc.BT709,
                    dst_color_primaries=ColorPrimaries.BT709,
                )
                return on_white(converted.to_ndarray())
            except av.error.FFmpegError:
                self.has_wrong_colours = True
        return on_white(self.reformatter.reformat(frame, format=layout, threads=1).to_ndarray())


def has_alpha(layout: av.VideoFormat) -> bool:
    return layout.name == "pal8" or any(component.is_alpha for component in layout.components)


def on_white(pixels: UInt8[np.ndarray, "H W c"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return RGB or RGBA pixels as RGB, on white where transparent."""
    if pixels.shape[2] == 3:
        return pixels
    opacity = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def rotated(pixels: UInt8[np.ndarray, "H W 3"], matrix: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Return a frame rotated by its display matrix, which maps (column, row, 1) as stored to the place on the screen.

    The nearest rotation by a multiple of 90 degrees, with or without mirroring, is applied.
    """
    (across, down), (across_by_row, down_by_row) = matrix[:2, :2].tolist()
    if abs(across) + abs(down_by_row) < abs(down) + abs(across_by_row):
        pixels = pixels.transpose(1, 0, 2)
        across, down_by_row = across_by_row, down
    return np.ascontiguousarray(pixels[:: -1 if down_by_row < 0 else 1, :: -1 if across < 0 else 1])

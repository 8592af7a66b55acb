"""Clips of files for the command line: first and last frames, and frames with hidden pixels."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from .resizing import fit
from .video_files import in_unit_range, iterate_bytes, iterate_video
from .video_source import probe_file

Size = tuple[int, int]
"""Height and width that frames are resized and cropped to; None keeps their size."""
LEAST_SHARE = 1e-6
"""Share of a pixel above which it counts as hidden. Smaller shares are rounding errors."""
Box = tuple[int, int, int, int]
Frame = Shaped[Tensor, "3 1 H W"]
"""uint8, or floating point in [0, 1]."""
MaskedFrame = tuple[Frame, Bool[Tensor, "1 H W"]]


class Clip(NamedTuple):
    """Frames of a file."""

    pixels: Float[Tensor, "3 T H W"]
    """In [0, 1]."""
    fps: float | None


class MaskedClip(NamedTuple):
    """Frames of a file with hidden pixels, which are to be generated."""

    pixels: Float[Tensor, "3 T H W"]
    """In [0, 1]."""
    hidden: Bool[Tensor, "T H W"]
    """True where pixels are hidden."""
    fps: float | None

    @property
    def shown(self) -> Float[Tensor, "3 T H W"]:
        """The pixels that are not hidden; the others are grey."""
        return torch.where(self.hidden, 0.5, self.pixels)


def last_frames(path: str | Path, number: int, size: Size | None, max_frames: int | None = None) -> Clip:
    """Return the last `number` frames of a file or of its first `max_frames`; all if it is shorter.

    At most `number` frames are in memory at the same time.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it contains no video, or if `number` is not positive.
    """
    return clip(path, deque(islice(iterate_video(path, size), max_frames), maxlen=positive(number)))


def first_frames(path: str | Path, number: int, size: Size | None) -> Clip:
    """Return the first `number` frames of a file; all if it is shorter. Errors are those of `last_frames`."""
    return clip(path, islice(iterate_video(path, size), positive(number)))


def clip(path: str | Path, frames: Iterable[Frame]) -> Clip:
    """Return the frames of a file as a clip."""
    kept = list(frames)
    if not kept:
        raise ValueError(f"{path} contains no frames")
    return Clip(joined(kept), probe_file(path)[0])


def masked_frames(
    path: str | Path,
    size: Size | None,
    max_frames: int | None = None,
    *,
    mask: str | Path | None = None,
    hide: Box | None = None,
    keep: Box | None = None,
    margins: Box | None = None,
) -> MaskedClip:
    """Return the frames of a file with their hidden pixels. Exactly one of the last four arguments must be given.

    Its sizes are in pixels of the file. A resized pixel is hidden if any part of it is.

    Args:
        max_frames: number of frames to read from the start; None reads all.
        mask: as in `with_mask`.
        hide: box that is hidden, as in `with_box`.
        keep: box around which everything is hidden.
        margins: as in `with_margins`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as in these functions, or if no pixel is hidden.
    """
    check_one(mask=mask, hide=hide, keep=keep, margins=margins)
    frames = islice(iterate_bytes(path), None if max_frames is None else positive(max_frames))
    if mask is not None:
        masked = with_mask(frames, mask)
    elif margins is not None:
        masked = with_margins(frames, margins, size)
    else:
        masked = with_box(frames, hide or keep or (0, 0, 0, 0), keep=keep is not None)
    pixels, hidden = [], []
    for frame, is_hidden in masked:
        pixels.append(fit(frame, *size) if size else frame)
        hidden.append(fit(is_hidden[None].float(), *size)[0] > LEAST_SHARE if size else is_hidden)
    if not pixels:
        raise ValueError(f"{path} contains no frames")
    result = MaskedClip(in_unit_range(joined(pixels)), torch.cat(hidden), probe_file(path)[0])
    if not result.hidden.any():
        raise ValueError("at least one pixel must be hidden (white in a mask), got none")
    return result


def check_one(**given: object) -> None:
    """
    Raises:
        ValueError: if not exactly one argument is given.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise ValueError(f"exactly one of {', '.join(given)} must be given, got {' and '.join(names) or 'none'}")


def with_mask(frames: Iterable[Frame], mask: str | Path) -> Iterator[MaskedFrame]:
    """Yield frames with a mask from a file, white where they are hidden: one image for all frames, or one per frame.

    Raises:
        FileNotFoundError: if there is no such mask.
        ValueError: if its size differs from that of the frames, or if it has several frames, but too few.
    """
    masks = iterate_video(mask)
    first, second = next(masks), next(masks, None)
    masks = repeat(first) if second is None else chain([first, second], masks)
    for number, frame in enumerate(frames):
        white = next(masks, None)
        if white is None:
            raise ValueError(f"a mask must have 1 frame or as many as the video, got {number} in {mask}")
        if white.shape != frame.shape:
            sizes = (" x ".join(map(str, one.shape[2:])) for one in (frame, white))
            raise ValueError("a mask must have the size of the video, {} pixels, got {}".format(*sizes))
        yield frame, white.mean(dim=0) >= 0.5


def with_box(frames: Iterable[Frame], box: Box, *, keep: bool) -> Iterator[MaskedFrame]:
    """Yield frames with a hidden box or, with `keep`, with everything hidden except the box.

    Args:
        box: top, left, height and width.

    Raises:
        ValueError: if the box is empty or exceeds the frame.
    """
    top, left, rows, columns = box
    for frame in frames:
        height, width = frame.shape[2:]
        if min(top, left) < 0 or min(rows, columns) < 1 or top + rows > height or left + columns > width:
            raise ValueError(
                f"a box (top, left, height, width) must lie within the video's {height} x {width} pixels, got {box}"
            )
        hidden = torch.full((1, height, width), keep)
        hidden[:, top : top + rows, left : left + columns] = not keep
        yield frame, hidden


def with_margins(frames: Iterable[Frame], margins: Box, shape: Size | None = None) -> Iterator[MaskedFrame]:
    """Yield frames with hidden margins around them.

    Args:
        margins: rows above and below, columns to the left and to the right.
        shape: height and width whose aspect ratio the result has. Margins are increased where necessary.

    Raises:
        ValueError: if a margin is negative, or if all are 0.
    """
    if min(margins) < 0 or not any(margins):
        raise ValueError(f"margins (above, below, left, right) must be at least 0 and not all 0, got {margins}")
    for frame in frames:
        above, below, left, right = margins
        height, width = frame.shape[2] + above + below, frame.shape[3] + left + right
        if shape is not None:
            scale = max(height / shape[0], width / shape[1])
            rows, columns = round(shape[0] * scale) - height, round(shape[1] * scale) - width
            above, below, left, right = (
                *(above + rows // 2, below + rows - rows // 2),
                *(left + columns // 2, right + columns - columns // 2),
            )
        hidden = torch.zeros(frame.shape[1:], dtype=torch.bool)
        padding = (left, right, above, below)
        yield F.pad(frame, padding), F.pad(hidden, padding, value=True)


def joined(frames: list[Frame]) -> Shaped[Tensor, "3 T H W"]:
    """
    Raises:
        ValueError: if the sizes of frames differ.
    """
    if len(sizes := sorted({tuple(frame.shape[2:]) for frame in frames})) > 1:
        raise ValueError(f"the frames of a video must have the same size, got {sizes[0]} and {sizes[-1]}")
    return torch.cat(frames, dim=1)


def positive(number: int) -> int:
    """
    Raises:
        ValueError: if the number is less than 1.
    """
    if number < 1:
        raise ValueError(f"the number of frames must be at least 1, got {number}")
    return number

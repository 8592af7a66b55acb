"""Clips of files that something is made of: their ends, and what of them is to be filled in."""

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
"""Height and width that frames are cropped and resized to; without one they stay as they are."""
LEAST_SHARE = 1e-6
"""Of a pixel; what is less comes from rounding."""
Box = tuple[int, int, int, int]
Frame = Shaped[Tensor, "3 1 H W"]
"""Bytes, or floating point numbers in [0, 1]."""
MaskedFrame = tuple[Frame, Bool[Tensor, "1 H W"]]


class Clip(NamedTuple):
    """Frames of a file."""

    pixels: Float[Tensor, "3 T H W"]
    """In [0, 1]."""
    fps: float | None


class MaskedClip(NamedTuple):
    """Frames of a file of which a part is to be made anew."""

    pixels: Float[Tensor, "3 T H W"]
    """In [0, 1]."""
    hidden: Bool[Tensor, "T H W"]
    """True where something is to be made."""
    fps: float | None

    @property
    def shown(self) -> Float[Tensor, "3 T H W"]:
        """What is left; the rest is grey."""
        return torch.where(self.hidden, 0.5, self.pixels)


def last_frames(path: str | Path, number: int, size: Size | None, max_frames: int | None = None) -> Clip:
    """The last frames of a file, or of its first `max_frames`: `number` or all; no more are held while it is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no video, or `number` is not positive.
    """
    return clip(path, deque(islice(iterate_video(path, size), max_frames), maxlen=positive(number)))


def first_frames(path: str | Path, number: int, size: Size | None) -> Clip:
    """The first frames of a file, `number` or all that it has; raises what `last_frames` raises."""
    return clip(path, islice(iterate_video(path, size), positive(number)))


def clip(path: str | Path, frames: Iterable[Frame]) -> Clip:
    """Join frames of a file."""
    kept = list(frames)
    if not kept:
        raise ValueError(f"{path} holds no frame")
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
    """The frames of a file, and what is to be made of them: every pixel that has any part of a hidden one.

    One of the four says what that is, in pixels of the file.

    Args:
        max_frames: only so many frames from the start.
        mask: see `with_mask`.
        hide: a box that is to be filled in, see `with_box`.
        keep: a box around which all is to be filled in.
        margins: see `with_margins`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as the three functions, or nothing is to be made.
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
        raise ValueError(f"{path} holds no frame")
    result = MaskedClip(in_unit_range(joined(pixels)), torch.cat(hidden), probe_file(path)[0])
    if not result.hidden.any():
        raise ValueError("nothing is to be filled in: a mask is white where something is to be made")
    return result


def check_one(**given: object) -> None:
    """
    Raises:
        ValueError: not exactly one of them is given.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise ValueError(f"there must be one of {', '.join(given)}, got {' and '.join(names) or 'none'}")


def with_mask(frames: Iterable[Frame], mask: str | Path) -> Iterator[MaskedFrame]:
    """Frames with a mask from a file, white where they are to be filled in: a picture for all, or one for each.

    Raises:
        FileNotFoundError: there is no such mask.
        ValueError: it is of another size, or has fewer frames, but more than one.
    """
    masks = iterate_video(mask)
    first, second = next(masks), next(masks, None)
    masks = repeat(first) if second is None else chain([first, second], masks)
    for number, frame in enumerate(frames):
        white = next(masks, None)
        if white is None:
            raise ValueError(f"{mask} has {number} frames, fewer than the video; it must have as many, or one")
        if white.shape != frame.shape:
            sizes = (" x ".join(map(str, one.shape[2:])) for one in (white, frame))
            raise ValueError("the mask has {} pixels, the video {}; they must be of one size".format(*sizes))
        yield frame, white.mean(dim=0) >= 0.5


def with_box(frames: Iterable[Frame], box: Box, *, keep: bool) -> Iterator[MaskedFrame]:
    """Frames of which a box is to be filled in, or with `keep` all around it.

    Args:
        box: top, left, height and width.

    Raises:
        ValueError: it does not lie within the frame.
    """
    top, left, rows, columns = box
    for frame in frames:
        height, width = frame.shape[2:]
        if min(top, left) < 0 or min(rows, columns) < 1 or top + rows > height or left + columns > width:
            raise ValueError(
                f"a box is its top, left, height and width, and lies within the video's {height} x {width} pixels; "
                f"got {box}"
            )
        hidden = torch.full((1, height, width), keep)
        hidden[:, top : top + rows, left : left + columns] = not keep
        yield frame, hidden


def with_margins(frames: Iterable[Frame], margins: Box, shape: Size | None = None) -> Iterator[MaskedFrame]:
    """Frames with room around them that is to be filled in.

    Args:
        margins: rows above and below, columns to the left and to the right.
        shape: height and width whose proportions the result has: there is more room where that takes it.

    Raises:
        ValueError: a negative margin, or none at all.
    """
    if min(margins) < 0 or not any(margins):
        raise ValueError(f"margins are rows above and below, columns left and right, and not all 0; got {margins}")
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
        ValueError: frames of several sizes.
    """
    if len(sizes := sorted({tuple(frame.shape[2:]) for frame in frames})) > 1:
        raise ValueError(f"the frames of a video have one size, got {sizes[0]} and {sizes[-1]}")
    return torch.cat(frames, dim=1)


def positive(number: int) -> int:
    """
    Raises:
        ValueError: it is not.
    """
    if number < 1:
        raise ValueError(f"there must be at least one frame, got {number}")
    return number

"""Arguments of one call of `generate`, checked and converted to tensors: pixels, labels and contexts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...choices import as_list, whole_number
from ...labels import Label, label_index
from ..media.video_like import MaskLike, VideoLike, as_masks, as_videos


class Request(NamedTuple):
    """Videos to generate. Every tensor has one row for each video."""

    pixels: Float[Tensor, "b 3 T H W"]
    """In [0, 1]; only the known ones are used."""
    known: Bool[Tensor, "b T H W"]
    """True where the pixel is given."""
    labels: Int[Tensor, " b"]
    context: Float[Tensor, "b m e"] | None
    context_padding: Bool[Tensor, "b m"] | None
    task: str | None
    """Task of all windows. None: the task that fits each window."""
    generators: list[torch.Generator]
    """One per video. All windows draw the same amount of random numbers."""


class Given(NamedTuple):
    """The known pixels of the videos to generate."""

    pixels: Float[Tensor, "b 3 T H W"]
    """In [0, 1]; 0 where unknown."""
    known: Bool[Tensor, "b T H W"]
    """True where the pixel is given. These pixels are returned unchanged."""
    num_first: int
    """Number of frames at the start that were passed as `frames` to `generate`."""


class ContextRows(NamedTuple):
    """Context embeddings with a batch axis."""

    embeddings: Float[Tensor, "b m e"]
    padding: Bool[Tensor, "b m"]
    """True where there is no embedding."""


def gather(
    num_frames: int | None,
    *,
    frames: VideoLike | None = None,
    last_frames: VideoLike | None = None,
    video: VideoLike | None = None,
    mask: MaskLike | None = None,
    default_frames: int,
    default_size: tuple[int, int],
) -> Given:
    """Return the given pixels at their places in videos of the full length.

    Args:
        num_frames: length of the videos to generate. None: the length of `video`, or `default_frames`.
        default_size: height and width if no pixels are given.

    Raises:
        ValueError: if an argument has a wrong shape, type or range, or if arguments exclude each other.
    """
    if num_frames is not None:
        whole_number("num_frames", num_frames, 1)
    if video is not None:
        if frames is not None or last_frames is not None:
            raise ValueError("video cannot be combined with frames or last_frames; mark known frames in mask (False)")
        if mask is None:
            raise ValueError("video requires mask (True: hidden); to continue a video, pass it as frames")
        return _masked(num_frames, as_videos(video, "video"), as_masks(mask, "mask"))
    if mask is not None:
        raise ValueError("mask requires video")
    num_frames = default_frames if num_frames is None else num_frames
    ends = {
        name: as_videos(value, name)
        for name, value in (("frames", frames), ("last_frames", last_frames))
        if value is not None
    }
    return _between(num_frames, ends, default_size)


def _masked(num_frames: int | None, video: Float[Tensor, "b c T H W"], hidden: Bool[Tensor, "m t h w"]) -> Given:
    """Return a video without its hidden pixels."""
    length = video.shape[2]
    if num_frames not in (None, length):
        raise ValueError(f"num_frames must be None or the length of video, {length}, got {num_frames}")
    batch = common_length(video=len(video), mask=len(hidden))
    if hidden.shape[2:] != video.shape[3:] or hidden.shape[1] not in (1, length):
        raise ValueError(
            f"mask must have 1 or {length} frames of {_size(video)} pixels, as video has, "
            f"got {hidden.shape[1]} of {_size(hidden)}"
        )
    if not hidden.any():
        raise ValueError("mask must hide at least one pixel (True: hidden), got only False")
    known = ~hidden.expand(batch, length, -1, -1)
    return Given(video.expand(batch, -1, -1, -1, -1) * known[:, None], known, 0)


def _between(num_frames: int, ends: dict[str, Float[Tensor, "_ c _ _ _"]], default_size: tuple[int, int]) -> Given:
    """Return videos whose first frames, last frames, both or neither are known."""
    if len({video.shape[3:] for video in ends.values()}) > 1:
        sizes = " and ".join(_size(video) for video in ends.values())
        raise ValueError(f"frames and last_frames must have the same height and width, got {sizes}")
    lengths = {name: video.shape[2] for name, video in ends.items()}
    if sum(lengths.values()) >= num_frames:
        given = " and ".join(f"{length} in {name}" for name, length in lengths.items())
        raise ValueError(f"num_frames must be greater than the number of given frames ({given}), got {num_frames}")
    height, width = next((video.shape[3:] for video in ends.values()), default_size)
    batch = common_length(**{name: len(video) for name, video in ends.items()})
    pixels = torch.zeros(batch, 3, num_frames, height, width, dtype=torch.float32)
    known = torch.zeros(batch, num_frames, height, width, dtype=torch.bool)
    for name, video in ends.items():
        place = slice(lengths[name]) if name == "frames" else slice(num_frames - lengths[name], None)
        pixels[:, :, place] = video
        known[:, place] = True
    return Given(pixels, known, lengths.get("frames", 0))


def common_length(**lengths: int) -> int:
    """Return the common batch size of several arguments. Size 1 matches any other.

    Raises:
        ValueError: if two sizes other than 1 differ.
    """
    largest = max([1, *lengths.values()])
    for name, size in lengths.items():
        if size not in (1, largest):
            other = next(name for name, size in lengths.items() if size == largest)
            units = f"clips as {name}" if name.endswith("frames") else name.removesuffix("s") + "s"
            raise ValueError(
                f"{name} has batch size {size}, but {other} has batch size {largest}; pass 1 or {largest} {units}"
            )
    return largest


def label_indices(labels: Label | Sequence[Label], names: Sequence[str]) -> list[int]:
    """Return the index of each label, given by name or by index.

    Raises:
        ValueError: if there are no labels, or if the model does not know a label.
    """
    wanted = as_list(labels)
    if not wanted:
        raise ValueError("labels must contain at least one label, got none")
    return [label_index(label, names) for label in wanted]


def check_context(
    context: Float[Tensor, "*b m e"] | None, padding: Bool[Tensor, "*b m"] | None, dim_context: int | None
) -> ContextRows | None:
    """Return context embeddings, one sequence or a batch, with a batch axis; None without context.

    Raises:
        ValueError: if the shape or type is wrong, if there is padding but no context, or if the model takes no
            context.
    """
    if context is None:
        if padding is not None:
            raise ValueError("context_padding requires context, but context is None")
        return None
    if dim_context is None:
        raise ValueError("this model takes no context: its config has dim_context=None")
    if not isinstance(context, Tensor) or context.ndim not in (2, 3) or not context.is_floating_point():
        raise ValueError(f"context must be a floating point tensor (m, e) or (b, m, e), got {_described(context)}")
    if context.shape[-1] != dim_context or 0 in context.shape:
        raise ValueError(f"context must have embeddings of {dim_context} channels, got shape {tuple(context.shape)}")
    if padding is None:
        padding = torch.zeros(context.shape[:-1], dtype=torch.bool, device=context.device)
    if not isinstance(padding, Tensor) or padding.shape != context.shape[:-1] or padding.dtype != torch.bool:
        shape = tuple(context.shape[:-1])
        raise ValueError(f"context_padding must be a boolean tensor of shape {shape}, got {_described(padding)}")
    batch = (1,) * (3 - context.ndim)
    return ContextRows(context.reshape(*batch, *context.shape), padding.reshape(*batch, *padding.shape))


def repeat_each(rows: Tensor, num_rows: int, times: int) -> Tensor:
    """Expand a batch of size 1 or `num_rows` to `num_rows`, and repeat each row `times` times in succession."""
    return rows.expand(num_rows, *rows.shape[1:]).repeat_interleave(times, dim=0)


def _size(pixels: Tensor) -> str:
    return " x ".join(map(str, pixels.shape[-2:]))


def _described(value: object) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__

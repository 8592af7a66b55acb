"""What users hand to `generate` as pixels and masks, checked and brought into one form."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..media.video_like import MaskLike, VideoLike, as_masks, as_videos


class Given(NamedTuple):
    """All that is known of the videos to make, whatever it was given as."""

    pixels: Float[Tensor, "b 3 T H W"]
    """In [0, 1]; 0 where nothing is known."""
    known: Bool[Tensor, "b T H W"]
    """Given by the user, and returned unchanged."""
    num_first: int
    """Whole frames given at the start by `frames`."""


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
    """Everything given as one pair of pixels and what is known of them, for the whole length.

    Args:
        num_frames: of the videos to make. None: as many as `video` has, or `default_frames`.
        default_size: height and width where no pixels are given.

    Raises:
        ValueError: something of wrong shape, type or values, or that does not go with something else.
    """
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    if video is not None:
        if frames is not None or last_frames is not None:
            raise ValueError("a video with a mask says by itself which frames are known: give no frames or last_frames")
        if mask is None:
            raise ValueError("a video needs a mask that says what is hidden (True); to continue a video, give frames")
        return _masked(num_frames, as_videos(video, "video"), as_masks(mask, "mask"))
    if mask is not None:
        raise ValueError("a mask needs a video that it hides a part of")
    num_frames = default_frames if num_frames is None else num_frames
    ends = {
        name: as_videos(value, name)
        for name, value in (("frames", frames), ("last_frames", last_frames))
        if value is not None
    }
    return _between(num_frames, ends, default_size)


def _masked(num_frames: int | None, video: Float[Tensor, "b c T H W"], hidden: Bool[Tensor, "m t h w"]) -> Given:
    """Given a video and what of it is hidden."""
    length = video.shape[2]
    if num_frames not in (None, length):
        raise ValueError(f"num_frames must be that of the video, {length}, or be left out, got {num_frames}")
    batch = common_length(video=len(video), mask=len(hidden))
    if hidden.shape[2:] != video.shape[3:] or hidden.shape[1] not in (1, length):
        raise ValueError(
            f"the mask must have the video's {length} frames, or be one for all, of {_size(video)} pixels; "
            f"got {hidden.shape[1]} of {_size(hidden)}"
        )
    if not hidden.any():
        raise ValueError("the mask hides nothing (True is hidden): there is nothing to make")
    known = ~hidden.expand(batch, length, -1, -1)
    return Given(video.expand(batch, -1, -1, -1, -1) * known[:, None], known, 0)


def _between(num_frames: int, ends: dict[str, Float[Tensor, "_ c _ _ _"]], default_size: tuple[int, int]) -> Given:
    """Given the first frames, the last frames, both or neither."""
    sizes = {name: tuple(video.shape[3:]) for name, video in ends.items()}
    if len({*sizes.values()}) > 1:
        raise ValueError(
            "frames and last_frames must be of one size, got "
            + " and ".join(f"{height} x {width}" for height, width in sizes.values())
        )
    lengths = {name: video.shape[2] for name, video in ends.items()}
    if sum(lengths.values()) >= num_frames:
        given = " and ".join(f"{length} in {name}" for name, length in lengths.items())
        raise ValueError(f"num_frames must be more than the frames given, {given}; got {num_frames}")
    height, width = next(iter(sizes.values()), default_size)
    batch = common_length(**{name: len(video) for name, video in ends.items()})
    pixels = torch.zeros(batch, 3, num_frames, height, width)
    known = torch.zeros(batch, num_frames, height, width, dtype=torch.bool)
    for name, video in ends.items():
        place = slice(lengths[name]) if name == "frames" else slice(num_frames - lengths[name], None)
        pixels[:, :, place] = video
        known[:, place] = True
    return Given(pixels, known, lengths.get("frames", 0))


def common_length(**lengths: int) -> int:
    """The length of a batch that several arguments are given for: theirs, where one of length 1 goes with any.

    Raises:
        ValueError: two other lengths.
    """
    longest = max([1, *lengths.values()])
    if unequal := [name for name, length in lengths.items() if length not in (1, longest)]:
        given = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise ValueError(f"there must be one or {longest} of {unequal[0]}, as of what it goes with; got {given}")
    return longest


def _size(pixels: Tensor) -> str:
    return " x ".join(map(str, pixels.shape[-2:]))

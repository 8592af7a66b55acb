"""What users hand to `generate` as pixels and masks, checked and brought into one form."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

Pictures = Image.Image | Sequence[Image.Image] | Sequence[Sequence[Image.Image]]
VideoLike = Tensor | np.ndarray | Pictures
"""One of these, as `as_videos` takes it:

- a tensor, channels first: an image (3, H, W), a video (3, T, H, W), a batch of videos (b, 3, T, H, W);
- an array, channels last: (H, W, 3), (T, H, W, 3) or (b, T, H, W, 3);
- pictures of PIL: one, a list of the frames of one video, or a list of such lists.

Tensors and arrays hold floating point numbers in [0, 1], or bytes (uint8) in 0...255.
"""
MaskLike = Tensor | np.ndarray | Pictures
"""Booleans, True where a pixel is hidden and to be made: (H, W) for all frames, (T, H, W), or (b, T, H, W).

Pictures of PIL are masks of black (known) and white (hidden), in the same nesting as videos.
"""

CHANNELS_FIRST = {3: "c H W -> 1 c 1 H W", 4: "c T H W -> 1 c T H W", 5: "b c T H W -> b c T H W"}
CHANNELS_LAST = {3: "H W c -> 1 c 1 H W", 4: "T H W c -> 1 c T H W", 5: "b T H W c -> b c T H W"}
MASK_SHAPES = {2: "H W -> 1 1 H W", 3: "T H W -> 1 T H W", 4: "b T H W -> b T H W"}
ROUNDING = 1e-4  # so far beyond [0, 1] a pixel may lie, and is clipped


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


def as_videos(value: VideoLike, name: str) -> Float[Tensor, "b 3 T H W"]:
    """A video, image or batch of videos in any of the forms of `VideoLike`, in [0, 1], on the CPU.

    The inverse of `as_output`.

    Args:
        name: of the argument, for errors.

    Raises:
        ValueError: another shape, type or range.
    """
    pixels = as_tensor(value, name, "RGB")
    is_tensor = isinstance(value, Tensor)
    shapes = CHANNELS_FIRST if is_tensor else CHANNELS_LAST
    channel_axis = (1 if pixels.ndim == 5 else 0) if is_tensor else -1
    if pixels.ndim not in shapes or pixels.shape[channel_axis] != 3 or 0 in pixels.shape:
        allowed = ", ".join(f"({', '.join(shape.split(' -> ')[0].split())})" for shape in shapes.values())
        kind = "a tensor" if is_tensor else "an array"
        raise ValueError(f"{name}: {kind} must have 3 channels c, as {allowed}; got {tuple(pixels.shape)}")
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    elif not pixels.is_floating_point():
        raise ValueError(f"{name} must be floating point in [0, 1] or uint8 in 0...255, got {pixels.dtype}")
    low, high = (float(bound) for bound in torch.aminmax(pixels))
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # false for NaN, too
        raise ValueError(f"{name} must be in [0, 1] (bytes in 0...255 as uint8), got values from {low:g} to {high:g}")
    return rearrange(pixels.float().clamp(0, 1), shapes[pixels.ndim])


def as_masks(value: MaskLike, name: str) -> Bool[Tensor, "b T H W"]:
    """A mask in any of the forms of `MaskLike`, on the CPU; T is 1 for a mask of all frames.

    Raises:
        ValueError: another shape or type.
    """
    mask = as_tensor(value, name, "L")
    if not isinstance(value, Tensor | np.ndarray):
        mask = mask >= 128  # grey levels of a picture
    if mask.dtype != torch.bool or mask.ndim not in MASK_SHAPES:
        raise ValueError(
            f"{name} must be booleans (True is hidden) of shape (H, W), (T, H, W) or (b, T, H, W), "
            f"got {mask.dtype} of {tuple(mask.shape)}"
        )
    return rearrange(mask, MASK_SHAPES[mask.ndim])


def as_tensor(value: VideoLike, name: str, mode: str) -> Tensor:
    """A tensor, an array or pictures as a tensor on the CPU; the axes as they come.

    Args:
        mode: of PIL, to convert pictures to.

    Raises:
        ValueError: nothing of these, or an array of something else than numbers or booleans.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    array = value if isinstance(value, np.ndarray) else stack_pictures(value, name, mode)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: an array must hold numbers or booleans, got {array.dtype}")
    return torch.from_numpy(np.array(array, order="C"))


def stack_pictures(value: Pictures, name: str, mode: str) -> np.ndarray:
    """Pictures of PIL, nested or not, as one array of bytes with the nesting as its first axes.

    Raises:
        ValueError: something else than pictures, none, pictures of several sizes, or lists of several lengths.
    """
    if isinstance(value, Image.Image):
        if value.mode.startswith(("I", "F")):
            raise ValueError(f"{name}: a picture must have 8 bits a channel, got one of mode {value.mode}")
        return np.asarray(value.convert(mode))
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(
            f"{name} must be a tensor, an array, a picture of PIL, a list of pictures or a list of such lists, "
            f"got {'an empty list' if isinstance(value, Sequence) and not value else type(value).__name__}"
        )
    parts = [stack_pictures(part, name, mode) for part in value]
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"{name}: pictures must be of one size and lists of one length, got {shapes[0]} and {shapes[-1]}"
        )
    return np.stack(parts)


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

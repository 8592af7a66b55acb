"""Known regions of clips: the pixels that each task gives, the task that fits known pixels, and their codes.

In all masks of this module, True means known.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...maskgit.tasks import task_named
from ...tokenizer import VideoTokenizer

FRAMES_TO_PREDICT_FROM = (1, 5)
MIN_FRAMES = {"frame_prediction": 2, "class_frame_prediction": 2, "frame_interpolation": 3}


def known_region(
    task: str, num_frames: int, height: int, width: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "T H W"]:
    """Return the pixels that a task gives, True where known; none for class generation.

    Central, vertical and horizontal regions are centred and half as high as the frame, half as wide, or both. Dynamic
    regions move in a line between two random places (in MAGVIT always from left to right). Frame prediction gives one
    or five frames at random, or one if the clip has at most five.

    Args:
        generator: CPU generator of the random choices.

    Raises:
        ValueError: if the task is unknown, or if the clip is too small to leave unknown pixels.
    """
    least = MIN_FRAMES.get(task_named(task).name, 1)
    if num_frames < least or min(height, width) < 2:
        raise ValueError(
            f"{task} needs at least {least} frame(s) of 2 x 2 pixels, got {num_frames} of {height} x {width}"
        )
    known = torch.zeros(num_frames, height, width, dtype=torch.bool)
    rows, columns = (slice((size - size // 2) // 2, (size - size // 2) // 2 + size // 2) for size in (height, width))
    match task:
        case "frame_prediction" | "class_frame_prediction":
            drawn = int(torch.randint(len(FRAMES_TO_PREDICT_FROM), (), generator=generator))
            num_given = FRAMES_TO_PREDICT_FROM[drawn]
            known[: num_given if num_given < num_frames else 1] = True
        case "frame_interpolation":
            known[[0, -1]] = True
        case "central_outpainting":
            known[:, rows, columns] = True
        case "vertical_outpainting":
            known[:, :, columns] = True
        case "horizontal_outpainting":
            known[:, rows] = True
        case "central_inpainting":
            known[:, rows, columns] = True
            known = ~known
        case "dynamic_outpainting":
            known = moving_box((num_frames, height, width), (height, width // 2), generator)
        case "dynamic_inpainting":
            known = ~moving_box((num_frames, height, width), (height // 2, width // 2), generator)
    return known


def moving_box(
    clip: tuple[int, int, int], box: tuple[int, int], generator: torch.Generator | None = None
) -> Bool[Tensor, "T H W"]:
    """Return True inside a box that moves in a line between two places, each drawn uniformly within the frame."""
    num_frames, *frame = clip
    inside = []
    for size, length in zip(frame, box, strict=True):
        first, last = torch.randint(size - length + 1, (2,), generator=generator).tolist()
        start = torch.linspace(first, last, num_frames, dtype=torch.float32).round()[:, None]
        places = torch.arange(size)
        inside.append((places >= start) & (places < start + length))
    return inside[0][:, :, None] & inside[1][:, None, :]


def fitting_task(known: Bool[Tensor, "T H W"], *, has_label: bool) -> str | None:
    """Return the name of the task (`maskgit.tasks.TASKS`) that fits the known pixels of a clip, or None.

    With a label, only tasks that use labels fit; without one, only tasks that do not.

    - No known pixels: class generation with a label, None without.
    - Only whole frames are known: frame prediction if they are the leading frames, otherwise interpolation.
    - No hidden pixel is at an edge of the frame: inpainting; central if the hidden region stays in place and contains
      the middle, otherwise dynamic.
    - Otherwise outpainting: vertical, horizontal or central by the shape of the known region; dynamic if the region
      moves, or if it is a band of columns that does not contain the middle.

    Frames whose pixels are all known, such as those of earlier windows, are ignored for the shape of a region.
    """
    is_whole = known.flatten(1).all(dim=1)
    if not known.any():
        return "class_generation" if has_label else None
    if not known[~is_whole].any():
        num_leading = int(is_whole.cummin(dim=0).values.sum())
        if num_leading < int(is_whole.sum()):
            return None if has_label else "frame_interpolation"
        return "class_frame_prediction" if has_label else "frame_prediction"
    return None if has_label else _region_task(known[~is_whole])


def _region_task(known: Bool[Tensor, "T H W"]) -> str:
    hidden = ~known
    is_static = bool((known == known[:1]).all())
    is_enclosed = not (hidden[:, [0, -1]].any() or hidden[:, :, [0, -1]].any())
    if is_enclosed:
        return "central_inpainting" if is_static and _contains_middle(hidden[0]) else "dynamic_inpainting"
    if not is_static:
        return "dynamic_outpainting"
    if bool((known == known[:, :1]).all()):  # whole columns
        return "vertical_outpainting" if _contains_middle(known[0]) else "dynamic_outpainting"
    if bool((known == known[:, :, :1]).all()):  # whole rows
        return "horizontal_outpainting"
    return "central_outpainting"


def _contains_middle(region: Bool[Tensor, "H W"]) -> bool:
    """Return whether the bounding box of a region contains the middle of the frame."""
    return all(
        int(places[0]) < size / 2 <= int(places[-1]) + 1
        for places, size in zip(torch.nonzero(region).T.sort(dim=1).values, region.shape, strict=True)
    )


class ConditionCodes(NamedTuple):
    """The codes of a condition clip."""

    codes: Int[Tensor, "b t h w"]
    """`codebook_size`, which is the transformer's `mask_id`, in cells without known pixels."""
    is_exact: Bool[Tensor, "b t h w"]
    """True where the code does not depend on unknown pixels."""


@torch.no_grad()
def encode_condition(
    tokenizer: VideoTokenizer, video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]
) -> ConditionCodes:
    """Encode the known pixels of a clip, on the tokenizer's device.

    Args:
        video: in [-1, 1]; its unknown pixels are ignored.

    Raises:
        ValueError: if pixels are out of range, or if the shape does not fit the tokenizer.
    """
    codes = tokenizer.encode(fill_unknown(video, known).to(next(tokenizer.parameters())))
    known = known.to(codes.device)
    strides = (tokenizer.temporal_stride, *tokenizer.spatial_stride)
    has_known = pixels_of_cells(known, strides, padding=False).any(dim=-1)
    # A latent frame depends on all frames up to its own: its codes are exact if all of these are known.
    is_known = pixels_of_cells(known, strides, padding=True).all(dim=-1)
    is_exact = reduce(is_known, "b t h w -> b t 1 1", "min").cummin(dim=1).values.expand_as(is_known)
    return ConditionCodes(codes.masked_fill(~has_known, tokenizer.codebook_size), is_exact)


def pixels_of_cells(
    pixels: Bool[Tensor, "b T H W"], strides: tuple[int, int, int], *, padding: bool
) -> Bool[Tensor, "b t h w pixels"]:
    """Return the pixels of each code of the grid. The first frame, a separate latent frame, is repeated.

    Args:
        padding: value of pixels outside the clip, in the last cells.
    """
    s, p, q = strides
    pixels = torch.cat([pixels[:, :1].expand(-1, s - 1, -1, -1), pixels], dim=1)
    missing = (-size % stride for size, stride in zip(pixels.shape[1:], strides, strict=True))
    frames, rows, columns = missing
    pixels = F.pad(pixels, (0, columns, 0, rows, 0, frames), value=padding)
    return rearrange(pixels, "b (t s) (h p) (w q) -> b t h w (s p q)", s=s, p=p, q=q)


def fill_unknown(video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Return the condition clip: known pixels unchanged, unknown ones filled from them.

    A pixel that is known in other frames is interpolated between the nearest of them before and after, or copied if
    only one side has one. Other pixels are filled in space from the same frame, mostly from the nearest pixels. A clip
    without known pixels becomes 0. The values of unknown pixels are ignored.
    """
    filled = fill_in_time(video, known)
    is_filled = known.any(dim=1)
    frames = rearrange(filled, "b c T H W -> b (c T) H W")
    return rearrange(spread(frames, is_filled[:, None]), "b (c T) H W -> b c T H W", T=video.shape[2])


def fill_in_time(video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Interpolate each pixel between the frames in which it is known; 0 if it is known in none."""
    shown = video.masked_fill(~known[:, None], 0)
    if torch.equal(known, known[:, :1].expand_as(known)):
        return shown  # every pixel is known in all frames or in none
    times = torch.arange(1, video.shape[2] + 1, device=video.device, dtype=torch.float32)[:, None, None]
    before, time_before = carry(shown, known), carry((times * known)[:, None], known)
    after, time_after = (carry(values.flip(2), known.flip(1)).flip(2) for values in (shown, (times * known)[:, None]))
    # A time of 0 means that there is no such frame, so the other side is copied.
    has_before, has_after = time_before > 0, time_after > 0
    share = (times - time_before) / (time_after - time_before).clamp(min=1)
    share = torch.where(has_before, share * has_after, 1)
    return torch.lerp(before, after, share.to(video.dtype))


def carry(video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Return each pixel with its value in the last frame in which it was known; unchanged before the first."""
    frames = list(video.unbind(dim=2))
    for time in range(1, len(frames)):
        frames[time] = torch.where(known[:, None, time], frames[time], frames[time - 1])
    return torch.stack(frames, dim=2)


def spread(image: Float[Tensor, "b c H W"], known: Bool[Tensor, "b 1 H W"]) -> Float[Tensor, "b c H W"]:
    """Fill unknown pixels, which are 0, from the image at half the size, which is filled recursively."""
    if known.all() or image.shape[2:] == (1, 1):
        return image
    share_known = F.avg_pool2d(known.to(image.dtype), 2, ceil_mode=True)
    mean_of_known = F.avg_pool2d(image, 2, ceil_mode=True) / share_known.masked_fill(share_known == 0, 1)
    smaller = spread(mean_of_known, share_known > 0)
    larger = F.interpolate(smaller, image.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(known, image, larger)

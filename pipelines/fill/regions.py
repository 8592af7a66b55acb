"""What a task gives of a clip: the known pixels, the clip they make up, and its codes. True is known here."""

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


class ConditionCodes(NamedTuple):
    """The codes of a condition clip, as far as they tell anything."""

    codes: Int[Tensor, "b t h w"]
    """The tokenizer's `codebook_size`, which is the transformer's `mask_id`, in cells without a known pixel."""
    is_exact: Bool[Tensor, "b t h w"]
    """Where the code is that of the whole clip, whatever the unknown pixels are."""


def known_region(
    task: str, num_frames: int, height: int, width: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "T H W"]:
    """The pixels that a task gives; none for plain generation.

    Central, vertical and horizontal regions are half as high or wide as the frame, or both, in its middle. A dynamic
    one moves in a line from one drawn place to another. What is predicted from are one or five frames, by lot, and
    one where there are no more than five in all (MAGVIT; the moving regions there always go from left to right).

    Args:
        generator: on the CPU, draws what is drawn.

    Raises:
        ValueError: an unknown task, or a clip too small to leave something unknown.
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
    """True inside a box that moves in a line between two places drawn evenly from those inside the frame."""
    num_frames, *frame = clip
    inside = []
    for size, length in zip(frame, box, strict=True):
        first, last = torch.randint(size - length + 1, (2,), generator=generator).tolist()
        start = torch.linspace(first, last, num_frames).round()[:, None]
        places = torch.arange(size)
        inside.append((places >= start) & (places < start + length))
    return inside[0][:, :, None] & inside[1][:, None, :]


def fill_unknown(video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """The condition clip: known pixels as they are, every other one filled from them.

    Where a pixel is known in other frames, it is interpolated between the nearest one before and the nearest one
    after, or is the nearest of all. Else it is spread in space from the pixels of its frame, the nearer ones the more.
    A clip without any known pixel becomes 0. What the unknown pixels hold plays no part.
    """
    filled = fill_in_time(video, known)
    is_filled = known.any(dim=1)
    frames = rearrange(filled, "b c T H W -> b (c T) H W")
    return rearrange(spread(frames, is_filled[:, None]), "b (c T) H W -> b c T H W", T=video.shape[2])


def fill_in_time(video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Each pixel's values between the frames in which it is known; 0 where it is known in none."""
    shown = video.masked_fill(~known[:, None], 0)
    if torch.equal(known, known[:, :1].expand_as(known)):
        return shown  # no pixel is known in some frames only
    times = torch.arange(1, video.shape[2] + 1, device=video.device, dtype=torch.float32)[:, None, None]
    before, time_before = carry(shown, known), carry((times * known)[:, None], known)
    after, time_after = (carry(values.flip(2), known.flip(1)).flip(2) for values in (shown, (times * known)[:, None]))
    # A time of 0 stands for no frame: there the other end is all that there is.
    has_before, has_after = time_before > 0, time_after > 0
    share = (times - time_before) / (time_after - time_before).clamp(min=1)
    share = torch.where(has_before, share * has_after, 1)
    return torch.lerp(before, after, share.to(video.dtype))


def carry(video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Each pixel as in the last frame in which it was known; as it is before the first."""
    frames = list(video.unbind(dim=2))
    for time in range(1, len(frames)):
        frames[time] = torch.where(known[:, None, time], frames[time], frames[time - 1])
    return torch.stack(frames, dim=2)


def spread(image: Float[Tensor, "b c H W"], known: Bool[Tensor, "b 1 H W"]) -> Float[Tensor, "b c H W"]:
    """Fill unknown pixels, which hold 0, from an image of half the size, made of the known ones and filled alike."""
    if known.all() or image.shape[2:] == (1, 1):
        return image
    share_known = F.avg_pool2d(known.to(image.dtype), 2, ceil_mode=True)
    mean_of_known = F.avg_pool2d(image, 2, ceil_mode=True) / share_known.masked_fill(share_known == 0, 1)
    smaller = spread(mean_of_known, share_known > 0)
    larger = F.interpolate(smaller, image.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(known, image, larger)


@torch.no_grad()
def encode_condition(
    tokenizer: VideoTokenizer, video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]
) -> ConditionCodes:
    """The codes of what is known of a clip, on the tokenizer's device.

    Args:
        video: in [-1, 1]; what its unknown pixels hold plays no part.

    Raises:
        ValueError: pixels out of range, or a video of another shape than the tokenizer's.
    """
    codes = tokenizer.encode(fill_unknown(video, known).to(next(tokenizer.parameters())))
    known = known.to(codes.device)
    strides = (tokenizer.temporal_stride, *tokenizer.spatial_stride)
    has_known = pixels_of_cells(known, strides, padding=False).any(dim=-1)
    # Latent frames come before those that depend on them: a code is certain where all up to its own are known.
    is_known = pixels_of_cells(known, strides, padding=True).all(dim=-1)
    is_exact = reduce(is_known, "b t h w -> b t 1 1", "min").cummin(dim=1).values.expand_as(is_known)
    return ConditionCodes(codes.masked_fill(~has_known, tokenizer.codebook_size), is_exact)


def pixels_of_cells(
    pixels: Bool[Tensor, "b T H W"], strides: tuple[int, int, int], *, padding: bool
) -> Bool[Tensor, "b t h w pixels"]:
    """What each code of the grid stands for; the first frame, which has a latent frame of its own, several times.

    Args:
        padding: the value of pixels beyond the clip, which fill up its last cells.
    """
    s, p, q = strides
    pixels = torch.cat([pixels[:, :1].expand(-1, s - 1, -1, -1), pixels], dim=1)
    missing = (-size % stride for size, stride in zip(pixels.shape[1:], strides, strict=True))
    frames, rows, columns = missing
    pixels = F.pad(pixels, (0, columns, 0, rows, 0, frames), value=padding)
    return rearrange(pixels, "b (t s) (h p) (w q) -> b t h w (s p q)", s=s, p=p, q=q)


def fitting_task(known: Bool[Tensor, "T H W"], *, has_label: bool) -> str | None:
    """The name of the task (`maskgit.tasks.TASKS`) that fits what is known of a clip; None where none does.

    What the name promises has to fit as well: with a label only the tasks that are told one.

    - Nothing is known: generation by class, or without a label no task.
    - Leading frames alone are: frame prediction. Other whole frames: interpolation.
    - The hidden pixels keep off the edges of the frame: inpainting, central where they stay where they are around the
      middle, else dynamic.
    - They do not: outpainting. Vertical, horizontal or central after the shape of what is known, which stays where it
      is; dynamic where it moves, or is a band of columns off the middle.

    Frames that are known whole, such as those which a window continues, say nothing about the shape of a region.
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
    stays = bool((known == known[:1]).all())
    is_enclosed = not (hidden[:, [0, -1]].any() or hidden[:, :, [0, -1]].any())
    if is_enclosed:
        return "central_inpainting" if stays and _holds_middle(hidden[0]) else "dynamic_inpainting"
    if not stays:
        return "dynamic_outpainting"
    if bool((known == known[:, :1]).all()):  # whole columns
        return "vertical_outpainting" if _holds_middle(known[0]) else "dynamic_outpainting"
    if bool((known == known[:, :, :1]).all()):  # whole rows
        return "horizontal_outpainting"
    return "central_outpainting"


def _holds_middle(region: Bool[Tensor, "H W"]) -> bool:
    """Whether the box around a region holds the middle of the frame."""
    return all(
        int(places[0]) < size / 2 <= int(places[-1]) + 1
        for places, size in zip(torch.nonzero(region).T.sort(dim=1).values, region.shape, strict=True)
    )

"""Which of the tasks that a transformer was trained on fits what is known of a clip."""

import torch
from jaxtyping import Bool
from torch import Tensor


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

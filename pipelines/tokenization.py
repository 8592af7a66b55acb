"""Tokenization of whole videos: video to codes to video, clip by clip."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from ..tokenizer import VideoTokenizer
from ..tokenizer.pixels import to_model_range, to_unit_range


def fit(video: Float[Tensor, "3 T H W"], height: int, width: int) -> Float[Tensor, "3 T h w"]:
    """Crop the middle to the shape of `height` x `width` and resize it to that, by area averaging when smaller."""
    rows, columns = video.shape[2:]
    scale = min(rows / height, columns / width)
    crop_rows, crop_columns = round(height * scale), round(width * scale)
    top, left = (rows - crop_rows) // 2, (columns - crop_columns) // 2
    cropped = video[:, :, top : top + crop_rows, left : left + crop_columns]
    if (crop_rows, crop_columns) == (height, width):
        return cropped
    frames = cropped.transpose(0, 1)
    smaller = scale >= 1
    resized = F.interpolate(frames, (height, width), mode="area" if smaller else "bilinear", antialias=not smaller)
    return resized.transpose(0, 1)


@torch.inference_mode()
def reconstruct(
    tokenizer: VideoTokenizer, video: Float[Tensor, "3 T H W"], *, clip_frames: int, progress: bool = True
) -> Float[Tensor, "3 T H W"]:
    """A video in [0, 1] through codes and back, in clips of `clip_frames` frames, each by itself."""
    parameter = next(tokenizer.parameters())
    clips = []
    for clip in tqdm(video.split(clip_frames, dim=1), desc="Reconstructing", unit="clip", disable=not progress):
        pixels = to_model_range(clip[None]).to(parameter)
        clips.append(to_unit_range(tokenizer(pixels).float())[0].cpu())
    return torch.cat(clips, dim=1)

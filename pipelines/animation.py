"""Animation of the decoding passes."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from .fill.record import DecodingRecord

GREY = 0.5
MAX_FRAMES = 9  # frames in the row of a video
GAP = 1  # pixels between frames


def filling_in(videos: Float[Tensor, "b 3 T H W"], record: DecodingRecord) -> Float[Tensor, "b 3 passes H width"]:
    """Return each video as a row of frames, before the first pass and after each pass.

    Cells of codes that are not settled are grey, except for given pixels. A code that is revised stays grey until its
    last revision. A row has the last frame of each latent frame, or `MAX_FRAMES` evenly spaced ones.
    """
    num_frames, height, width = videos.shape[2:]
    latent_frames = torch.arange(record.settled_after.shape[1])
    if len(latent_frames) > MAX_FRAMES:
        latent_frames = torch.linspace(0, len(latent_frames) - 1, MAX_FRAMES).round().long()
    frames = (record.first_frame + latent_frames * record.cell[0]).clamp(max=num_frames - 1)

    _, rows, columns = record.cell
    settled_after = repeat(record.settled_after[:, latent_frames], "b t h w -> b t (h p) (w q)", p=rows, q=columns)
    settled_after = settled_after[..., :height, :width].masked_fill(record.given[:, frames], 0)
    passes = torch.arange(int(record.settled_after.max()) + 1)
    is_hidden = rearrange(settled_after, "b t H W -> b t 1 H W") > rearrange(passes, "passes -> passes 1 1")
    strips = torch.where(is_hidden[:, None], GREY, videos[:, :, frames, None])

    gaps = torch.ones(*strips.shape[:-1], GAP)
    return rearrange(torch.cat([strips, gaps], dim=-1), "b c t passes H W -> b c passes H (t W)")[..., :-GAP]

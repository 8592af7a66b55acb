"""The windows in which a video longer than the trained one is made, each continuing the one before."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...tokenizer import VideoTokenizer
from ...tokenizer.pixels import to_model_range, to_unit_range


class Window(NamedTuple):
    """A clip that is decoded at once: frames `start` to `stop` (not counted) of the whole video.

    All windows lie on one grid of latent frames, since their starts are whole strides apart: the codes of a long video
    are those of its first window, then the new ones of each further window.
    """

    start: int
    stop: int
    place: int
    """Of its first latent frame in the grid of codes of the whole video."""
    num_old: int
    """Latent frames at its start that stand for what windows before it have made."""


WriteCodes = Callable[[Window, Float[Tensor, "b 3 T H W"], Bool[Tensor, "b T H W"]], Int[Tensor, "b t h w"]]
"""The codes of a window, from its pixels in [-1, 1] and what is known of them."""


def plan_windows(num_frames: int, *, num_first: int, window_frames: int, overlap: int, stride: int) -> list[Window]:
    """The windows that cover a video, up to its last frame.

    A video no longer than a window is one window. In a longer one a window takes up the last `overlap` frames before
    it, and as many more as fill latent frames: 1 + a multiple of `stride`, and at most what leaves one latent frame
    to be made. The last window takes up more, so that it is as long as the others.

    Given first frames, windows start where these end with a whole latent frame, unless they are too few to fill one
    beside the first: of 7 frames at stride 4 the first 2 are not coded, and where the window would not hold them all,
    only the last ones are.

    Args:
        num_first: whole frames given at the start.
        window_frames: of the clips trained on.
        overlap: at least so many frames before it each window sees, where there is room.
        stride: frames of a latent frame; the first latent frame of a window is one frame.

    Raises:
        ValueError: windows of one latent frame, which cannot continue anything, for a longer video.
    """
    uncoded = (num_first - 1) % stride if num_first > stride else 0
    if num_frames - uncoded <= window_frames:
        return [Window(uncoded, num_frames, place=0, num_old=0)]
    latent_frames = 1 + (window_frames - 1) // stride
    if latent_frames < 2:
        raise ValueError(
            f"num_frames must be at most {window_frames}, got {num_frames}: clips of one latent frame, which this "
            "model was trained on, cannot be continued"
        )
    length = 1 + (latent_frames - 1) * stride
    shared = 1 + min(-(-(overlap - 1) // stride), latent_frames - 2) * stride

    windows: list[Window] = []
    start = max(uncoded, num_first - shared)
    while not windows or windows[-1].stop < num_frames:
        surplus = max(0, start + length - num_frames) // stride * stride
        start = max(uncoded, start - surplus)
        place = (start - windows[0].start) // stride if windows else 0
        num_old = 1 + (windows[-1].stop - 1 - start) // stride if windows else 0
        windows.append(Window(start, min(start + length, num_frames), place, num_old))
        start = windows[-1].stop - shared
    return windows


class Drawing(NamedTuple):
    """Videos as they come from the tokenizer, from the first window's start."""

    videos: Float[Tensor, "b 3 T H W"]
    """In [0, 1], on the CPU."""
    codes: Int[Tensor, "b t h w"]
    """On the CPU: of each window those of the latent frames that it has made."""


def draw_windows(
    tokenizer: VideoTokenizer,
    windows: Sequence[Window],
    pixels: Float[Tensor, "b 3 T H W"],
    known: Bool[Tensor, "b T H W"],
    write: WriteCodes,
) -> Drawing:
    """Make windows one after the other: what one has made is known to the next.

    The last frames made are tokenized again as a clip of their own, since a window begins with a latent frame of one
    frame; and a window is decoded as a clip of its own, which is what the tokenizer was trained for. Of its frames
    only those are taken that no window before it has made, so that no frame is tokenized twice to be seen.

    Args:
        pixels: in [0, 1]; what is not known of them plays no part.
        known: given from the start.
    """
    pixels, is_known = pixels.clone(), known.clone()
    videos, codes = [], []
    made = windows[0].start
    for window in windows:
        clip, new = slice(window.start, window.stop), slice(made, window.stop)
        of_window = write(window, to_model_range(pixels[:, :, clip]), is_known[:, clip])
        drawn = tokenizer.decode(of_window, window.stop - window.start, *pixels.shape[3:])
        videos.append(to_unit_range(drawn.float()).cpu()[:, :, made - window.start :])
        codes.append(of_window[:, window.num_old :].cpu())
        pixels[:, :, new] = torch.where(known[:, None, new], pixels[:, :, new], videos[-1])
        is_known[:, new] = True
        made = window.stop
    return Drawing(torch.cat(videos, dim=2), torch.cat(codes, dim=1))

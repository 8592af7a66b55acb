"""Generation of the codes of a window from its known pixels."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...maskgit import MaskGit, iterative_decode
from ...maskgit.tasks import TASKS
from ...tokenizer import VideoTokenizer
from .prediction import Conditions, guided_prediction
from .record import PassRecorder
from .regions import encode_condition, fitting_task, pixels_of_cells
from .request import Request
from .settings import DecodingSettings
from .windows import Window


class CodeWriter:
    """Generates the codes of one window after another; the `WriteCodes` of `draw_windows`."""

    def __init__(
        self,
        tokenizer: VideoTokenizer,
        maskgit: MaskGit,
        request: Request,
        settings: DecodingSettings,
        grid: tuple[int, int, int],
        after_pass: Callable[[int, Int[Tensor, "b t h w"]], None],
    ) -> None:
        """Args:
        grid: size (t, h, w) of the code grid of a whole video.
        after_pass: called after each pass with the number of passes of all windows so far and the codes of the whole
            videos.
        """
        self.tokenizer, self.maskgit = tokenizer, maskgit
        self.request, self.settings = request, settings
        self.after_pass = after_pass
        hidden = torch.full((len(request.labels), *grid), maskgit.config.mask_id, device=request.labels.device)
        self.recorder = PassRecorder(hidden)
        self.num_windows = 0

    def __call__(
        self, window: Window, pixels: Float[Tensor, "b 3 T H W"], known: Bool[Tensor, "b T H W"]
    ) -> Int[Tensor, "b t h w"]:
        """Return the codes of the next window.

        Args:
            pixels: in [-1, 1].
            known: True where pixels are given or generated before.
        """
        request, settings, config = self.request, self.settings, self.maskgit.config
        tasks = task_indices(self.maskgit, known, request.labels, request.task)
        start = starting_codes(self.tokenizer, pixels, known, is_refined(self.maskgit, tasks))
        conditions = Conditions(request.labels, tasks, request.context, request.context_padding)
        place, num_before = window.place + window.num_old, self.num_windows * settings.num_steps

        def after_pass(step: int, codes: Int[Tensor, "b t h w"]) -> None:
            num_passes = num_before + step + 1
            self.after_pass(num_passes, self.recorder.record(place, codes[:, window.num_old :], num_passes))

        self.recorder.record(place, start.given[:, window.num_old :], 0)
        self.num_windows += 1
        return iterative_decode(
            guided_prediction(self.maskgit, conditions, settings.guidance_at),
            start.given,
            condition_codes=start.condition,
            mask_id=config.mask_id,
            group_bits=config.group_bits,
            generators=request.generators,
            num_steps=settings.num_steps,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            order=settings.make_order(self.maskgit, conditions),
            schedule=settings.mask_schedule,
            callback=after_pass,
        )


class StartingCodes(NamedTuple):
    """Start of the decoding of a window; `mask_id` where there is no code."""

    given: Int[Tensor, "b t h w"]
    """Codes that do not change."""
    condition: Int[Tensor, "b t h w"]
    """Approximate codes, shown to the transformer in place of hidden codes."""


def starting_codes(
    tokenizer: VideoTokenizer,
    pixels: Float[Tensor, "b 3 T H W"],
    known: Bool[Tensor, "b T H W"],
    refines: Bool[Tensor, " b"],
) -> StartingCodes:
    """Encode the known pixels of a clip and choose how each code is used.

    Codes of leading frames that are known whole are exact and do not change. Other codes depend on pixels that were
    filled in. If the transformer was trained to refine such codes, they are its condition codes. If not, codes of cells
    that are known whole in their first frame do not change, and all others are hidden. (A still continuation of the
    first frame is a better prediction than that of a transformer that does not see this frame.)

    Args:
        pixels: in [-1, 1].
        refines: True for samples whose task trained the transformer to refine condition codes.
    """
    codes, is_exact = encode_condition(tokenizer, pixels, known)
    first_frames = torch.arange(codes.shape[1]) * tokenizer.temporal_stride - (tokenizer.temporal_stride - 1)
    begins = known[:, first_frames.clamp(min=0)].to(codes.device)
    is_begun = pixels_of_cells(begins, (1, *tokenizer.spatial_stride), padding=True).all(dim=-1)
    refines = refines.to(codes.device)[:, None, None, None]
    stays = is_exact | is_begun & ~refines
    nothing = tokenizer.codebook_size
    return StartingCodes(codes.masked_fill(~stays, nothing), codes.masked_fill(stays | ~refines, nothing))


def task_indices(
    maskgit: MaskGit, known: Bool[Tensor, "b T H W"], labels: Int[Tensor, " b"], task: str | None
) -> Int[Tensor, " b"]:
    """Return the task of each sample as an index into the config's `tasks`; the null task if no task fits.

    Args:
        task: name of the task of all samples, one of the config's `tasks`. None: the task that fits the known pixels.
    """
    names, null_task = maskgit.config.tasks, maskgit.config.null_task
    if task is not None:
        return torch.full_like(labels, names.index(task))
    fitting = [
        fitting_task(region, has_label=label != maskgit.config.null_label)
        for region, label in zip(known, labels.tolist(), strict=True)
    ]
    indices = [names.index(name) if name in names else null_task for name in fitting]
    return torch.tensor(indices, device=labels.device)


def is_refined(maskgit: MaskGit, tasks: Int[Tensor, " b"]) -> Bool[Tensor, " b"]:
    """Return True for samples whose task trained the transformer to refine the codes of known pixels."""
    has_region = [*(TASKS[name].has_region for name in maskgit.config.tasks), False]
    return torch.tensor(has_region, device=tasks.device)[tasks]

"""Training objective of stage two: the masked transformer and its losses as one module."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .checks import check_integers
from .factorization import split_codes
from .losses import Losses, are_right, criticisms, cross_entropies, masked_means
from .masking import MaskSchedule, cosine_schedule, training_mask
from .model import MaskGit
from .sampling import DRAW_BITS, sample_codes
from .sub_code_heads import logits_given
from .tasks import labels_seen

JUDGED_ONE_IN = 4  # the critic is trained on every fourth sample


class PositionLosses(NamedTuple):
    """Losses of a `MaskGit` at each position; see `MaskGitObjective.position_losses`."""

    values: dict[str, Float[Tensor, "_ n"]]
    """`masked_code`, `refined_code` and `reconstructed_code`: the same cross-entropies. `accuracy`: 1 or 0. With a
    trial also `critic`, for its rows."""
    masks: dict[str, Bool[Tensor, "_ n"]]
    """The positions to which each of them applies."""


class MaskGitObjective(nn.Module):
    """Computes the unweighted losses of a `MaskGit`, by name.

    The losses are computed in the `forward` of one module, since data-parallel training synchronizes gradients only for
    the `forward` of the module that is prepared. Processes with equal generators get the same result as one process
    with the global batch: each uses its rows of the masks, and the losses are means over all positions.
    """

    def __init__(
        self,
        maskgit: MaskGit,
        *,
        label_smoothing: float = 1e-4,
        label_dropout: float = 0.1,
        condition_dropout: float = 0.1,
        context_dropout: float = 0.1,
        schedule: MaskSchedule = cosine_schedule,
    ) -> None:
        """Args:
        label_smoothing: share of each target that is distributed over all classes.
        label_dropout: probability of the null label, for classifier-free guidance. All dropout probabilities are 0 in
            evaluation mode.
        condition_dropout: probability of plain generation: the null task, and no condition codes. Labels stay hidden
            if the task does not use them, so that unconditional generation is trained, too.
        context_dropout: probability of no context.
        schedule: mask ratio as a function of a random progress.

        Raises:
            ValueError: if `label_smoothing` or a probability is outside [0, 1].
        """
        super().__init__()
        self.maskgit = maskgit
        self.label_smoothing = label_smoothing
        self.label_dropout = label_dropout
        self.condition_dropout = condition_dropout
        self.context_dropout = context_dropout
        self.schedule = schedule
        self.code_losses = code_losses  # a function of the model, so that a copy of this module calls its own
        for name in ("label_smoothing", "label_dropout", "condition_dropout", "context_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model and the losses of each code as one graph.

        Checks, random numbers and the exchange between processes stay outside.

        Args:
            args, kwargs: arguments of `torch.compile`.
        """
        self.code_losses = torch.compile(code_losses, *args, **kwargs)

    def forward(
        self,
        codes: Int[Tensor, "b t h w"],
        labels: Int[Tensor, " b"],
        generator: torch.Generator | None = None,
        *,
        tasks: Int[Tensor, " b"] | None = None,
        condition_codes: Int[Tensor, "b t h w"] | None = None,
        context: Float[Tensor, "b m e"] | None = None,
        context_padding: Bool[Tensor, "b m"] | None = None,
    ) -> Losses:
        """Return the losses that `MaskGitLossWeights` weights, and `accuracy`.

        Hidden codes are replaced by the codes of the condition clip where there are some (COMMIT in MAGVIT), otherwise
        by `mask_id`. The cross-entropy is averaged separately over three kinds of positions: `masked_code` (hidden),
        `refined_code` (replaced by condition codes) and `reconstructed_code` (visible). `accuracy`, without gradient,
        is the share of `masked_code` positions whose most likely sub-codes are all correct.

        If the config has a critic, hidden codes are sampled from the predictions, and `critic` is the binary
        cross-entropy of its logits on the complete grids. The gradient reaches the shared layers through this second
        pass, but not through the sampled codes: it trains the layers to detect codes that do not fit. The second pass
        uses one of four samples, so a step takes 25 % longer instead of twice as long.

        Args:
            codes: in [0, codebook_size), without masks. Masks are drawn here.
            labels: label of each clip, or the null label. Replaced by the null label for tasks that do not use labels.
            generator: on the CPU, for masks and dropped conditions. It must be equal in all processes. (The model's
                dropout uses torch's global generator.)
            tasks: indices into the config's `tasks`; by default the null task, which is plain generation.
            condition_codes: codes of the condition clip, `mask_id` where there are none; by default there are none.
            context, context_padding: as in `MaskGit.forward`.

        Raises:
            ValueError: if codes, labels or tasks are not integers, or if shapes do not match; on the CPU also if values
                are out of range. On another device this is not checked, since reading them waits for the device.
        """
        config = self.maskgit.config
        check_range = codes.device.type == "cpu"
        check_integers("codes", codes, config.codebook_size - 1, check_range=check_range)
        check_integers("labels", labels, config.null_label, check_range=check_range)
        if condition_codes is None:
            condition_codes = torch.full_like(codes, config.mask_id)
        elif condition_codes.shape != codes.shape:
            raise ValueError(
                f"condition_codes must have the shape of codes, {tuple(codes.shape)}, "
                f"got {tuple(condition_codes.shape)}"
            )
        check_integers("condition_codes", condition_codes, config.mask_id, check_range=check_range)
        if tasks is not None:
            check_integers("tasks", tasks, config.null_task, check_range=check_range)
            labels = labels_seen(labels, tasks, config.tasks, config.null_label)

        chance = Chance(len(codes), generator)
        num_codes = codes[0].numel()
        mask = chance.mask(num_codes, self.schedule)
        probabilities = (self.label_dropout, self.condition_dropout, self.context_dropout)
        dropped = torch.stack([self._dropped(chance, probability) for probability in probabilities], dim=1)
        draws = chance.draws(num_codes, len(config.vocab_sizes)).flatten(1) if config.critic else mask[:, :0]
        is_hidden, dropped, draws = copied_together((mask, dropped, draws), codes.device)
        is_without_label, is_plain, is_without_context = dropped.unbind(dim=1)
        labels = labels.masked_fill(is_without_label, config.null_label)
        condition_codes = condition_codes.masked_fill(is_plain[:, None, None, None], config.mask_id)
        tasks = None if tasks is None else tasks.masked_fill(is_plain, config.null_task)
        if context is not None:
            padding = context.new_zeros(context.shape[:2], dtype=torch.bool)
            context_padding = (padding if context_padding is None else context_padding) | is_without_context[:, None]

        given = {"tasks": tasks, "context": context, "context_padding": context_padding}
        trial = None
        if config.critic:
            trial = Trial(is_hidden, draws.view(*is_hidden.shape, -1), *chance.one_in(JUDGED_ONE_IN))
        return masked_means(*self.position_losses(codes, labels, is_hidden, condition_codes, trial, **given))

    def position_losses(
        self,
        codes: Int[Tensor, "b t h w"],
        labels: Int[Tensor, " b"],
        is_hidden: Bool[Tensor, "b n"],
        condition_codes: Int[Tensor, "b t h w"],
        trial: "Trial | None" = None,
        **given: Tensor | None,
    ) -> PositionLosses:
        """Return the losses at each position for given masks. Conditions are not dropped.

        Args:
            is_hidden: True at hidden codes.
            trial: of the critic.
            given: `tasks`, `context` and `context_padding`; all arguments are as in `forward`.
        """
        config = self.maskgit.config
        condition = rearrange(condition_codes, "b t h w -> b (t h w)")
        real = rearrange(codes, "b t h w -> b (t h w)")
        shown = torch.where(is_hidden, condition, real).view_as(codes)
        has_condition = condition != config.mask_id
        masks = {
            "masked_code": is_hidden & ~has_condition,
            "refined_code": is_hidden & has_condition,
            "reconstructed_code": ~is_hidden,
            "accuracy": is_hidden & ~has_condition,
        }
        of_codes = self.code_losses(self.maskgit, shown, labels, given, real, self.label_smoothing, trial)
        if trial is not None:
            masks["critic"] = torch.full_like(of_codes["critic"], trial.are_counted, dtype=torch.bool)
        return PositionLosses({name: of_codes.get(name, of_codes["cross_entropy"]) for name in masks}, masks)

    def _dropped(self, chance: "Chance", probability: float) -> Bool[Tensor, " b"]:
        """Return True for samples that lose a condition. Evaluation mode draws the same numbers, but drops nothing."""
        is_dropped = chance.uniform() < probability
        return is_dropped & self.training


class Trial(NamedTuple):
    """What the critic is trained on: some samples, completed with codes that are drawn from the predictions."""

    is_hidden: Bool[Tensor, "b n"]
    draws: Int[Tensor, "b n g"]
    """Random integers for `sample_codes`."""
    rows: slice
    """The samples."""
    are_counted: bool
    """Whether their losses count."""


def code_losses(
    maskgit: MaskGit,
    shown: Int[Tensor, "b t h w"],
    labels: Int[Tensor, " b"],
    conditions: dict[str, Tensor | None],
    real: Int[Tensor, "b n"],
    label_smoothing: float,
    trial: Trial | None,
) -> dict[str, Float[Tensor, "_ n"]]:
    """Return `cross_entropy` and `accuracy` of each code, and with a trial `critic` of each code of its rows.

    Args:
        shown: input of the model.
        conditions: `tasks`, `context` and `context_padding`, as in `MaskGit.forward`.
        real: the codes to predict.
    """
    predicted = maskgit(shown, labels, **conditions)
    targets = split_codes(real, maskgit.config.vocab_sizes)
    earlier = targets.unbind(dim=-1)
    logits = tuple(logits_given(group, earlier[:index]) for index, group in enumerate(predicted))
    losses = {
        "cross_entropy": cross_entropies(logits, targets, label_smoothing),
        "accuracy": are_right(logits, targets).float(),
    }
    if trial is None:
        return losses
    with torch.no_grad():
        # If predictions are not finite, so are the losses above: there is no need to wait for them here.
        drawn, _ = sample_codes(predicted, maskgit.config.vocab_sizes, trial.draws, check_finite=False)
    completed, rows = torch.where(trial.is_hidden, drawn, real), trial.rows
    of_rows = {name: None if value is None else value[rows] for name, value in conditions.items()}
    verdicts = maskgit.criticize(completed.view_as(shown)[rows], labels[rows], **of_rows)
    return losses | {"critic": criticisms(verdicts, is_real=completed[rows] == real[rows])}


class Chance:
    """Random numbers for the rows of this process, drawn for the global batch in every process.

    They are drawn on the CPU, so that they do not depend on the device.
    """

    def __init__(self, batch_size: int, generator: torch.Generator | None) -> None:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        index, count = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if is_distributed else (0, 1)
        self.joined_size = count * batch_size
        self.rows = slice(index * batch_size, (index + 1) * batch_size)
        self.generator = generator

    def mask(self, num_codes: int, schedule: MaskSchedule) -> Bool[Tensor, "b n"]:
        return training_mask(self.joined_size, num_codes, schedule, self.generator, rows=self.rows)

    def one_in(self, number: int) -> tuple[slice, bool]:
        """Return the rows of this process whose index in the global batch is a multiple of `number`, and True.

        If there are none, the first row is returned, with False.
        """
        first = -self.rows.start % number
        is_any = first < self.rows.stop - self.rows.start
        return (slice(first, None, number) if is_any else slice(1)), is_any

    def uniform(self) -> Float[Tensor, " b"]:
        return torch.rand(self.joined_size, generator=self.generator, dtype=torch.float32)[self.rows]

    def draws(self, num_codes: int, num_sub_codes: int) -> Int[Tensor, "b n g"]:
        """Return the random integers for `sample_codes`."""
        size = (self.joined_size, num_codes, num_sub_codes)
        return torch.randint(2**DRAW_BITS, size, generator=self.generator)[self.rows]


def copied_together(parts: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return integer or boolean matrices with equal numbers of rows on `device`, moved by a single copy."""
    joined = torch.cat(tuple(parts), dim=1).to(device, non_blocking=True)
    columns = joined.split([part.shape[1] for part in parts], dim=1)
    return [part.to(given.dtype) for part, given in zip(columns, parts, strict=True)]

"""Training objective of stage two: the masked transformer and its losses as one module."""

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
        for name in ("label_smoothing", "label_dropout", "condition_dropout", "context_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

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
            ValueError: if codes, labels or tasks are not integers or out of range, or if shapes do not match.
        """
        config = self.maskgit.config
        check_integers("codes", codes, config.codebook_size - 1)
        check_integers("labels", labels, config.null_label)
        if condition_codes is None:
            condition_codes = torch.full_like(codes, config.mask_id)
        elif condition_codes.shape != codes.shape:
            raise ValueError(
                f"condition_codes must have the shape of codes, {tuple(codes.shape)}, "
                f"got {tuple(condition_codes.shape)}"
            )
        check_integers("condition_codes", condition_codes, config.mask_id)
        if tasks is not None:
            check_integers("tasks", tasks, config.null_task)
            labels = labels_seen(labels, tasks, config.tasks, config.null_label)

        chance = Chance(len(codes), generator, codes.device)
        is_hidden = chance.mask(codes[0].numel(), self.schedule)
        labels = labels.masked_fill(self._dropped(chance, self.label_dropout), config.null_label)
        is_plain = self._dropped(chance, self.condition_dropout)
        condition_codes = condition_codes.masked_fill(is_plain[:, None, None, None], config.mask_id)
        tasks = None if tasks is None else tasks.masked_fill(is_plain, config.null_task)
        is_without_context = self._dropped(chance, self.context_dropout)
        if context is not None:
            padding = context.new_zeros(context.shape[:2], dtype=torch.bool)
            context_padding = (padding if context_padding is None else context_padding) | is_without_context[:, None]

        condition = rearrange(condition_codes, "b t h w -> b (t h w)")
        real = rearrange(codes, "b t h w -> b (t h w)")
        shown = torch.where(is_hidden, condition, real).view_as(codes)
        given = {"tasks": tasks, "context": context, "context_padding": context_padding}
        predicted = self.maskgit(shown, labels, **given)

        targets = split_codes(real, config.vocab_sizes)
        earlier = targets.unbind(dim=-1)
        logits = tuple(logits_given(group, earlier[:index]) for index, group in enumerate(predicted))
        has_condition = condition != config.mask_id
        masks = {
            "masked_code": is_hidden & ~has_condition,
            "refined_code": is_hidden & has_condition,
            "reconstructed_code": ~is_hidden,
            "accuracy": is_hidden & ~has_condition,
        }
        values = dict.fromkeys(masks, cross_entropies(logits, targets, self.label_smoothing))
        values["accuracy"] = are_right(logits, targets).float()
        if config.critic:
            with torch.no_grad():
                drawn, _ = sample_codes(predicted, config.vocab_sizes, chance.draws(targets))
            completed = torch.where(is_hidden, drawn, real)
            rows, is_counted = chance.one_in(JUDGED_ONE_IN)
            conditions = {name: None if value is None else value[rows] for name, value in given.items()}
            verdicts = self.maskgit.criticize(completed.view_as(codes)[rows], labels[rows], **conditions)
            values["critic"] = criticisms(verdicts, is_real=completed[rows] == real[rows])
            masks["critic"] = is_counted[:, None].expand_as(verdicts)
        return masked_means(values, masks)

    def _dropped(self, chance: "Chance", probability: float) -> Bool[Tensor, " b"]:
        """Return True for samples that lose a condition. Evaluation mode draws the same numbers, but drops nothing."""
        is_dropped = chance.uniform() < probability
        return is_dropped & self.training


class Chance:
    """Random numbers for the rows of this process, drawn for the global batch in every process."""

    def __init__(self, batch_size: int, generator: torch.Generator | None, device: torch.device) -> None:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        index, count = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if is_distributed else (0, 1)
        self.joined_size = count * batch_size
        self.rows = slice(index * batch_size, (index + 1) * batch_size)
        self.generator = generator
        self.device = device

    def mask(self, num_codes: int, schedule: MaskSchedule) -> Bool[Tensor, "b n"]:
        mask = training_mask(self.joined_size, num_codes, schedule, self.generator, rows=self.rows)
        return mask.to(self.device)

    def one_in(self, number: int) -> tuple[Int[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Return the rows of this process whose index in the global batch is a multiple of `number`, and True for each.

        If there are none, the first row is returned, with False.
        """
        is_one = torch.arange(self.rows.start, self.rows.stop) % number == 0
        rows = is_one.nonzero()[:, 0] if is_one.any() else torch.zeros(1, dtype=torch.long)
        return rows.to(self.device), is_one[rows].to(self.device)

    def uniform(self) -> Float[Tensor, " b"]:
        return torch.rand(self.joined_size, generator=self.generator, dtype=torch.float32)[self.rows].to(self.device)

    def draws(self, sub_codes: Int[Tensor, "b n g"]) -> Int[Tensor, "b n g"]:
        """Return the random integers for `sample_codes`."""
        size = (self.joined_size, *sub_codes.shape[1:])
        return torch.randint(2**DRAW_BITS, size, generator=self.generator)[self.rows].to(self.device)

"""What stage two trains: the masked transformer and everything that its loss needs, as one module to prepare."""

import torch
import torch.distributed
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .checks import check_integers
from .factorization import split_codes
from .losses import Losses, are_right, criticisms, cross_entropies, means_over_places
from .masking import MaskSchedule, cosine_schedule, training_mask
from .model import MaskGit
from .sampling import DRAW_BITS, sample_codes
from .tasks import labels_seen

JUDGED_ONE_IN = 4  # samples are judged by the critic


class MaskGitObjective(nn.Module):
    """Codes and what they are conditioned on to unweighted losses by name.

    A loss must pass through the `forward` of the module that is prepared for data-parallel training, or its
    gradients are not synchronized between processes; so the losses are computed here. Processes that draw from equal
    generators get what one would with the joined batch: each its rows of the masks, and means over all places.
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
        label_smoothing: share of each target that is spread over the whole vocabulary.
        label_dropout: probability of training on the null label, which guidance needs; none in evaluation mode,
            as of the other two.
        condition_dropout: probability of plain generation, with the null task and without condition codes. A task
            that does not use the label leaves it out then, too: the transformer learns to generate unconditionally.
        context_dropout: probability of training without the context.
        schedule: gives the mask ratio at a random point of the decoding.

        Raises:
            ValueError: a share or a probability outside [0, 1].
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
        """The losses that `MaskGitLossWeights` has weights for.

        A hidden code is shown as the code of the condition clip where there is one (MAGVIT's COMMIT), else as
        hidden. The cross-entropy is averaged over each of the three kinds of places by itself: `masked_code`,
        `refined_code`, and `reconstructed_code` for those shown as they are. `accuracy` is a measure without gradient:
        the share of the `masked_code` places whose likeliest sub-codes are all right.

        Where the config has a critic, it judges the codes that are shown together with codes drawn from the prediction
        for the hidden ones: `critic` is the binary cross-entropy of its verdict on every place. Its gradient reaches
        the shared layers, but not through what was drawn: these layers have to look at a complete grid for what does
        not fit, which predicting hidden codes alone does not teach them. That is a second pass through them; of one
        sample in four, so that a step takes a quarter longer and not twice as long.

        Args:
            codes: in [0, codebook_size); the masks are drawn here.
            labels: the null label stands for a clip without one, and is seen by tasks that do not use the label.
            generator: on the CPU, draws the masks and what is dropped; all processes must hand in equal ones. (The
                model's dropout, where it has one, draws from torch's global state.)
            tasks: indices into the config's `tasks`; by default the null task, which is plain generation.
            condition_codes: `mask_id` where there is none, as by default everywhere.
            context, context_padding: as `MaskGit.forward` takes them.

        Raises:
            ValueError: codes, labels or tasks that are no integers, or out of range, or shapes that do not match.
        """
        config = self.maskgit.config
        check_integers("codes", codes, config.codebook_size - 1)
        check_integers("labels", labels, config.null_label)
        if condition_codes is None:
            condition_codes = torch.full_like(codes, config.mask_id)
        elif condition_codes.shape != codes.shape:
            raise ValueError(
                f"condition_codes must be of the shape of the codes, {tuple(codes.shape)}, "
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
        logits = self.maskgit(shown, labels, **given)

        targets = split_codes(real, config.group_bits)
        has_condition = condition != config.mask_id
        places = {
            "masked_code": is_hidden & ~has_condition,
            "refined_code": is_hidden & has_condition,
            "reconstructed_code": ~is_hidden,
            "accuracy": is_hidden & ~has_condition,
        }
        values = dict.fromkeys(places, cross_entropies(logits, targets, self.label_smoothing))
        values["accuracy"] = are_right(logits, targets).float()
        if config.critic:
            drawn, _ = sample_codes(tuple(group.detach() for group in logits), config.group_bits, chance.draws(targets))
            completed = torch.where(is_hidden, drawn, real)
            rows, is_counted = chance.one_in(JUDGED_ONE_IN)
            told = {name: None if value is None else value[rows] for name, value in given.items()}
            verdicts = self.maskgit.criticize(completed.view_as(codes)[rows], labels[rows], **told)
            values["critic"] = criticisms(verdicts, is_real=completed[rows] == real[rows])
            places["critic"] = is_counted[:, None].expand_as(verdicts)
        return means_over_places(values, places)

    def _dropped(self, chance: "Chance", probability: float) -> Bool[Tensor, " b"]:
        """Which samples lose something; drawn in evaluation, too, and nothing lost then."""
        is_dropped = chance.uniform() < probability
        return is_dropped & self.training


class Chance:
    """What is drawn for the rows of this process's batch, by drawing for the joined batch on every process."""

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
        """Rows that are every so many-th of the joined batch, at least one, and whether they are."""
        is_one = torch.arange(self.rows.start, self.rows.stop, device=self.device) % number == 0
        rows = is_one.nonzero()[:, 0] if is_one.any() else torch.zeros_like(is_one[:1], dtype=torch.long)
        return rows, is_one[rows]

    def uniform(self) -> Float[Tensor, " b"]:
        return torch.rand(self.joined_size, generator=self.generator, dtype=torch.float32)[self.rows].to(self.device)

    def draws(self, sub_codes: Int[Tensor, "b n g"]) -> Int[Tensor, "b n g"]:
        """What `sample_codes` draws by."""
        size = (self.joined_size, *sub_codes.shape[1:])
        return torch.randint(2**DRAW_BITS, size, generator=self.generator)[self.rows].to(self.device)

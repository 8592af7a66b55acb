"""The loss of stage two on held-out clips, with the same masks in each evaluation, and a warning of overfitting."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from accelerate import Accelerator
from jaxtyping import Bool
from torch import Tensor

from ..maskgit import MaskGit, MaskGitObjective
from ..maskgit.masking import cosine_schedule, random_mask
from ..maskgit.seeds import seeded_generator
from ..maskgit.tasks import labels_seen
from .code_batches import Batch, condition_codes
from .codes import Encoder
from .contexts import Contexts
from .data import Clips
from .metrics_file import HELDOUT, Record
from .task_mix import WeightedTask, drawn_tasks

MASKS_PER_CLIP = 4
HELDOUT_SEED = 2**31 + 7  # of masks and tasks, which do not depend on the seed of a run, so that runs can be compared
LOSS = "masked_code"
MEASURED = (LOSS, "refined_code", "accuracy")
RISES = 3  # evaluations in a row in which the loss rises before there is a warning

Part = tuple[dict[str, float], dict[str, int]]


class HeldoutLoss:
    """Measures a transformer on held-out clips.

    Each clip is hidden by `MASKS_PER_CLIP` random masks, with mask ratios that are evenly spread over the cosine
    schedule. With a mix of tasks, a task is drawn for each of them. Masks and tasks are always the same. No label,
    condition or context is dropped, so the loss is not quite that of the training. The processes share the clips.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        clips: Clips,
        encoder: Encoder,
        *,
        mask_id: int,
        mix: Sequence[WeightedTask] = (),
        contexts: Contexts | None = None,
        label_smoothing: float = 0.0,
        batch_size: int = 16,
    ) -> None:
        """Encode the clips. Called on all processes.

        Args:
            encoder: with the conditions of the mix.
            mask_id: mask id of the transformer.
            contexts: of the files that the clips are cut from.
            label_smoothing: as in the training.
        """
        self.accelerator = accelerator
        self.label_smoothing = label_smoothing
        own = range(accelerator.process_index, len(clips), accelerator.num_processes)
        self.batches = [
            batch
            for start in range(0, len(own), batch_size)
            for batch in heldout_batches(clips, own[start : start + batch_size], encoder, mask_id, mix, contexts)
        ]

    @torch.no_grad()
    def part(self, maskgit: MaskGit) -> Part:
        """Return the sums of `masked_code`, `refined_code` and `accuracy` as in `MaskGitObjective` over the clips of
        this process and all masks, and their numbers of positions.

        Args:
            maskgit: in evaluation mode.
        """
        objective = MaskGitObjective(maskgit, label_smoothing=self.label_smoothing)
        sums: dict[str, float] = dict.fromkeys(MEASURED, 0.0)
        counts: dict[str, int] = dict.fromkeys(MEASURED, 0)
        for batch in self.batches:
            given = {name: value.to(self.accelerator.device) for name, value in batch.items()}
            if "tasks" in given:
                config = maskgit.config
                given["labels"] = labels_seen(given["labels"], given["tasks"], config.tasks, config.null_label)
            codes, labels, is_hidden, known = (
                given.pop(name) for name in ("codes", "labels", "is_hidden", "condition_codes")
            )
            with self.accelerator.autocast():
                losses = objective.position_losses(codes, labels, is_hidden, known, None, **given)
            for name in MEASURED:
                mask = losses.masks[name]
                sums[name] += losses.values[name][mask].double().sum().item()
                counts[name] += int(mask.sum())
        return sums, counts


def joined(parts: Sequence[Part]) -> dict[str, float]:
    """Return the means over the parts of all processes; those that apply to no position are missing."""
    num_positions = {name: sum(of_part[name] for _, of_part in parts) for name in MEASURED}
    return {
        name: sum(of_part[name] for of_part, _ in parts) / number for name, number in num_positions.items() if number
    }


def heldout_batches(
    clips: Clips,
    indexes: range,
    encoder: Encoder,
    mask_id: int,
    mix: Sequence[WeightedTask],
    contexts: Contexts | None,
) -> list[Batch]:
    """Return the arguments of `MaskGitObjective.position_losses` for some clips, with each of the masks."""
    rows = [clips[index] for index in indexes]
    videos = torch.stack([row["video"] for row in rows])
    codes = encoder.codes(videos)
    shared = {"codes": codes, "labels": torch.stack([row["label"] for row in rows])}
    if contexts is not None:
        shared["context"], shared["context_padding"] = contexts.of(clips.table.select(indexes)["number"][:])
    batches = []
    for number, is_hidden in enumerate(heldout_masks(indexes, codes[0].numel())):
        batch = shared | {"is_hidden": is_hidden, "condition_codes": torch.full_like(codes, mask_id)}
        if mix:
            positions = [index * MASKS_PER_CLIP + number for index in indexes]
            batch["tasks"] = torch.from_numpy(drawn_tasks(mix, HELDOUT_SEED, positions))
            batch["condition_codes"] = condition_codes(videos, positions, batch["tasks"], encoder, mix, mask_id)
        batches.append({name: value.cpu() for name, value in batch.items()})
    return batches


def heldout_masks(indexes: Sequence[int], num_codes: int) -> Bool[Tensor, "masks b n"]:
    """Return the masks of the clips with some indexes. Each is a function of the index alone."""
    ratios = cosine_schedule((torch.arange(MASKS_PER_CLIP) + 0.5) / MASKS_PER_CLIP)
    masks = [random_mask(ratios, num_codes, seeded_generator(HELDOUT_SEED, index)) for index in indexes]
    return torch.stack(masks, dim=1)


def overfitting_message(records: Sequence[Record], group: str) -> str | None:
    """Return a warning if the held-out loss has risen in the last `RISES` evaluations in a row, while the training loss
    has fallen; otherwise None.

    Args:
        records: lines of `metrics.jsonl`, until the last evaluation.
        group: prefix of the names of the training losses. A training loss is the mean over the lines before an
            evaluation, from the evaluation before it on.
    """
    evaluations: list[tuple[float, float]] = []
    since_evaluation: list[float] = []
    for record in records:
        if (loss := record.get(f"{group}/{LOSS}")) is not None:
            since_evaluation.append(loss)
        if (loss := record.get(HELDOUT + LOSS)) is not None and since_evaluation:
            evaluations.append((loss, sum(since_evaluation) / len(since_evaluation)))
            since_evaluation = []
    if len(evaluations) <= RISES:
        return None
    heldout, training = zip(*evaluations[-RISES - 1 :], strict=True)
    if training[-1] >= training[0] or any(after <= before for before, after in pairwise(heldout)):
        return None
    return (
        f"the held-out loss ({LOSS}) has risen in {RISES} evaluations in a row, from {heldout[0]:.3f} to "
        f"{heldout[-1]:.3f}, while the training loss fell from {training[0]:.3f} to {training[-1]:.3f}: the "
        "transformer overfits. More data, more passes over it (--codes.passes), more dropout (--model.dropout) or "
        "fewer steps help"
    )

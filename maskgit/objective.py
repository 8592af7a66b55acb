"""What stage two trains: the masked transformer and everything that its loss needs, as one module to prepare."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .checks import check_integers
from .factorization import split_codes
from .masking import MaskSchedule, cosine_schedule, training_mask
from .model import MaskGit

NOT_COUNTED = -100


class MaskGitObjective(nn.Module):
    """Codes and labels to unweighted losses by name.

    A loss must pass through the `forward` of the module that is prepared for data-parallel training, or its
    gradients are not synchronized between processes; so the losses are computed here.
    """

    def __init__(
        self,
        maskgit: MaskGit,
        *,
        label_smoothing: float = 1e-4,
        label_dropout: float = 0.1,
        schedule: MaskSchedule = cosine_schedule,
    ) -> None:
        """Args:
        label_smoothing: share of each target that is spread over the whole vocabulary.
        label_dropout: probability of training on the null label, which guidance needs; none in evaluation mode.
        schedule: gives the mask ratio at a random point of the decoding.

        Raises:
            ValueError: a share or a probability outside [0, 1].
        """
        super().__init__()
        for name, value in (("label_smoothing", label_smoothing), ("label_dropout", label_dropout)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        self.maskgit = maskgit
        self.label_smoothing = label_smoothing
        self.label_dropout = label_dropout
        self.schedule = schedule

    def forward(
        self, codes: Int[Tensor, "b t h w"], labels: Int[Tensor, " b"], generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """One loss, `masked_code`: the cross-entropy of a hidden code in nats, summed over its sub-codes.

        `accuracy` beside it is a measure without gradient: the share of hidden codes whose most likely sub-codes
        are all right.

        Args:
            codes: in [0, codebook_size); the masks are drawn here.
            labels: the null label stands for a clip without one.
            generator: on the CPU, draws the masks and the dropped labels. (The model's dropout, where it has one,
                draws from torch's global state.)

        Raises:
            ValueError: codes or labels that are no integers, or out of range.
        """
        config = self.maskgit.config
        check_integers("codes", codes, config.codebook_size - 1)
        check_integers("labels", labels, config.null_label)
        _, t, h, w = codes.shape
        is_masked = training_mask(len(codes), t * h * w, self.schedule, generator).to(codes.device)
        is_dropped = (torch.rand(len(labels), generator=generator) < self.label_dropout).to(labels.device)
        if self.training:
            labels = labels.masked_fill(is_dropped, config.null_label)

        hidden = codes.masked_fill(rearrange(is_masked, "b (t h w) -> b t h w", t=t, h=h), config.mask_id)
        logits = self.maskgit(hidden, labels)
        targets = split_codes(rearrange(codes, "b t h w -> b (t h w)"), config.group_bits)
        return {
            "masked_code": masked_cross_entropy(logits, targets, is_masked, self.label_smoothing),
            "accuracy": masked_accuracy(logits, targets, is_masked),
        }


def masked_cross_entropy(
    logits: tuple[Float[Tensor, "b n _"], ...],
    targets: Int[Tensor, "b n g"],
    is_masked: Bool[Tensor, "b n"],
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean over the hidden places of the sum over the sub-codes; what is visible does not count."""
    counted = targets.masked_fill(~is_masked[..., None], NOT_COUNTED)
    groups = [
        F.cross_entropy(
            rearrange(group, "b n v -> (b n) v"),
            rearrange(target, "b n -> (b n)"),
            ignore_index=NOT_COUNTED,
            label_smoothing=label_smoothing,
        )
        for group, target in zip(logits, counted.unbind(dim=-1), strict=True)
    ]
    return torch.stack(groups).sum()


@torch.no_grad()
def masked_accuracy(
    logits: tuple[Float[Tensor, "b n _"], ...], targets: Int[Tensor, "b n g"], is_masked: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Share of the hidden places at which the likeliest sub-codes are all right."""
    likeliest = torch.stack([group.argmax(dim=-1) for group in logits], dim=-1)
    is_right = (likeliest == targets).all(dim=-1)
    return (is_right & is_masked).sum() / is_masked.sum()

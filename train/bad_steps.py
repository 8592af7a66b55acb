"""Steps whose losses or gradients are NaN or infinite: they are skipped, counted and logged."""

import logging
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

logger = logging.getLogger(__name__)


class Update(NamedTuple):
    """An update of weights that may be skipped."""

    norm: Tensor | float | None
    """Norm of the gradients, the same on all processes. Losses that are not finite must have made it NaN; see
    `nan_unless_finite`. Not None, which is for the types of accelerate."""
    losses: Mapping[str, Tensor]
    """Losses of this process, for the message."""


class BadSteps:
    """Counts bad steps. All processes count the same ones, since they have the same gradients.

    Attributes:
        num_in_row: bad steps since the last good one.
        is_step_bad: whether an update of the present step was skipped.
    """

    def __init__(self, most: int, seed: int, *, has_scaler: bool = False) -> None:
        """
        Args:
            most: bad steps in a row after which the run should stop.
            seed: of the run, for messages.
            has_scaler: whether a gradient scaler (fp16) skips bad steps. It makes gradients infinite until it has found
                its scale, so only losses count then.
        """
        self.most = most
        self.seed = seed
        self.has_scaler = has_scaler
        self.num_in_row = 0
        self.is_step_bad = False

    @property
    def are_too_many(self) -> bool:
        """Whether the run should stop."""
        return self.num_in_row >= self.most

    def is_bad(self, norm: Tensor | float | None, losses: Mapping[str, Tensor], step: int) -> bool:
        """Return whether the caller must skip the only update of a step, and log it; see `are_bad`."""
        return self.are_bad(Update(norm, losses), step=step)[0]

    def are_bad(self, *updates: "Update", step: int) -> list[bool]:
        """Return for each update of a step whether the caller must skip it, and log it.

        After an update that is skipped, all are. The norms are read together, since a read waits for the device.

        Args:
            step: number of the step, from 0.
        """
        norms = torch.stack([torch.as_tensor(update.norm) for update in updates]).tolist()
        is_bad, are_bad = False, []
        for norm, update in zip(norms, updates, strict=True):
            is_bad = is_bad or self._is_bad(norm, update.losses, step)
            are_bad.append(is_bad)
        return are_bad

    def _is_bad(self, norm: float, losses: Mapping[str, Tensor], step: int) -> bool:
        if math.isfinite(norm):
            return False
        broken = [f"{name} is {loss.item()}" for name, loss in losses.items() if not loss.isfinite()]
        if self.has_scaler and not broken:
            return False
        self.is_step_bad = True
        logger.warning(
            "step %d is skipped: %s (batch %d of seed %d, bad step %d in a row)",
            *(step + 1, ", ".join(broken) or f"the norm of the gradients is {norm}", step, self.seed),
            self.num_in_row + 1,
        )
        return not self.has_scaler

    def end_step(self) -> None:
        """Count the present step, which may have several updates."""
        self.num_in_row = self.num_in_row + 1 if self.is_step_bad else 0
        self.is_step_bad = False

    def message(self, step: int) -> str:
        """Return why the run stops."""
        return (
            f"step {step}: the losses or gradients of {self.num_in_row} steps in a row were NaN or infinite. These "
            "steps were skipped, and the state before them is saved. See docs/troubleshooting.md for what to change, "
            "or repeat the command to continue"
        )


def nan_unless_finite(losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Return 1, or NaN if a loss is NaN or infinite: a factor of the total loss that marks its gradients as bad.

    So all processes see it after they have averaged their gradients, without another exchange between them.
    """
    is_finite = torch.stack([loss.detach().float() for loss in losses.values()]).isfinite().all()
    return torch.where(is_finite, 1.0, math.nan)

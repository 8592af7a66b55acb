"""Adversarial training of the tokenizer: settings and the discriminator update."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from ..tokenizer import DiscriminatorObjective
from ..tokenizer.adversarial import ADVERSARIAL_LOSSES, AdversarialLoss
from ..tokenizer.losses import Losses
from .bad_steps import Update, nan_unless_finite
from .command_line import WrittenDiscriminators
from .optimization import AdamWConfig, adamw, set_learning_rate, update


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Discriminators and their training. The weight of the adversarial loss is in `model.loss_weights`."""

    discriminators: WrittenDiscriminators = ()
    """Discriminators, separated by commas, each as [details:]STRIDE[:WIDTH[:PATCH_SIZE[:WEIGHT]]]. A discriminator sees
    every STRIDE-th frame; with `details:`, only the high frequencies of these frames. none: no adversarial training."""
    loss: AdversarialLoss = "non_saturating"
    """Adversarial loss of the tokenizer and the discriminators."""
    adaptive_weight: bool = False
    """Scale the adversarial loss so that the norm of its gradient at the last layer of the decoder equals that of the
    gradient of the reconstruction and perceptual losses."""
    r1_weight: float = 10.0
    """Weight of the R1 penalty: the squared norm of the gradient of the logits with respect to real pixels."""
    r1_every: int = 16
    """Steps between R1 penalties. Each penalty is multiplied by this number."""
    lecam_weight: float = 0.001
    """Weight of the LeCam penalty, which pulls the logits of real clips down to the moving average of the logits of
    reconstructions, and the logits of reconstructions up to that of real clips."""
    lecam_decay: float = 0.999
    """Decay of the moving averages per batch."""
    start_step: int = 0
    """First step of adversarial training. Before it, the discriminators are neither trained nor evaluated."""
    optimizer: AdamWConfig = AdamWConfig(betas=(0.0, 0.99), weight_decay=0.0, warmup_steps=0)
    """Optimizer of the discriminators. Its steps are counted from `start_step`."""

    def __post_init__(self) -> None:
        if self.loss not in ADVERSARIAL_LOSSES:
            raise ValueError(f"loss must be one of {', '.join(ADVERSARIAL_LOSSES)}, got {self.loss!r}")
        for name in ("r1_weight", "lecam_weight", "start_step"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.r1_every < 1:
            raise ValueError(f"r1_every must be at least 1, got {self.r1_every}")
        if not 0 <= self.lecam_decay < 1:
            raise ValueError(f"lecam_decay must be in [0, 1), got {self.lecam_decay}")


class Adversary:
    """Discriminators and their optimizer, prepared by accelerate."""

    def __init__(self, accelerator: Accelerator, config: AdversarialConfig, *, channels: int, num_steps: int) -> None:
        objective = DiscriminatorObjective(
            config.discriminators, channels=channels, loss=config.loss, lecam_decay=config.lecam_decay
        )
        self.accelerator = accelerator
        self.config = config
        self.num_steps = num_steps
        self.objective, self.optimizer = accelerator.prepare(objective, adamw(objective, config.optimizer))
        self.latest_r1: Losses = {}
        self.optimization: dict[str, float | Tensor | None] = {}
        """Learning rate and norm of the gradients in the last step, for logs."""

    def factors(self, adaptive_weight: Float[Tensor, ""]) -> list[Float[Tensor, ""]]:
        """Return the factor of the adversarial weight for each discriminator."""
        return [discriminator.weight * adaptive_weight for discriminator in self.config.discriminators]

    def learn(self, real: Float[Tensor, "b c T H W"], fake: Float[Tensor, "b c T H W"], step: int) -> Update:
        """Compute the gradients of the discriminators for one batch, for `update`, which must follow.

        Returns:
            Their losses, and at the end of an accumulation the norm of the gradients, which are then clipped.
        """
        config, since_start = self.config, step - self.config.start_step
        with_r1 = config.r1_weight > 0 and since_start % config.r1_every == 0
        learning_rate = config.optimizer.learning_rate_at(since_start, self.num_steps - config.start_step)
        set_learning_rate(self.optimizer, learning_rate)
        losses = self.objective(real, fake, with_r1=with_r1, phase=step)
        weights = {"discriminator": 1.0, "lecam": config.lecam_weight, "r1": config.r1_weight * config.r1_every}
        total = torch.stack([weights[name.rpartition("_")[0]] * loss for name, loss in losses.items()]).sum()
        self.accelerator.backward(total * nan_unless_finite(losses))
        norm = None
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), config.optimizer.max_grad_norm)
            self.optimization = {"discriminator_learning_rate": learning_rate, "discriminator_gradient_norm": norm}
        self.latest_r1 |= {name: loss.detach() for name, loss in losses.items() if name.startswith("r1_")}
        return Update(norm, losses)

    def update(self, *, skip: bool = False) -> None:
        """Train the discriminators with the gradients of `learn`, unless the step is skipped."""
        update([self.optimizer], skip=skip)

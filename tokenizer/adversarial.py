"""The adversary's losses, and the objective that trains it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from .discriminator import DiscriminatorConfig, new_discriminator
from .entropy import at_least_float32, mean_over_processes
from .losses import Losses

AdversarialLoss = Literal["non_saturating", "hinge"]
Logits = Float[Tensor, "b *places"]  # one for each clip, or several

# The ratio of two gradients is kept finite where the adversary has none (VQGAN, equation 7).
TINY_GRADIENT = 1e-6
LARGEST_ADAPTIVE_WEIGHT = 1e4


class TwoSides(NamedTuple):
    """Both halves of one game; each gives a scalar."""

    generator: Callable[[Logits], Float[Tensor, ""]]
    """Of the logits of reconstructions."""
    discriminator: Callable[[Logits, Logits], Float[Tensor, ""]]
    """Of the logits of real clips and of reconstructions."""


def non_saturating_generator_loss(fake_logits: Logits) -> Float[Tensor, ""]:
    """Minus the log-probability that a reconstruction is taken for real."""
    return F.softplus(-fake_logits).mean()


def logistic_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, ""]:
    """Minus the log-probability of telling both right: 2 ln 2 where the discriminator cannot decide."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_generator_loss(fake_logits: Logits) -> Float[Tensor, ""]:
    """Minus the logit of reconstructions."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, ""]:
    """How far logits of real clips stay under 1 and those of reconstructions above -1: 2 for a constant zero."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


ADVERSARIAL_LOSSES: dict[AdversarialLoss, TwoSides] = {
    "non_saturating": TwoSides(non_saturating_generator_loss, logistic_discriminator_loss),
    "hinge": TwoSides(hinge_generator_loss, hinge_discriminator_loss),
}


def r1_penalty(real_logits: Logits, real: Float[Tensor, "b c T H W"]) -> Float[Tensor, ""]:
    """Squared norm of the gradient of a real clip's logit by its pixels, averaged over clips (Mescheder et al., 2018).

    There is no factor of a half. The norm is taken over all pixels of a clip, so it depends on the clip's size. Of
    several logits it is their mean that counts.

    Args:
        real: what the logits were computed from; requires a gradient.
    """
    (gradient,) = torch.autograd.grad(real_logits.mean() * real.shape[0], real, create_graph=True)
    return reduce(gradient.square(), "b c T H W -> b", "sum").mean()


def lecam_penalty(
    real_logits: Logits,
    fake_logits: Logits,
    *,
    real_average: Float[Tensor, ""],
    fake_average: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Holds logits back to the moving averages of the other side (LeCAM; Tseng et al., 2021).

    Only those that are on their own side of that average are held back, as in the authors' code; the paper's formula
    has both directions.
    """
    return F.relu(real_logits - fake_average).square().mean() + F.relu(real_average - fake_logits).square().mean()


def adaptive_adversarial_weight(
    pixels_gradient: Float[Tensor, "*shape"], adversarial_gradient: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """The factor with which the adversary pulls at a weight as strongly as the pixels do (VQGAN, equation 7).

    The gradients are averaged over processes before their norms are taken, so that several processes have the factor
    of the joined batch.
    """
    pixels, adversarial = mean_over_processes(torch.stack([pixels_gradient, adversarial_gradient])).unbind()
    return (pixels.norm() / (adversarial.norm() + TINY_GRADIENT)).clamp(max=LARGEST_ADAPTIVE_WEIGHT)


class DiscriminatorObjective(nn.Module):
    """Real clips and reconstructions to the discriminators' unweighted losses by name.

    This is what trains the adversary: a module of its own, prepared with its own optimizer. The tokenizer's objective
    is handed the module inside (unwrapped) and asks it for the other side of the game. It is training state, never
    part of a tokenizer.

    Discriminator i has the losses `discriminator_i`, `lecam_i` and, where asked for, `r1_i`.
    """

    real_average: Float[Tensor, " n"]
    fake_average: Float[Tensor, " n"]
    num_averaged: Int[Tensor, ""]

    def __init__(
        self,
        configs: Sequence[DiscriminatorConfig],
        *,
        channels: int = 3,
        loss: AdversarialLoss = "non_saturating",
        lecam_decay: float = 0.999,
    ) -> None:
        if not configs:
            raise ValueError("there must be at least one discriminator")
        if loss not in ADVERSARIAL_LOSSES:
            raise ValueError(f"loss must be one of {', '.join(ADVERSARIAL_LOSSES)}, got {loss!r}")
        if not 0 <= lecam_decay < 1:
            raise ValueError(f"lecam_decay must be in [0, 1), got {lecam_decay}")
        super().__init__()
        self.discriminators = nn.ModuleList(new_discriminator(config, channels) for config in configs)
        self.weights = [config.weight for config in configs]
        self.two_sides = ADVERSARIAL_LOSSES[loss]
        self.lecam_decay = lecam_decay
        self.register_buffer("real_average", torch.zeros(len(configs), dtype=torch.float32))
        self.register_buffer("fake_average", torch.zeros(len(configs), dtype=torch.float32))
        self.register_buffer("num_averaged", torch.tensor(0))

    def forward(
        self,
        real: Float[Tensor, "b c T H W"],
        fake: Float[Tensor, "b c T H W"],
        *,
        with_r1: bool = False,
        phase: int = 0,
    ) -> Losses:
        """Every discriminator's losses; the moving averages of the logits take in this batch first.

        Args:
            fake: reconstructions of the real clips; no gradient goes into them.
            phase: as in `VideoDiscriminator.forward`.
        """
        fake, real = fake.detach(), real.detach().to(fake)
        if with_r1:
            real.requires_grad_()
        judged = [self._judge(discriminator, real, fake, with_r1, phase) for discriminator in self.discriminators]
        averages = self._averaged(
            torch.stack([torch.stack(logits).detach().flatten(1).mean(dim=1) for logits in judged], dim=1)
        )
        losses: Losses = {}
        for index, (real_logits, fake_logits) in enumerate(judged):
            losses[f"discriminator_{index}"] = self.two_sides.discriminator(real_logits, fake_logits)
            losses[f"lecam_{index}"] = lecam_penalty(
                real_logits, fake_logits, real_average=averages[0, index], fake_average=averages[1, index]
            )
            if with_r1:
                losses[f"r1_{index}"] = r1_penalty(real_logits, real)
        return losses

    def generator_losses(self, fake: Float[Tensor, "b c T H W"], phase: int = 0) -> Iterator[Float[Tensor, ""]]:
        """What each discriminator has the tokenizer pay, one after the other."""
        for discriminator in self.discriminators:
            yield self.two_sides.generator(at_least_float32(discriminator(fake, phase)))

    @staticmethod
    def _judge(
        discriminator: nn.Module,
        real: Float[Tensor, "b c T H W"],
        fake: Float[Tensor, "b c T H W"],
        with_r1: bool,
        phase: int,
    ) -> tuple[Logits, Logits]:
        """Both in one pass; but R1's gradient, which is of the real ones alone, should not cross the others."""
        if with_r1:
            logits = discriminator(real, phase), discriminator(fake, phase)
        else:
            logits = discriminator(torch.cat([real, fake]), phase).chunk(2)
        real_logits, fake_logits = (at_least_float32(side) for side in logits)
        return real_logits, fake_logits

    @torch.no_grad()
    def _averaged(self, means: Float[Tensor, "2 n"]) -> Float[Tensor, "2 n"]:
        """The moving averages of real and of fake logits, over all processes, with these means taken in.

        They start at zero, and what that still weighs is divided out.
        """
        for average, mean in zip((self.real_average, self.fake_average), mean_over_processes(means), strict=True):
            average.lerp_(mean.to(average), 1 - self.lecam_decay)
        self.num_averaged += 1
        return torch.stack([self.real_average, self.fake_average]) / (1 - self.lecam_decay**self.num_averaged)

"""Adversarial losses, and the objective of the discriminators."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from .discriminator import DiscriminatorConfig, Logits, new_discriminator
from .entropy import at_least_float32, mean_over_processes
from .losses import Losses

AdversarialLoss = Literal["non_saturating", "hinge"]

# They keep the adaptive weight finite if the adversarial gradient is zero (VQGAN, equation 7).
TINY_GRADIENT = 1e-6
LARGEST_ADAPTIVE_WEIGHT = 1e4


class TwoSides(NamedTuple):
    """Losses of the generator (the tokenizer) and of a discriminator."""

    generator: Callable[[Logits], Float[Tensor, ""]]
    """Takes the logits of reconstructions."""
    discriminator: Callable[[Logits, Logits], Float[Tensor, ""]]
    """Takes the logits of real clips and of reconstructions."""


def non_saturating_generator_loss(fake_logits: Logits) -> Float[Tensor, ""]:
    """Return the negative log-probability that reconstructions are classified as real."""
    return F.softplus(-fake_logits).mean()


def logistic_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, ""]:
    """Return the negative log-probability of the right classes: 2 ln 2 for logits of zero."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_generator_loss(fake_logits: Logits) -> Float[Tensor, ""]:
    """Return the negative mean logit of reconstructions."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, ""]:
    """Return the hinge loss mean(relu(1 - real)) + mean(relu(1 + fake)): 2 for logits of zero."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


ADVERSARIAL_LOSSES: dict[AdversarialLoss, TwoSides] = {
    "non_saturating": TwoSides(non_saturating_generator_loss, logistic_discriminator_loss),
    "hinge": TwoSides(hinge_generator_loss, hinge_discriminator_loss),
}


def r1_penalty(real_logits: Logits, real: Float[Tensor, "b c T H W"]) -> Float[Tensor, ""]:
    """Return the squared norm of the gradient of the logit of real clips with respect to their pixels, averaged over
    clips (R1; Mescheder et al., 2018).

    There is no factor of 1/2. The norm is over all pixels of a clip, so it depends on the size of clips. If a clip has
    several logits, their mean is used.

    Args:
        real: input from which the logits were computed, with `requires_grad`.
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
    """Return the squared distance of logits to the moving average of the other class (LeCAM; Tseng et al., 2021).

    Real logits below and fake logits above that average are not penalized, as in the authors' code; the formula of the
    paper has both directions.
    """
    return F.relu(real_logits - fake_average).square().mean() + F.relu(real_average - fake_logits).square().mean()


def adaptive_adversarial_weight(
    pixels_gradient: Float[Tensor, "*shape"], adversarial_gradient: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Return the gradient norm of the reconstruction and perceptual losses, divided by that of the adversarial losses
    (VQGAN, equation 7).

    Gradients are averaged over processes first, so the ratio is that of the global batch.
    """
    pixels, adversarial = mean_over_processes(torch.stack([pixels_gradient, adversarial_gradient])).unbind()
    return (pixels.norm() / (adversarial.norm() + TINY_GRADIENT)).clamp(max=LARGEST_ADAPTIVE_WEIGHT)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module without those of its parameters, which compiled code would always compute."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class DiscriminatorObjective(nn.Module):
    """Computes the unweighted losses of the discriminators from real clips and reconstructions.

    It has its own optimizer and data-parallel wrapper (`Accelerator.prepare`). `TokenizerObjective` takes the unwrapped
    module and calls `generator_losses`. It is training state and never saved with a tokenizer.

    Discriminator i has the losses `discriminator_i`, `lecam_i` and, on demand, `r1_i`.
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
            raise ValueError("configs must not be empty: at least one discriminator is needed")
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

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each discriminator as one graph. Calls with the R1 penalty, which needs second derivatives, stay as
        they are.

        Args:
            args, kwargs: arguments of `torch.compile`.
        """
        for discriminator in self.discriminators:
            discriminator.compile(*args, **kwargs)

    def forward(
        self,
        real: Float[Tensor, "b c T H W"],
        fake: Float[Tensor, "b c T H W"],
        *,
        with_r1: bool = False,
        phase: int = 0,
    ) -> Losses:
        """Return the losses of all discriminators by name, after updating the moving averages of the logits.

        Args:
            fake: reconstructions of the real clips. They receive no gradient.
            with_r1: include the R1 penalty.
            phase: as in `VideoDiscriminator.forward`.
        """
        fake, real = fake.detach(), real.detach().to(fake)
        if with_r1:
            real.requires_grad_()
        with torch.compiler.set_stance("force_eager") if with_r1 else nullcontext():
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
        """Yield the adversarial loss of the tokenizer for each discriminator."""
        for discriminator in self.discriminators:
            with frozen(discriminator):
                logits = at_least_float32(discriminator(fake, phase))
            yield self.two_sides.generator(logits)

    @staticmethod
    def _judge(
        discriminator: nn.Module,
        real: Float[Tensor, "b c T H W"],
        fake: Float[Tensor, "b c T H W"],
        with_r1: bool,
        phase: int,
    ) -> tuple[Logits, Logits]:
        """Return the logits of real and fake clips. R1, whose gradient is of real clips only, needs two passes."""
        if with_r1:
            logits = discriminator(real, phase), discriminator(fake, phase)
        else:
            logits = discriminator(torch.cat([real, fake]), phase).chunk(2)
        real_logits, fake_logits = (at_least_float32(side) for side in logits)
        return real_logits, fake_logits

    @torch.no_grad()
    def _averaged(self, means: Float[Tensor, "2 n"]) -> Float[Tensor, "2 n"]:
        """Update the moving averages of real and fake logits, over all processes, and return them bias-corrected.

        Means that are not finite leave them as they are, since they would never be finite again.
        """
        means = mean_over_processes(means).to(self.real_average)
        is_finite = means.isfinite().all()
        for average, mean in zip((self.real_average, self.fake_average), means, strict=True):
            average.copy_(torch.where(is_finite, average.lerp(mean, 1 - self.lecam_decay), average))
        self.num_averaged += is_finite
        num_averaged = self.num_averaged.clamp(min=1).float()
        return torch.stack([self.real_average, self.fake_average]) / (1 - self.lecam_decay**num_averaged)

"""What stage one trains: the tokenizer and everything that its loss needs, as one module to prepare."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .adversarial import DiscriminatorObjective, adaptive_adversarial_weight
from .inputs import Condition
from .losses import Losses
from .model import VideoTokenizer

Pixels = Float[Tensor, "b c T H W"]
Perceptual = Callable[[Pixels, Pixels], Float[Tensor, ""]]


class TokenizerLosses(NamedTuple):
    """One batch through the objective."""

    losses: Losses
    """Unweighted, by name."""
    reconstruction: Pixels
    """Without its graph: what the discriminators' own step takes for fake."""
    adaptive_weight: Float[Tensor, ""]
    """Factor of all adversarial losses; 1 where it is not in use."""


class TokenizerObjective(nn.Module):
    """A video to unweighted losses by name.

    A loss must pass through the `forward` of the module that is prepared for data-parallel training, or its
    gradients are not synchronized between processes; so the losses are computed here and weighted outside.

    The perceptual network, frozen, is a part of this module. The discriminators are not: they have an objective, a
    prepared module and an optimizer of their own, and are handed over at each call as they are, unwrapped. No gradient
    stays behind in them.
    """

    def __init__(
        self, tokenizer: VideoTokenizer, perceptual: nn.Module | None = None, *, adaptive_weight: bool = False
    ) -> None:
        """
        Args:
            perceptual: called with reconstruction and video; gives a scalar.
            adaptive_weight: measure at the decoder's last layer how strongly the adversary may pull.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.perceptual = perceptual
        self.adaptive_weight = adaptive_weight

    def forward(
        self,
        video: Pixels,
        discriminators: DiscriminatorObjective | None = None,
        *,
        cond: Condition | None = None,
        inverse_temperature: float | None = None,
        phase: int = 0,
    ) -> TokenizerLosses:
        """The loss `reconstruction`, the quantizer's (`commitment`, `sample_entropy` and `codebook_entropy`, but none
        for FSQ), then `perceptual` and one `adversarial_i` for each discriminator, where there are such networks.

        Args:
            cond: as in `VideoTokenizer.encode`.
            inverse_temperature: of the entropies, in place of the config's.
            phase: as in `VideoDiscriminator.forward`.
        """
        output = self.tokenizer.autoencode(video, cond)
        losses = self.tokenizer.losses(video, output, inverse_temperature=inverse_temperature)
        judged = Judged(output.reconstruction)
        if self.perceptual is not None:
            losses["perceptual"] = judged.keep("perceptual", self.perceptual(judged.picture, video))
        if discriminators is None:
            return TokenizerLosses(losses, output.reconstruction.detach(), video.new_ones(()))

        for index, loss in enumerate(discriminators.generator_losses(judged.picture, phase)):
            losses[f"adversarial_{index}"] = judged.keep(f"adversarial_{index}", loss)
        adaptive_weight = video.new_ones(())
        if self.adaptive_weight and torch.is_grad_enabled():
            adaptive_weight = self._adaptive_weight(losses["reconstruction"], judged, discriminators.weights)
        return TokenizerLosses(losses, output.reconstruction.detach(), adaptive_weight)

    def _adaptive_weight(
        self, reconstruction_loss: Float[Tensor, ""], judged: "Judged", weights: list[float]
    ) -> Float[Tensor, ""]:
        """Pixels and perception against the adversary, each as weighted in the total."""
        of_losses = self.tokenizer.config.loss_weights
        (gradient,) = torch.autograd.grad(reconstruction_loss, judged.reconstruction, retain_graph=True)
        pixels = of_losses.reconstruction * gradient
        if self.perceptual is not None:
            pixels = pixels + of_losses.perceptual * judged.gradients["perceptual"]
        adversarial = sum(
            (weight * judged.gradients[f"adversarial_{index}"] for index, weight in enumerate(weights)),
            start=torch.zeros_like(pixels),
        )
        at_last_layer = [
            torch.autograd.grad(judged.reconstruction, self.tokenizer.last_weight, side, retain_graph=True)[0]
            for side in (pixels, adversarial)
        ]
        return adaptive_adversarial_weight(*at_last_layer)


class Judged:
    """A reconstruction before networks that are not trained with it.

    The gradient of each loss by the pixels is computed at once and kept: the network's activations are then free
    before those of the next one and before the tokenizer's backward pass, its parameters never see a gradient, and the
    adaptive weight costs no second pass through it. (A gradient scaler does not reach these gradients: with
    mixed precision choose bfloat16, which needs none.)
    """

    def __init__(self, reconstruction: Pixels) -> None:
        self.reconstruction = reconstruction
        self.picture = reconstruction.detach().requires_grad_(torch.is_grad_enabled())
        self.gradients: dict[str, Pixels] = {}

    def keep(self, name: str, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """`loss`, which was computed from `picture`, as a function of the reconstruction."""
        if not torch.is_grad_enabled():
            return loss
        with torch.autocast(loss.device.type, enabled=False):
            (self.gradients[name],) = torch.autograd.grad(loss, self.picture)
        return WithGradient.apply(self.reconstruction, loss.detach(), self.gradients[name])  # type: ignore[no-any-return]


class WithGradient(torch.autograd.Function):
    """A scalar that is known already, with its gradient."""

    @staticmethod
    def forward(ctx: Any, argument: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None

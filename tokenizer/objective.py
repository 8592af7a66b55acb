"""Objective of stage one: the tokenizer and its losses as one module for data-parallel training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .adversarial import DiscriminatorObjective, adaptive_adversarial_weight
from .autocast import without_autocast
from .discriminator import frames_seen
from .inputs import Condition
from .losses import Losses
from .model import VideoTokenizer

Pixels = Float[Tensor, "b c T H W"]
Perceptual = Callable[[Pixels, Pixels], Float[Tensor, ""]]


class TokenizerLosses(NamedTuple):
    """Result of `TokenizerObjective`."""

    losses: Losses
    """Unweighted losses by name."""
    reconstruction: Pixels
    """Detached: the fake clips for the discriminator update."""
    adaptive_weight: Float[Tensor, ""]
    """Factor of all adversarial losses, 1 if unused."""


class TokenizerObjective(nn.Module):
    """Computes the unweighted losses of a video.

    Losses must be computed in the `forward` of the module that is wrapped for data-parallel training, otherwise their
    gradients are not synchronized between processes. The caller weights them.

    The frozen perceptual network is a part of this module. The discriminators have their own objective, data-parallel
    wrapper and optimizer. Their objective is passed to each call without the wrapper and receives no gradients.
    """

    def __init__(
        self,
        tokenizer: VideoTokenizer,
        perceptual: nn.Module | None = None,
        *,
        perceptual_stride: int = 1,
        adaptive_weight: bool = False,
    ) -> None:
        """
        Args:
            perceptual: perceptual loss, called with reconstruction and video. None: no such loss.
            perceptual_stride: the perceptual loss sees every `perceptual_stride`-th frame, with an offset of `phase`.
            adaptive_weight: compute the adaptive weight of the adversarial losses (VQGAN).
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.perceptual = perceptual
        self.perceptual_stride = perceptual_stride
        self.adaptive_weight = adaptive_weight

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoder, the decoder and the perceptual network, each as one graph.

        The losses stay outside: they take little time, and the codebook entropy has many chunks, exchanges between
        processes, and a sharpness that changes from step to step. With the adaptive weight, the layers of the decoder
        are compiled one by one, without the last, since gradients are computed from there on several times.

        Args:
            args, kwargs: arguments of `torch.compile`.
        """
        decoder = self.tokenizer.decoder
        parts = [self.tokenizer.encoder, *([*decoder][:-1] if self.adaptive_weight else [decoder])]
        for part in parts if self.perceptual is None else [*parts, self.perceptual]:
            part.compile(*args, **kwargs)

    def forward(
        self,
        video: Pixels,
        discriminators: DiscriminatorObjective | None = None,
        *,
        cond: Condition | None = None,
        inverse_temperature: float | None = None,
        phase: int = 0,
    ) -> TokenizerLosses:
        """Return the losses: `reconstruction`, `commitment`, and except for FSQ, `sample_entropy` and
        `codebook_entropy`; with a perceptual network, `perceptual`; and `adversarial_i` for each discriminator.

        Args:
            cond: as in `VideoTokenizer.encode`.
            inverse_temperature: sharpness of the entropies. None: that of the config.
            phase: as in `VideoDiscriminator.forward`.
        """
        output = self.tokenizer.autoencode(video, cond)
        losses = self.tokenizer.losses(video, output, inverse_temperature=inverse_temperature)
        judged = Judged(output.reconstruction)
        if self.perceptual is not None:
            seen = [frames_seen(frames, self.perceptual_stride, phase) for frames in (judged.picture, video)]
            losses["perceptual"] = judged.keep("perceptual", self.perceptual(*seen))
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
        """Return the adaptive weight, from the gradients of the weighted losses at the last layer of the decoder."""
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
    """A reconstruction as the input of networks that are not trained together with the tokenizer.

    The gradient of each loss with respect to the pixels is computed immediately and kept. So the activations of a
    network are freed before the next one and before the backward pass of the tokenizer, its parameters receive no
    gradient, and the adaptive weight needs no second backward pass. A gradient scaler does not affect these gradients:
    use bfloat16 for mixed precision, which needs none. Training refuses fp16 for this reason.
    """

    def __init__(self, reconstruction: Pixels) -> None:
        self.reconstruction = reconstruction
        self.picture = reconstruction.detach().requires_grad_(torch.is_grad_enabled())
        self.gradients: dict[str, Pixels] = {}

    def keep(self, name: str, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return `loss`, computed from `picture`, with its gradient with respect to the reconstruction."""
        if not torch.is_grad_enabled():
            return loss
        with without_autocast(loss.device):
            (self.gradients[name],) = torch.autograd.grad(loss, self.picture)
        return WithGradient.apply(self.reconstruction, loss.detach(), self.gradients[name])  # type: ignore[no-any-return]


class WithGradient(torch.autograd.Function):
    """Scalar with a known value and gradient."""

    @staticmethod
    def forward(ctx: Any, argument: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None

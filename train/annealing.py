"""How the entropies of stage one are eased in."""

from dataclasses import dataclass, replace

from ..tokenizer import TokenizerLossWeights


@dataclass(frozen=True, kw_only=True)
class AnnealingConfig:
    """The entropies' weight and sharpness on their way to those of the model's config. By default they stay there.

    Both are functions of the step: there is nothing to resume.
    """

    entropy_factor: float = 1.0
    """What multiplies the weights of both entropies at the start, falling to 1 in a line; the paper has 3."""
    inverse_temperature: float | None = None
    """The sharpness at the start, changing by the same factor at each step; None: the model's from the first."""
    num_steps: int = 2000
    """Steps until both are what the model's config says."""

    def __post_init__(self) -> None:
        if self.entropy_factor < 0:
            raise ValueError(f"entropy_factor must not be negative, got {self.entropy_factor}")
        if self.inverse_temperature is not None and self.inverse_temperature <= 0:
            raise ValueError(f"inverse_temperature must be positive, got {self.inverse_temperature}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def loss_weights_at(self, step: int, final: TokenizerLossWeights) -> TokenizerLossWeights:
        """The weights at a step, from 0, on the way to `final`."""
        factor = 1 + (self.entropy_factor - 1) * self._remaining_at(step)
        return replace(
            final,
            sample_entropy=factor * final.sample_entropy,
            codebook_entropy=factor * final.codebook_entropy,
        )

    def inverse_temperature_at(self, step: int, final: float) -> float:
        """The sharpness at a step, from 0, on the way to `final`."""
        if self.inverse_temperature is None:
            return final
        return final * (self.inverse_temperature / final) ** self._remaining_at(step)

    def _remaining_at(self, step: int) -> float:
        return max(0.0, 1 - step / self.num_steps)

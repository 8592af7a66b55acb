"""Schedule of the entropy losses of the tokenizer."""

from dataclasses import dataclass, replace

from ..tokenizer import TokenizerLossWeights


@dataclass(frozen=True, kw_only=True)
class AnnealingConfig:
    """Schedule of the entropy weights and of the inverse temperature. By default both are constant.

    Both are functions of the step, so checkpoints do not store them.
    """

    entropy_factor: float = 1.0
    """Factor of both entropy weights at the first step. It falls linearly to 1. The paper uses 3."""
    inverse_temperature: float | None = None
    """Inverse temperature at the first step. It changes exponentially to `model.inverse_temperature`. None: it is
    constant."""
    num_steps: int = 2000
    """Length of the schedule in steps."""

    def __post_init__(self) -> None:
        if self.entropy_factor < 0:
            raise ValueError(f"entropy_factor must not be negative, got {self.entropy_factor}")
        if self.inverse_temperature is not None and self.inverse_temperature <= 0:
            raise ValueError(f"inverse_temperature must be positive, got {self.inverse_temperature}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def loss_weights_at(self, step: int, final: TokenizerLossWeights) -> TokenizerLossWeights:
        """Return the loss weights at a step, counted from 0. `final` are those after the schedule."""
        factor = 1 + (self.entropy_factor - 1) * self._remaining_at(step)
        return replace(
            final,
            sample_entropy=factor * final.sample_entropy,
            codebook_entropy=factor * final.codebook_entropy,
        )

    def inverse_temperature_at(self, step: int, final: float) -> float:
        """Return the inverse temperature at a step, counted from 0. `final` is the one after the schedule."""
        if self.inverse_temperature is None:
            return final
        return final * (self.inverse_temperature / final) ** self._remaining_at(step)

    def _remaining_at(self, step: int) -> float:
        return max(0.0, 1 - step / self.num_steps)

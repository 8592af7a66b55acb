"""The two entropies of lookup-free quantization, exact at any codebook size (MAGVIT-v2, section 3.1).

With p(code | z) proportional to exp(2 t <z, corner>), corners in {-1, +1}^k and t the inverse temperature
(the convention of vector-quantize-pytorch), the k bits are independent and bit i is set with probability
sigmoid(4 t z_i). So the entropy of one assignment is a sum over bits, and the mean assignment over N latents
is a matrix product of two factors, one for each half of the bits: no N x 2^k table is ever built.
"""

from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..devices import built_once
from .autocast import without_autocast

# Latents are taken in chunks, whose factors are recomputed in the backward pass. On a CPU a chunk fits into the cache.
# On another device it is as large as this many bytes allow, since each chunk costs some 20 to 40 launches.
LATENTS_AT_A_TIME = 512
WORKSPACE_BYTES = 2**30


def sample_entropy(latents: Float[Tensor, "b k *grid"], inverse_temperature: float) -> Float[Tensor, ""]:
    """Return the mean entropy of p(code | latent) in nats. It should be low."""
    with without_autocast(latents.device):
        logits = (4 * inverse_temperature * at_least_float32(latents)).abs()  # entropy does not depend on the sign
        bit_entropy = F.softplus(-logits) + logits * (-logits).sigmoid()
        return bit_entropy.sum(dim=1).mean()


def codebook_entropy(latents: Float[Tensor, "b k *grid"], inverse_temperature: float) -> Float[Tensor, ""]:
    """Return the entropy of the mean of p(code | latent) in nats. It should be high, so that all codes are used.

    The mean is over the latents of all processes.
    """
    with without_autocast(latents.device):
        logits = rearrange(4 * inverse_temperature * at_least_float32(latents), "b k ... -> (b ...) k")
        probability = mean_over_processes(mean_assignment(logits))
        tiny = torch.finfo(probability.dtype).tiny
        return -(probability * probability.clamp_min(tiny).log()).sum()


def mean_assignment(logits: Float[Tensor, "n k"]) -> Float[Tensor, "first second"]:
    """Return the mean probability of each code. The row is its higher bits, the column its lower bits."""
    return MeanAssignment.apply(logits)  # type: ignore[no-any-return]


class MeanAssignment(torch.autograd.Function):
    """A^T B / N. Row n of A (B) holds the probability of each word, a value of the first (second) half of the bits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        first_bits = logits.shape[1] // 2
        second_bits = logits.shape[1] - first_bits
        total = logits.new_zeros(2**first_bits, 2**second_bits)
        for chunk in logits.split(chunk_size(logits, num_tables=2)):
            first, second = bit_probabilities(chunk).split([first_bits, second_bits], dim=1)
            total.addmm_(word_probabilities(first).T, word_probabilities(second))
        return total.div_(len(logits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (logits,) = ctx.saved_tensors
        with without_autocast(logits.device):  # a backward pass may run under it, too
            # Probabilities sum to one, so a constant in `grad` has no effect; subtracting it reduces rounding errors.
            grad = (grad - grad.mean()) / len(logits)
            first_bits, second_bits = (int(size).bit_length() - 1 for size in grad.shape)
            tables = [bits_of_words(num_bits, grad.dtype, grad.device) for num_bits in (first_bits, second_bits)]
            grad_logits = torch.empty_like(logits)
            size = chunk_size(logits, num_tables=4)
            for chunk, grad_chunk in zip(logits.split(size), grad_logits.split(size), strict=True):
                first, second = bit_probabilities(chunk).split([first_bits, second_bits], dim=1)
                words_first, words_second = word_probabilities(first), word_probabilities(second)
                grad_first = (words_second @ grad.T).mul_(words_first)
                grad_second = (words_first @ grad).mul_(words_second)
                grad_chunk[:, :first_bits] = bit_gradient(first, grad_first, tables[0])
                grad_chunk[:, first_bits:] = bit_gradient(second, grad_second, tables[1])
        return grad_logits


def chunk_size(logits: Float[Tensor, "n k"], *, num_tables: int) -> int:
    """Return how many latents to take at a time.

    Args:
        num_tables: number of tables with a row for each latent and a column for each word that exist at once.
    """
    if logits.device.type == "cpu":
        return LATENTS_AT_A_TIME
    longest = -(-logits.shape[1] // 2)
    return max(1, WORKSPACE_BYTES // (num_tables * 2**longest * logits.element_size()))


def bit_probabilities(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k 2"]:
    """Return the probabilities that each bit is not set and that it is."""
    return torch.stack([-logits, logits], dim=-1).sigmoid_()


def word_probabilities(bits: Float[Tensor, "n k 2"]) -> Float[Tensor, "n words"]:
    """Return the probability of each of the 2^k words of independent bits. The first bit is the highest."""
    num_bits = bits.shape[1]
    if num_bits == 0:
        return bits.new_ones(len(bits), 1)
    if num_bits == 1:
        return bits[:, 0]
    first, second = (word_probabilities(half) for half in bits.chunk(2, dim=1))
    return (first[:, :, None] * second[:, None, :]).flatten(1)


@built_once
def bits_of_words(num_bits: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "words columns"]:
    """Return for each word its bits, the highest first, and their complements."""
    places = torch.arange(num_bits - 1, -1, -1, device=device)
    is_set = (torch.arange(2**num_bits, device=device)[:, None] >> places & 1).to(dtype)
    return torch.cat([is_set, 1 - is_set], dim=1)


def bit_gradient(
    bits: Float[Tensor, "n k 2"], weighted: Float[Tensor, "n words"], table: Float[Tensor, "words 2*k"]
) -> Float[Tensor, "n k"]:
    """Return the gradient of the logits, given the gradients of the words times their probabilities.

    d log p(word) / d logit is 1 - p(bit) where the word has the bit, and -p(bit) where it does not.
    """
    is_set, is_not = (weighted @ table).chunk(2, dim=1)
    return is_set * bits[..., 0] - is_not * bits[..., 1]


class MeanOverProcesses(torch.autograd.Function):
    """Mean over processes, for a loss that is the same in every process."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return reduced_mean(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        # The gradient is the same in every process. Data-parallel training averages the gradients of parameters over
        # processes, which supplies the factor 1 / (number of processes) of the mean.
        return reduced_mean(grad)


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of `value` over all processes, with the gradient for data-parallel training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return MeanOverProcesses.apply(value)  # type: ignore[no-any-return]
    return value


def reduced_mean(value: Tensor) -> Tensor:
    """Return the mean of `value` over all processes, without gradient."""
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def at_least_float32(latents: Tensor) -> Tensor:
    """Convert to float32, except for float64."""
    return latents if latents.dtype == torch.float64 else latents.float()

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

from .autocast import without_autocast

LATENTS_AT_A_TIME = 512  # both factors of a chunk fit into the cache; they are recomputed in the backward pass


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
        for chunk in logits.split(LATENTS_AT_A_TIME):
            first, second = chunk.split([first_bits, second_bits], dim=1)
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
            tables = bits_of_words(first_bits, grad), bits_of_words(second_bits, grad)
            grad_logits = torch.empty_like(logits)
            chunks = zip(logits.split(LATENTS_AT_A_TIME), grad_logits.split(LATENTS_AT_A_TIME), strict=True)
            for chunk, grad_chunk in chunks:
                first, second = chunk.split([first_bits, second_bits], dim=1)
                words_first, words_second = word_probabilities(first), word_probabilities(second)
                grad_first = (words_second @ grad.T).mul_(words_first)
                grad_second = (words_first @ grad).mul_(words_second)
                grad_chunk[:, :first_bits] = bit_gradient(first, grad_first, tables[0])
                grad_chunk[:, first_bits:] = bit_gradient(second, grad_second, tables[1])
        return grad_logits


def word_probabilities(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n words"]:
    """Return the probability of each of the 2^k words of independent bits. The first bit is the highest."""
    num_bits = logits.shape[1]
    if num_bits == 0:
        return logits.new_ones(len(logits), 1)
    if num_bits == 1:
        return torch.cat([-logits, logits], dim=1).sigmoid_()
    first, second = (word_probabilities(half) for half in logits.chunk(2, dim=1))
    return (first[:, :, None] * second[:, None, :]).flatten(1)


def bits_of_words(num_bits: int, like: Tensor) -> Float[Tensor, "words columns"]:
    """Return for each word its bits, the highest first, and their complements."""
    places = torch.arange(num_bits - 1, -1, -1, device=like.device)
    is_set = (torch.arange(2**num_bits, device=like.device)[:, None] >> places & 1).to(like.dtype)
    return torch.cat([is_set, 1 - is_set], dim=1)


def bit_gradient(
    logits: Float[Tensor, "n k"], weighted: Float[Tensor, "n words"], bits: Float[Tensor, "words 2*k"]
) -> Float[Tensor, "n k"]:
    """Return the gradient of the logits, given the gradients of the words times their probabilities.

    d log p(word) / d logit is 1 - p(bit) where the word has the bit, and -p(bit) where it does not.
    """
    is_set, is_not = (weighted @ bits).chunk(2, dim=1)
    return is_set * (-logits).sigmoid() - is_not * logits.sigmoid()


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

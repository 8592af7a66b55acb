"""Iterative decoding: hidden codes are generated in a few passes (MaskGIT, section 3.2)."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..choices import whole_number
from .checks import check_integers
from .factorization import join_codes
from .masking import MaskSchedule, cosine_schedule, lowest, num_hidden_after_each_pass
from .orders import ConfidenceOrder, Order, Proposal
from .seeds import sample_generators
from .sub_code_heads import Logits, logits_given

PredictLogits = Callable[[Int[Tensor, "b t h w"], float], Logits]
"""Function from codes, some of them hidden, and the progress of the pass, in (0, 1], to logits."""

SUREST_FIRST = ConfidenceOrder()
DRAW_BITS = 31
"""Number of bits of random numbers and of probabilities, so that the product of two fits into 64 bits."""


@torch.no_grad()
def iterative_decode(
    predict_logits: PredictLogits,
    codes: Int[Tensor, "b t h w"],
    *,
    mask_id: int,
    vocab_sizes: tuple[int, ...],
    generators: torch.Generator | Sequence[torch.Generator],
    condition_codes: Int[Tensor, "b t h w"] | None = None,
    num_steps: int = 12,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    order: Order = SUREST_FIRST,
    schedule: MaskSchedule = cosine_schedule,
    callback: Callable[[int, Int[Tensor, "b t h w"]], None] | None = None,
) -> Int[Tensor, "b t h w"]:
    """Generate all hidden codes in at most `num_steps` passes.

    Each pass proposes a code for every hidden position and then hides the positions with the lowest scores (`order`)
    again. The schedule gives the number of hidden codes; it decreases by at least one in each pass. Given codes never
    change.

    Args:
        predict_logits: the model with its conditions and guidance, or any function of the codes and the progress.
        codes: given codes, and `mask_id` where codes are to be generated.
        vocab_sizes: number of values of each sub-code of the logits.
        generators: on the CPU; one for each sample, or one that draws a seed for each sample. The noise of a sample
            depends on its generator only, not on the device or on the other samples.
        condition_codes: approximate codes, which `predict_logits` gets instead of hidden codes; `mask_id` where there
            are none (MAGVIT, COMMIT).
        temperature: divides the logits.
        top_k: sample each sub-code only from its `top_k` most likely values.
        top_p: sample each sub-code from the smallest set of most likely values with at least this probability. It is
            applied after `top_k`.
        callback: called after each pass with its index and the codes, some of them hidden.

    Raises:
        ValueError: if codes are not integers, if an argument is out of range, if logits do not fit `vocab_sizes`, or if
            logits are invalid (see `sample_codes`) or scores are NaN.
    """
    _check_settings(num_steps, temperature, top_k, top_p)
    _check_codes(codes, condition_codes, mask_id, vocab_sizes)
    _, t, h, w = codes.shape
    filled = rearrange(codes, "b t h w -> b (t h w)")
    is_given = filled != mask_id
    condition = torch.full_like(codes, mask_id) if condition_codes is None else condition_codes.to(codes)
    draws, chances = draw_noise(generators, len(codes), (num_steps, t * h * w, len(vocab_sizes)))
    draws, chances = draws.to(codes.device), chances.to(codes.device)

    counts = num_hidden_after_each_pass((~is_given).sum(dim=-1).cpu(), num_steps, schedule)
    for step, (num_before, num_after) in enumerate(pairwise(counts)):
        if not num_before.any():
            break
        progress = (step + 1) / num_steps
        is_masked = filled == mask_id
        shown = torch.where(is_masked, rearrange(condition, "b t h w -> b (t h w)"), filled)
        logits = predict_logits(rearrange(shown, "b (t h w) -> b t h w", t=t, h=h), progress)
        sampled, log_prob = sample_codes(logits, vocab_sizes, draws[:, step], temperature, top_k, top_p)

        filled = torch.where(is_masked, sampled.to(filled.dtype), filled)
        grid = rearrange(filled, "b (t h w) -> b t h w", t=t, h=h)
        log_prob = log_prob.masked_fill(~is_masked, 0)
        stay = order(Proposal(grid, log_prob, is_masked, chances[:, step], progress, chances[:, 0]))
        if stay.isnan().any():
            raise ValueError(f"scores of {type(order).__name__} must be numbers, got NaN")
        may_be_hidden = ~is_given if order.revises else is_masked
        filled = filled.masked_fill(lowest(stay, num_after.to(stay.device), may_be_hidden), mask_id)
        if callback is not None:
            callback(step, rearrange(filled, "b (t h w) -> b t h w", t=t, h=h))
    return rearrange(filled, "b (t h w) -> b t h w", t=t, h=h).clone()


def sample_codes(
    logits: Logits,
    vocab_sizes: tuple[int, ...],
    draws: Int[Tensor, "b n g"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Sample a code for each position, one sub-code after another, and return the codes and their log-probabilities.

    The log-probability is computed from the logits without temperature, `top_k` and `top_p`: with them, all proposals
    would have almost the same confidence at low temperatures or for few values.

    Args:
        draws: random integers, uniform in [0, 2**DRAW_BITS). A sub-code is the first value whose cumulative
            probability, times 2**DRAW_BITS, exceeds its integer.

    Raises:
        ValueError: if logits do not fit `vocab_sizes`, if they contain NaN or +inf, or if all are -inf at a position.
    """
    sub_codes, log_probs = [], []
    if len(logits) != len(vocab_sizes):
        raise ValueError(f"there must be logits for {len(vocab_sizes)} sub-codes, got {len(logits)}")
    for of_sub_code, size, draw in zip(logits, vocab_sizes, draws.unbind(dim=-1), strict=True):
        group = logits_given(of_sub_code, sub_codes).float()
        if group.shape[-1] != size:
            raise ValueError(f"sub-code {len(sub_codes)} requires {size} logits, got {group.shape[-1]}")
        largest = group.amax(dim=-1, keepdim=True)
        if not largest.is_meta and not largest.isfinite().all():
            raise ValueError("logits must not be NaN or +inf, and not all -inf at a position")
        coldest = torch.finfo(group.dtype).tiny
        probability = (group - largest).div_(max(temperature, coldest)).softmax(dim=-1)
        # Sums of integers are exact. Sums of floating point numbers depend on the order of addition, and so on the
        # device and the batch: their rounding could change which value is drawn.
        weights = probability.mul_(2**DRAW_BITS).round_().long()
        if top_k is not None or top_p is not None:
            weights = keep_likeliest(weights, top_k, top_p)
        cumulative = weights.cumsum(dim=-1)
        threshold = (draw * cumulative[..., -1]) >> DRAW_BITS
        sub_code = torch.searchsorted(cumulative, threshold[..., None], right=True)
        sub_codes.append(sub_code[..., 0])
        log_probs.append(group.gather(-1, sub_code)[..., 0] - group.logsumexp(dim=-1))
    return join_codes(torch.stack(sub_codes, dim=-1), vocab_sizes), torch.stack(log_probs).sum(dim=0)


def keep_likeliest(weights: Int[Tensor, "b n v"], top_k: int | None, top_p: float | None) -> Int[Tensor, "b n v"]:
    """Keep the `top_k` largest weights. Of these, keep only the largest that together reach `top_p` of their total.

    Set all others to 0. Of equal weights, the first are kept. None: no limit.
    """
    largest_first, values = weights.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        largest_first[..., top_k:] = 0
    if top_p is not None:
        before = largest_first.cumsum(dim=-1) - largest_first
        largest_first = largest_first.masked_fill(before >= top_p * largest_first.sum(dim=-1, keepdim=True).float(), 0)
    return torch.zeros_like(weights).scatter(-1, values, largest_first)


def draw_noise(
    generators: torch.Generator | Sequence[torch.Generator], num_samples: int, size: tuple[int, int, int]
) -> tuple[Int[Tensor, "b s n g"], Float[Tensor, "b s n"]]:
    """Draw the random numbers of a decoding on the CPU: integers for each sub-code and uniform noise for each position.

    Each sample draws from its own generator, always the same amount, independent of the other samples.

    Args:
        size: numbers of passes, positions and sub-codes.

    Raises:
        ValueError: if a generator is on another device, or if there is not one for each sample.
    """
    one_each = sample_generators(num_samples, generators=generators)
    draws = [torch.randint(2**DRAW_BITS, size, generator=generator) for generator in one_each]
    chances = [torch.rand(size[:2], generator=generator, dtype=torch.float32) for generator in one_each]
    return torch.stack(draws), torch.stack(chances)


def _check_settings(num_steps: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    whole_number("num_steps", num_steps, 1)
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    if top_k is not None:
        whole_number("top_k", top_k, 1)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")


def _check_codes(codes: Tensor, condition_codes: Tensor | None, mask_id: int, vocab_sizes: tuple[int, ...]) -> None:
    check_integers("codes", codes, mask_id)
    if mask_id < math.prod(vocab_sizes):
        raise ValueError(
            f"mask_id must be at least {math.prod(vocab_sizes)}, the number of codes of sub-codes with "
            f"{list(vocab_sizes)} values, got {mask_id}"
        )
    if condition_codes is None:
        return
    check_integers("condition_codes", condition_codes, mask_id)
    if condition_codes.shape != codes.shape:
        raise ValueError(
            f"condition_codes must have the shape of codes, {tuple(codes.shape)}, got {tuple(condition_codes.shape)}"
        )

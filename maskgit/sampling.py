"""Iterative decoding: hidden codes are filled in a few passes, the surest first (MaskGIT, section 3.2)."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from .checks import check_integers
from .factorization import join_codes
from .masking import MaskSchedule, cosine_schedule, rank

Logits = tuple[Float[Tensor, "b n _"], ...]
"""One array for each sub-code, the places of the grid in row-major order."""
PredictLogits = Callable[[Int[Tensor, "b t h w"]], Logits]


def guide(conditional: Logits, unconditional: Logits, guidance_scale: float) -> Logits:
    """uncond + s (cond - uncond), for each sub-code: exactly the one at s = 0 and the other at s = 1."""
    return tuple(
        torch.lerp(without, with_label, guidance_scale)
        for with_label, without in zip(conditional, unconditional, strict=True)
    )


@torch.no_grad()
def iterative_decode(
    predict_logits: PredictLogits,
    codes: Int[Tensor, "b t h w"],
    *,
    mask_id: int,
    group_bits: tuple[int, ...],
    generators: torch.Generator | Sequence[torch.Generator],
    num_steps: int = 12,
    temperature: float = 1.0,
    choice_temperature: float = 4.5,
    schedule: MaskSchedule = cosine_schedule,
    callback: Callable[[int, Int[Tensor, "b t h w"]], None] | None = None,
) -> Int[Tensor, "b t h w"]:
    """Fill every hidden code in at most `num_steps` passes.

    A pass proposes a code for each hidden place, keeps the proposals that it is surest of and hides the others
    again; every pass settles at least one code of each sample that has any left. Codes that are given from the
    start are never changed.

    Args:
        predict_logits: the model, its label and guidance, or any function of the codes alone.
        codes: `mask_id` where a code is to be filled in.
        group_bits: bits of each sub-code that `predict_logits` gives logits for.
        generators: on the CPU; one, or one for each sample. They alone determine the noise, whatever the device,
            and a sample's does not depend on the samples beside it. (From a single generator sample i takes the
            i-th seed.)
        temperature: divides the logits.
        choice_temperature: scale of the Gumbel noise on the log-probabilities by which the surest proposals are
            chosen; it falls to 0 with the last pass (MAGVIT).
        callback: is called after each pass with its index and the codes, hidden ones among them.

    Raises:
        ValueError: codes that are no integers, an argument out of range, or logits that do not fit `group_bits` or
            are NaN.
    """
    _check_settings(num_steps, temperature, choice_temperature)
    check_integers("codes", codes, mask_id)
    if mask_id < 2 ** sum(group_bits):
        raise ValueError(f"mask_id must be no code of {sum(group_bits)} bits, got {mask_id}")
    noise = _one_for_each(generators, len(codes))
    _, t, h, w = codes.shape
    filled = rearrange(codes, "b t h w -> b (t h w)").clone()

    counts = num_hidden_after_each_pass((filled == mask_id).sum(dim=-1).cpu(), num_steps, schedule)
    for step, (num_before, num_after) in enumerate(pairwise(counts)):
        if not num_before.any():
            break
        logits = predict_logits(rearrange(filled, "b (t h w) -> b t h w", t=t, h=h))
        uniform = torch.stack([torch.rand(t * h * w, len(group_bits) + 1, generator=draw) for draw in noise])
        uniform = uniform.to(codes.device)
        sampled, log_prob = sample_codes(logits, group_bits, temperature, uniform[..., :-1])

        is_masked = filled == mask_id
        chance = choice_temperature * (1 - (step + 1) / num_steps) * gumbel(uniform[..., -1])
        confidence = (log_prob + chance).masked_fill(~is_masked, math.inf)
        is_hidden_again = rank(confidence) < num_after.to(codes.device)[:, None]
        filled = torch.where(is_masked, sampled.to(filled.dtype), filled).masked_fill(is_hidden_again, mask_id)
        if callback is not None:
            callback(step, rearrange(filled, "b (t h w) -> b t h w", t=t, h=h))
    return rearrange(filled, "b (t h w) -> b t h w", t=t, h=h)


def num_hidden_after_each_pass(
    num_hidden: Int[Tensor, " b"], num_steps: int, schedule: MaskSchedule = cosine_schedule
) -> list[Int[Tensor, " b"]]:
    """How many codes of each sample are hidden at the start and after each pass, on the CPU.

    After a pass floor(schedule(progress) * start) are left, at least one fewer than before it, none after the last.
    """
    progress = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    counts = [num_hidden]
    for share in schedule(progress)[:-1]:
        counts.append((share * num_hidden).floor().long().minimum(counts[-1] - 1).clamp(min=0))
    return [*counts, torch.zeros_like(num_hidden)]


def sample_codes(
    logits: Logits, group_bits: tuple[int, ...], temperature: float, uniform: Float[Tensor, "b n g"]
) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
    """A code for each place and its log-probability, each sub-code drawn by itself from softmax(logits / temperature).

    Args:
        uniform: in [0, 1), the chance to draw by: the sub-code at which the cumulative probability passes it.

    Raises:
        ValueError: logits that do not fit `group_bits`, or are NaN.
    """
    sizes = [group.shape[-1] for group in logits]
    if sizes != [2**bits for bits in group_bits]:
        raise ValueError(
            f"sub-codes of {list(group_bits)} bits need {[2**bits for bits in group_bits]} logits, got {sizes}"
        )
    sub_codes, log_probs = [], []
    for group, threshold in zip(logits, uniform.unbind(dim=-1), strict=True):
        group = group.float()
        log_prob = ((group - group.amax(dim=-1, keepdim=True)) / temperature).log_softmax(dim=-1)
        cumulative = log_prob.exp().cumsum(dim=-1)
        passed = cumulative <= threshold[..., None] * cumulative[..., -1:]
        sub_code = passed.sum(dim=-1).clamp(max=group.shape[-1] - 1)
        sub_codes.append(sub_code)
        log_probs.append(log_prob.gather(-1, sub_code[..., None])[..., 0])
    log_prob = torch.stack(log_probs).sum(dim=0)
    if log_prob.isnan().any():
        raise ValueError("the predicted logits hold NaN or nothing but -inf")
    return join_codes(torch.stack(sub_codes, dim=-1), group_bits), log_prob


def gumbel(uniform: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Standard Gumbel noise from uniform noise in [0, 1); always finite."""
    return -(-uniform.clamp(min=torch.finfo(uniform.dtype).tiny).log()).log()


def _one_for_each(generators: torch.Generator | Sequence[torch.Generator], num_samples: int) -> list[torch.Generator]:
    """One generator for each sample."""
    given = [generators] if isinstance(generators, torch.Generator) else list(generators)
    for generator in given:
        if generator.device.type != "cpu":
            raise ValueError(f"generators must be on the CPU, so that a seed means one result; got {generator.device}")
    if isinstance(generators, torch.Generator):
        seeds = torch.randint(2**63 - 1, (num_samples,), generator=generators)
        return [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    if len(given) != num_samples:
        raise ValueError(f"generators must be one, or one for each of {num_samples} samples; got {len(given)}")
    return given


def _check_settings(num_steps: int, temperature: float, choice_temperature: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    if not (choice_temperature >= 0 and math.isfinite(choice_temperature)):
        raise ValueError(f"choice_temperature must be finite and not negative, got {choice_temperature}")

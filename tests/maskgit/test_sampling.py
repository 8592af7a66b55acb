import math
from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import guide, iterative_decode
from magvit2_pytorch.maskgit.factorization import split_codes
from magvit2_pytorch.maskgit.masking import num_hidden_after_each_pass
from magvit2_pytorch.maskgit.orders import ConfidenceOrder, gumbel
from magvit2_pytorch.maskgit.sampling import DRAW_BITS, sample_codes

GROUP_BITS = (3, 2)
MASK = 2**5


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Oracle:
    """Stands in for the model: sure of one answer, and remembers what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer
        self.num_masked: list[list[int]] = []

    def __call__(self, codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        self.num_masked.append((codes == MASK).flatten(1).sum(dim=1).tolist())
        sub_codes = split_codes(self.answer.flatten(1), GROUP_BITS).unbind(dim=-1)
        return tuple(
            torch.nn.functional.one_hot(sub_code, 2**bits).float() * 50
            for sub_code, bits in zip(sub_codes, GROUP_BITS, strict=True)
        )


def wavering(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
    """Stands in for the model: unsure, and of another opinion whenever a code changes."""
    places = torch.arange(codes[0].numel())
    flat = codes.flatten(1)
    context = (flat * (places + 1)).sum(dim=1, keepdim=True) + flat * 7 + places
    return tuple(torch.sin(context[..., None] * (torch.arange(2**bits) + 1.0)) * 2 for bits in GROUP_BITS)


def decode(predict_logits: Any, codes: Tensor, **settings: Any) -> Tensor:
    settings = {"generators": seeded(*range(len(codes))), "mask_id": MASK, "group_bits": GROUP_BITS} | settings
    return iterative_decode(predict_logits, codes, **settings)


def test_the_schedule_decides_how_many_stay_hidden() -> None:
    oracle = Oracle(torch.zeros(1, 4, 5, 5, dtype=torch.long))

    decode(oracle, torch.full((1, 4, 5, 5), MASK), num_steps=4)

    assert oracle.num_masked == [[100], [92], [70], [38]]  # floor(100 cos(pi / 2 step / 4))


def test_samples_with_more_given_have_fewer_to_hide() -> None:
    codes = torch.full((3, 1, 2, 5), MASK)
    codes[1, :, :, :3] = 1
    codes[2] = 1
    oracle = Oracle(torch.zeros_like(codes))

    decode(oracle, codes, num_steps=3)

    assert oracle.num_masked == [[10, 4, 0], [8, 3, 0], [5, 2, 0]]  # floor of 86.6 % and of 50 %


def test_every_pass_settles_a_code_until_none_is_left() -> None:
    codes = torch.full((2, 1, 1, 3), MASK)
    codes[1, 0, 0, 0] = 1
    oracle = Oracle(torch.zeros_like(codes))

    decode(oracle, codes, num_steps=50)

    assert oracle.num_masked == [[3, 2], [2, 1], [1, 0]]


def test_the_last_pass_leaves_nothing_hidden_whatever_the_schedule() -> None:
    counts = num_hidden_after_each_pass(torch.tensor([7, 2]), 4, schedule=torch.ones_like)

    assert torch.stack(counts).tolist() == [[7, 2], [6, 1], [5, 0], [4, 0], [0, 0]]


@pytest.mark.parametrize("num_steps", [1, 2, 12])
def test_the_answer_of_a_sure_model_is_reproduced(num_steps: int) -> None:
    answer = torch.randint(MASK, (3, 2, 3, 4))

    decoded = decode(Oracle(answer), torch.full_like(answer, MASK), num_steps=num_steps)

    assert torch.equal(decoded, answer)


def test_given_codes_are_never_changed() -> None:
    codes = torch.randint(MASK, (3, 2, 3, 4))
    is_hidden = torch.rand(codes.shape) < 0.5
    given = codes.masked_fill(is_hidden, MASK)
    seen: list[Tensor] = []

    decoded = decode(wavering, given, num_steps=5, callback=lambda _, filled: seen.append(filled.clone()))

    assert len(seen) == 5
    assert all(torch.equal(filled[~is_hidden], codes[~is_hidden]) for filled in [*seen, decoded])
    assert (decoded < MASK).all()
    assert (given[is_hidden] == MASK).all()


def test_settled_codes_stay() -> None:
    seen = [torch.full((2, 3, 4, 4), MASK)]

    decoded = decode(wavering, seen[0], num_steps=6, callback=lambda _, filled: seen.append(filled))

    for before, after in zip(seen, [*seen[1:], decoded], strict=True):
        assert torch.equal(after[before < MASK], before[before < MASK])
    assert torch.equal(seen[-1], decoded)


def test_nothing_is_asked_where_nothing_is_hidden() -> None:
    codes = torch.randint(MASK, (2, 1, 2, 2))
    oracle = Oracle(codes)

    decoded = decode(oracle, codes)

    assert oracle.num_masked == []
    assert torch.equal(decoded, codes)
    assert decoded.data_ptr() != codes.data_ptr()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    codes = torch.full((4, 2, 3, 3), MASK)
    codes[1, 0] = 5
    together = decode(wavering, codes, generators=seeded(5, 6, 7, 8))

    for sample, seed in enumerate((5, 6, 7, 8)):
        alone = decode(wavering, codes[sample : sample + 1], generators=seeded(seed))
        assert torch.equal(alone[0], together[sample])


def test_one_generator_gives_each_sample_noise_of_its_own() -> None:
    codes = torch.full((5, 2, 3, 3), MASK)

    together = decode(wavering, codes, generators=torch.Generator().manual_seed(1))
    fewer = decode(wavering, codes[:2], generators=torch.Generator().manual_seed(1))

    assert len(together.flatten(1).unique(dim=0)) == 5
    assert torch.equal(together[:2], fewer)


def test_the_generators_alone_decide() -> None:
    codes = torch.full((2, 2, 3, 3), MASK)

    torch.manual_seed(1)
    first = decode(wavering, codes)
    torch.manual_seed(2)

    assert torch.equal(decode(wavering, codes), first)
    assert not torch.equal(decode(wavering, codes, generators=seeded(8, 9)), first)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sub_codes_are_drawn_independently_each_from_its_softmax(temperature: float) -> None:
    groups = torch.randn(2**3) * 1.5, torch.randn(2**2) * 1.5
    num_draws = 40_000
    codes = torch.full((1, 1, 200, 200), MASK)

    decoded = decode(
        lambda codes, progress: tuple(group.expand(1, num_draws, -1) for group in groups),
        codes,
        num_steps=1,
        temperature=temperature,
    )

    expected = torch.outer(*((group / temperature).softmax(dim=0) for group in groups)).flatten()
    frequency = decoded.flatten().bincount(minlength=MASK) / num_draws
    deviation = (frequency - expected).abs() / (expected * (1 - expected) / num_draws).sqrt()
    assert deviation.max() < 4.5


def test_the_confidence_is_the_log_probability_of_the_whole_code() -> None:
    logits = (torch.randn(2, 50, 8), torch.randn(2, 50, 4))

    codes, log_prob = sample_codes(logits, GROUP_BITS, torch.randint(2**DRAW_BITS, (2, 50, 2)), temperature=0.7)

    joint = torch.einsum("bnv,bnw->bnvw", *(group.softmax(dim=-1) for group in logits)).flatten(2)
    torch.testing.assert_close(log_prob, joint.gather(-1, codes[..., None])[..., 0].log())


@pytest.mark.parametrize("draw", [0, 2 ** (DRAW_BITS - 1), 2**DRAW_BITS - 1])
def test_impossible_codes_are_never_drawn(draw: int) -> None:
    first, second = torch.full((1, 1, 8), -math.inf), torch.full((1, 1, 4), -math.inf)
    first[..., 3], first[..., 5] = 0.3, -0.2  # so cold that the second never comes
    second[..., 1] = 4.0

    codes, _ = sample_codes((first, second), GROUP_BITS, torch.full((1, 1, 2), draw), temperature=1e-3)

    assert codes.item() == 0b011_01


def test_without_noise_the_surest_are_settled_first() -> None:
    sureness = torch.tensor([9.0, 12.0, 8.0, 11.0, 10.0, 13.0])
    seen: list[Tensor] = []

    decode(
        lambda codes, progress: (torch.stack([sureness, torch.zeros(6)], dim=-1)[None],),
        torch.full((1, 1, 1, 6), 2),
        mask_id=2,
        group_bits=(1,),
        num_steps=3,
        order=ConfidenceOrder(0.0),
        callback=lambda _, filled: seen.append(filled.flatten() == 2),
    )

    still_hidden = [mask.nonzero().flatten().tolist() for mask in seen]
    assert still_hidden == [[0, 1, 2, 3, 4], [0, 2, 4], []]


def test_the_choice_temperature_brings_chance_into_the_order() -> None:
    ever_surer = torch.stack([9 + 0.1 * torch.arange(20), torch.zeros(20)], dim=-1)

    def first_settled(choice_temperature: float, seed: int) -> int:
        seen: list[Tensor] = []
        decode(
            lambda codes, progress: (ever_surer[None],),
            torch.full((1, 1, 1, 20), 2),
            mask_id=2,
            group_bits=(1,),
            num_steps=20,
            order=ConfidenceOrder(choice_temperature),
            generators=seeded(seed),
            callback=lambda _, filled: seen.append(filled.flatten() < 2),
        )
        return int(seen[0].nonzero()[0])

    assert {first_settled(0.0, seed) for seed in range(6)} == {19}
    assert len({first_settled(50.0, seed) for seed in range(6)}) > 3


def test_the_gumbel_noise_has_its_mean_and_spread_and_is_finite() -> None:
    noise = gumbel(torch.rand(100, 1000, generator=torch.Generator().manual_seed(0)))

    assert abs(noise.mean() - 0.5772) < 0.02
    assert abs(noise.std() - math.pi / math.sqrt(6)) < 0.02
    assert gumbel(torch.tensor([[0.0, 1 - 2**-24]])).isfinite().all()


def test_guidance_goes_from_the_unconditional_through_the_conditional_and_beyond() -> None:
    conditional, unconditional = ((torch.randn(2, 3, 8), torch.randn(2, 3, 4)) for _ in range(2))

    for scale, group in ((0.0, unconditional), (1.0, conditional)):
        assert all(torch.equal(a, b) for a, b in zip(guide(conditional, unconditional, scale), group, strict=True))
    for guided, cond, uncond in zip(guide(conditional, unconditional, 2.5), conditional, unconditional, strict=True):
        torch.testing.assert_close(guided, uncond + 2.5 * (cond - uncond))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"temperature": math.inf}, "temperature must be positive and finite, got inf"),
        ({"mask_id": 31}, "codes must be in"),
        ({"group_bits": (3, 3)}, "mask_id must be no code of 6 bits, got 32"),
        ({"group_bits": (2, 3)}, r"need \[4, 8\] logits, got \[8, 4\]"),
        ({"group_bits": (5,)}, r"need \[32\] logits, got \[8, 4\]"),
        ({"generators": seeded(1)}, "one for each of 2 samples; got 1"),
    ],
)
def test_what_cannot_be_is_refused_in_words(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(wavering, torch.full((2, 1, 2, 2), MASK), **settings)


def test_a_model_that_has_diverged_is_named() -> None:
    def diverged(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        return tuple(group * math.nan for group in wavering(codes, progress))

    with pytest.raises(ValueError, match="NaN"):
        decode(diverged, torch.full((1, 1, 2, 2), MASK))

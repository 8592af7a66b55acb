import itertools
import math
import random
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import MaskGit, iterative_decode
from magvit2_pytorch.maskgit.factorization import split_codes
from magvit2_pytorch.maskgit.masking import SCHEDULES, MaskSchedule, num_hidden_after_each_pass
from magvit2_pytorch.maskgit.orders import ConfidenceOrder, CriticOrder, HaltonOrder, Order, Proposal, RandomOrder
from magvit2_pytorch.maskgit.sampling import DRAW_BITS, draw_noise, keep_likeliest, sample_codes

VOCAB_SIZES = (8, 4)
MASK = 2**5
TIE = 1e-5


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Oracle:
    """Stands in for the model: sure of one answer, and remembers what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer
        self.num_masked: list[list[int]] = []
        self.progress: list[float] = []

    def __call__(self, codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        self.num_masked.append((codes == MASK).flatten(1).sum(dim=1).tolist())
        self.progress.append(progress)
        sub_codes = split_codes(self.answer.flatten(1), VOCAB_SIZES).unbind(dim=-1)
        return tuple(
            torch.nn.functional.one_hot(sub_code, size).float() * 50
            for sub_code, size in zip(sub_codes, VOCAB_SIZES, strict=True)
        )


def wavering(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
    """Stands in for the model: unsure, and of another opinion whenever a code changes."""
    places = torch.arange(codes[0].numel())
    flat = codes.flatten(1)
    context = (flat * (places + 1)).sum(dim=1, keepdim=True) + flat * 7 + places
    return tuple(torch.sin(context[..., None] * (torch.arange(size) + 1.0)) * 2 for size in VOCAB_SIZES)


def moody(codes: Tensor) -> Tensor:
    """Stands in for the critic: of another opinion whenever a code changes."""
    flat = codes.flatten(1)
    return torch.sin(flat * 3.0 + flat.sum(dim=1, keepdim=True) + torch.arange(flat.shape[1])) * 3


class Extreme:
    """An order that puts codes infinitely high and low."""

    revises: ClassVar[bool] = True

    def __call__(self, proposal: Proposal) -> Tensor:
        return torch.tensor([-math.inf, 0.0, math.inf])[(proposal.chance * 3).long()]


ORDERS: dict[str, Order] = {
    "confidence": ConfidenceOrder(),
    "surest": ConfidenceOrder(0.0),
    "random": RandomOrder(),
    "halton": HaltonOrder(),
    "critic": CriticOrder(moody),
    "extreme": Extreme(),
}
each_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def decode(predict_logits: Any, codes: Tensor, **settings: Any) -> Tensor:
    settings = {"generators": seeded(*range(len(codes))), "mask_id": MASK, "vocab_sizes": VOCAB_SIZES} | settings
    return iterative_decode(predict_logits, codes, **settings)


def hidden_somewhere(draw: random.Random) -> Tensor:
    """A few grids of any size, of which any share is hidden, all or nothing among them."""
    shape = draw.randint(1, 4), draw.randint(1, 4), draw.randint(1, 5), draw.randint(1, 5)
    codes = torch.randint(MASK, shape)
    shares = torch.tensor([draw.choice([0, 1, draw.random()]) for _ in codes])
    return codes.masked_fill(torch.rand(shape) < shares.view(-1, 1, 1, 1), MASK)


def test_the_schedule_decides_how_many_stay_hidden() -> None:
    oracle = Oracle(torch.zeros(1, 4, 5, 5, dtype=torch.long))

    decode(oracle, torch.full((1, 4, 5, 5), MASK), num_steps=4)

    assert oracle.num_masked == [[100], [92], [70], [38]]  # floor(100 cos(pi / 2 step / 4))
    assert oracle.progress == [0.25, 0.5, 0.75, 1.0]


def test_samples_with_more_given_have_fewer_to_hide() -> None:
    codes = torch.full((3, 1, 2, 5), MASK)
    codes[1, :, :, :3] = 1
    codes[2] = 1
    oracle = Oracle(torch.zeros_like(codes))

    decode(oracle, codes, num_steps=3)

    assert oracle.num_masked == [[10, 4, 0], [8, 3, 0], [5, 2, 0]]  # floor of 86.6 % and of 50 %


@each_order
@each_schedule
def test_the_number_hidden_is_exact_and_given_codes_stay(order: Order, schedule: MaskSchedule) -> None:
    draw = random.Random(0)
    for _ in range(8):
        codes, num_steps = hidden_somewhere(draw), draw.randint(1, 9)
        is_given = codes != MASK
        seen: list[Tensor] = []

        decoded = decode(
            wavering,
            codes,
            num_steps=num_steps,
            order=order,
            schedule=schedule,
            callback=lambda step, filled, seen=seen: seen.append(filled),
        )

        expected = num_hidden_after_each_pass((~is_given).flatten(1).sum(dim=1), num_steps, schedule)
        for filled, num_hidden in zip(seen, expected[1:], strict=False):
            assert torch.equal((filled == MASK).flatten(1).sum(dim=1), num_hidden)
            assert torch.equal(filled[is_given], codes[is_given])
        assert torch.equal(decoded[is_given], codes[is_given])
        assert (decoded < MASK).all()
        assert not seen or torch.equal(seen[-1], decoded)


@each_order
def test_what_is_handed_in_stays_as_it_was(order: Order) -> None:
    codes, condition = torch.full((2, 2, 3, 3), MASK), torch.randint(MASK, (2, 2, 3, 3))
    codes[0, 0] = 4
    before = codes.clone(), condition.clone()

    decode(wavering, codes, condition_codes=condition, order=order)

    assert torch.equal(codes, before[0])
    assert torch.equal(condition, before[1])


def test_every_pass_settles_a_code_until_none_is_left() -> None:
    codes = torch.full((2, 1, 1, 3), MASK)
    codes[1, 0, 0, 0] = 1
    oracle = Oracle(torch.zeros_like(codes))

    decode(oracle, codes, num_steps=50)

    assert oracle.num_masked == [[3, 2], [2, 1], [1, 0]]


@each_order
@pytest.mark.parametrize("num_steps", [1, 2, 12])
def test_the_answer_of_a_sure_model_is_reproduced(order: Order, num_steps: int) -> None:
    answer = torch.randint(MASK, (3, 2, 3, 4))

    decoded = decode(Oracle(answer), torch.full_like(answer, MASK), num_steps=num_steps, order=order)

    assert torch.equal(decoded, answer)


@pytest.mark.parametrize("name", ["confidence", "random", "halton"])
def test_settled_codes_stay_where_the_order_does_not_revise(name: str) -> None:
    seen = [torch.full((2, 3, 4, 4), MASK)]

    decoded = decode(wavering, seen[0], num_steps=6, order=ORDERS[name], callback=lambda _, filled: seen.append(filled))

    for before, after in zip(seen, [*seen[1:], decoded], strict=True):
        assert torch.equal(after[before < MASK], before[before < MASK])
    assert torch.equal(seen[-1], decoded)


def test_the_critic_hides_the_least_plausible_of_all_that_was_not_given() -> None:
    codes = torch.full((2, 2, 3, 3), MASK)
    codes[:, 0, :2] = 7
    is_given = (codes != MASK).flatten(1)
    judged: list[Tensor] = []
    seen: list[Tensor] = []

    def criticize(filled: Tensor) -> Tensor:
        judged.append(moody(filled) - 100 * (filled == 7).flatten(1))
        assert (filled < MASK).all()
        return judged[-1]

    decode(
        wavering,
        codes,
        num_steps=7,
        order=CriticOrder(criticize, choice_temperature=0.0),
        callback=lambda _, filled: seen.append(filled.flatten(1)),
    )

    for plausibility, filled in zip(judged, seen, strict=True):
        is_hidden = filled == MASK
        for row in range(2):
            hidden, stays = plausibility[row][is_hidden[row]], plausibility[row][~is_hidden[row] & ~is_given[row]]
            assert not len(hidden) or hidden.max() <= stays.min()
    revised = [(before < MASK) & (after == MASK) for before, after in itertools.pairwise(seen)]
    assert torch.stack(revised).any()


def test_condition_codes_are_shown_only_where_and_while_a_code_is_hidden() -> None:
    codes = torch.full((2, 2, 3, 3), MASK)
    codes[:, 0, 0] = 3
    condition = torch.randint(MASK, codes.shape)
    condition[:, 1, 2] = MASK
    hidden = [codes == MASK]
    shown: list[Tensor] = []

    def predict_logits(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        shown.append(codes.clone())
        return wavering(codes, progress)

    seen = [codes]
    decode(
        predict_logits,
        codes,
        condition_codes=condition.int(),
        num_steps=5,
        callback=lambda _, filled: seen.append(filled),
    )

    assert len(shown) == 5
    for asked, filled in zip(shown, seen, strict=False):
        is_hidden = filled == MASK
        assert torch.equal(asked[is_hidden], condition[is_hidden])
        assert torch.equal(asked[~is_hidden], filled[~is_hidden])
    assert (shown[0][:, 1, 2] == MASK).all()
    assert hidden[0].any()


def test_an_order_is_told_what_a_pass_proposes() -> None:
    codes = torch.full((2, 2, 3, 3), MASK)
    codes[0, 0] = 3
    proposals: list[Proposal] = []
    shown: list[Tensor] = []

    class Listening:
        revises: ClassVar[bool] = False

        def __call__(self, proposal: Proposal) -> Tensor:
            proposals.append(proposal)
            return proposal.chance

    def predict_logits(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        shown.append(codes.flatten(1))
        return wavering(codes, progress)

    decode(predict_logits, codes, num_steps=4, order=Listening())

    assert [proposal.progress for proposal in proposals] == [0.25, 0.5, 0.75, 1.0]
    for proposal, asked in zip(proposals, shown, strict=True):
        filled = proposal.codes.flatten(1)
        assert torch.equal(proposal.is_masked, asked == MASK)
        assert torch.equal(filled[~proposal.is_masked], asked[~proposal.is_masked])
        joint = sum(
            group.log_softmax(dim=-1).gather(-1, sub_code[..., None])[..., 0]
            for group, sub_code in zip(
                wavering(asked.view(codes.shape), proposal.progress),
                split_codes(filled, VOCAB_SIZES).unbind(dim=-1),
                strict=True,
            )
        )
        torch.testing.assert_close(proposal.log_prob, joint * proposal.is_masked)
    assert len({float(proposal.chance.sum()) for proposal in proposals}) == 4


def test_nothing_is_asked_where_nothing_is_hidden() -> None:
    codes = torch.randint(MASK, (2, 1, 2, 2))
    oracle = Oracle(codes)

    decoded = decode(oracle, codes)

    assert oracle.num_masked == []
    assert torch.equal(decoded, codes)
    assert decoded.data_ptr() != codes.data_ptr()


@each_order
def test_a_sample_does_not_depend_on_its_batch(order: Order) -> None:
    codes = torch.full((4, 2, 3, 3), MASK)
    codes[1, 0] = 5
    codes[2, :, 1:] = 6
    together = decode(wavering, codes, generators=seeded(5, 6, 7, 8), order=order)

    for sample, seed in enumerate((5, 6, 7, 8)):
        alone = decode(wavering, codes[sample : sample + 1], generators=seeded(seed), order=order)
        assert torch.equal(alone[0], together[sample])


def test_a_generator_is_left_as_far_whatever_the_samples_need() -> None:
    states = []
    for num_given in (0, 3, 17, 18):
        codes = torch.full((1, 2, 3, 3), MASK)
        codes.view(-1)[:num_given] = 5
        generator = torch.Generator().manual_seed(3)
        decode(wavering, codes, generators=[generator])
        states.append(generator.get_state())

    assert all(torch.equal(state, states[0]) for state in states)


def test_one_generator_gives_each_sample_noise_of_its_own() -> None:
    codes = torch.full((5, 2, 3, 3), MASK)

    together = decode(wavering, codes, generators=torch.Generator().manual_seed(1))
    fewer = decode(wavering, codes[:2], generators=torch.Generator().manual_seed(1))

    assert len(together.flatten(1).unique(dim=0)) == 5
    assert torch.equal(together[:2], fewer)


@each_order
def test_the_generators_alone_decide(order: Order) -> None:
    codes = torch.full((2, 2, 3, 3), MASK)

    torch.manual_seed(1)
    first = decode(wavering, codes, order=order)
    torch.manual_seed(2)

    assert torch.equal(decode(wavering, codes, order=order), first)
    assert not torch.equal(decode(wavering, codes, order=order, generators=seeded(8, 9)), first)


class Pass(NamedTuple):
    """What a pass of a decoding saw and decided."""

    shown: Tensor
    logits: tuple[Tensor, ...]
    proposal: Proposal
    stay: Tensor
    filled: Tensor


def passes_of(
    maskgit: MaskGit, codes: Tensor, labels: Tensor, seeds: list[int], name: str, jitter: float = 0.0
) -> list[Pass]:
    order = CriticOrder(lambda codes: maskgit.criticize(codes, labels)) if name == "critic" else ORDERS[name]
    asked: list[tuple[Tensor, tuple[Tensor, ...]]] = []
    ordered: list[tuple[Proposal, Tensor]] = []
    passes: list[Pass] = []

    class Recorded:
        revises: ClassVar[bool] = order.revises

        def __call__(self, proposal: Proposal) -> Tensor:
            ordered.append((proposal, order(proposal)))
            return ordered[-1][1]

    def predict_logits(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        logits = tuple(group + jitter * torch.randn_like(group) for group in maskgit(codes, labels))
        asked.append((codes, logits))
        return asked[-1][1]

    iterative_decode(
        predict_logits,
        codes,
        mask_id=maskgit.config.mask_id,
        vocab_sizes=maskgit.config.vocab_sizes,
        generators=seeded(*seeds),
        order=Recorded(),
        callback=lambda _, filled: passes.append(Pass(*asked[-1], *ordered[-1], filled)),
    )
    return passes


def is_near_tie(of: Pass, draws: Tensor, num_hidden: int, may_be_hidden: Tensor) -> bool:
    """Whether a draw of a pass lies within TIE of another sub-code, or the order within TIE of another choice.

    Of a decoding of one sample. Logits that differ by less move no cumulative probability and no log-probability
    by more.
    """
    margins = [torch.tensor([math.inf])]
    for group, draw in zip(of.logits, draws.unbind(dim=-1), strict=True):
        edges = group[0].double().softmax(dim=-1).cumsum(dim=-1)[:, :-1]
        margins.append((edges - draw[:, None] / 2**DRAW_BITS)[of.proposal.is_masked[0]].abs().flatten())
    stay = of.stay[0][may_be_hidden].sort().values
    if 0 < num_hidden < len(stay):
        margins.append(stay[num_hidden] - stay[num_hidden - 1])
    return min(float(margin.min()) for margin in margins) < TIE


@pytest.mark.parametrize(
    ("name", "jitter"), [("confidence", 0.0), ("critic", 0.0), ("confidence", 1e-6), ("halton", 1e-6)]
)
def test_a_batch_of_eight_equals_eight_of_one_but_for_ties(name: str, jitter: float, conditioned: MaskGit) -> None:
    """The logits of a sample may differ a little by the size of the batch: ties may go either way, and nothing else.

    How much they differ is up to the machine; where they do not, the jitter stands in for it.
    """
    config, num_steps, num_places = conditioned.config, 12, math.prod(conditioned.config.grid)
    codes = torch.full((8, *config.grid), config.mask_id)
    codes[3:5, 0] = torch.randint(config.codebook_size, codes[3:5, 0].shape)
    labels = torch.arange(8) % (config.num_labels + 1)
    seeds = list(range(8))
    num_near_ties = num_decided = 0

    together = passes_of(conditioned, codes, labels, seeds, name)
    for sample in seeds:
        one = slice(sample, sample + 1)
        alone = passes_of(conditioned, codes[one], labels[one], seeds[one], name, jitter)
        draws, _ = draw_noise(seeded(sample), 1, (num_steps, num_places, len(config.vocab_sizes)))
        for step, (here, there) in enumerate(zip(alone, together, strict=False)):
            assert torch.equal(here.shown[0], there.shown[sample])
            for mine, theirs in zip(here.logits, there.logits, strict=True):
                torch.testing.assert_close(mine[0], theirs[sample], atol=TIE, rtol=0)
            may_be_hidden = (codes[sample] == config.mask_id).flatten()
            if name != "critic":
                may_be_hidden &= here.proposal.is_masked[0]
            num_hidden = int((here.filled == config.mask_id).sum())
            is_near = is_near_tie(here, draws[0, step], num_hidden, may_be_hidden)
            num_near_ties += is_near
            if not torch.equal(here.filled[0], there.filled[sample]):
                assert is_near
                num_decided += 1
                break

    print(f"near ties in {num_near_ties} passes of 8 samples; one decided in {num_decided} samples")
    assert num_near_ties < 8


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


def narrowed(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """The distribution that is to be drawn from, value by value from the likeliest."""
    probability = (logits.double() / temperature).softmax(dim=0).tolist()
    likeliest_first = sorted(range(len(probability)), key=lambda value: -probability[value])[:top_k]
    total, before = sum(probability[value] for value in likeliest_first), 0.0
    kept = torch.zeros(len(probability), dtype=torch.double)
    for value in likeliest_first:
        if top_p is not None and before >= top_p * total:
            break
        kept[value] = probability[value]
        before += probability[value]
    return kept / kept.sum()


def test_what_is_drawn_is_what_top_k_and_top_p_leave_of_each_sub_code() -> None:
    draw = random.Random(0)
    num_draws = 1024
    evenly_spaced = (torch.arange(num_draws) * 2 + 1) * 2**DRAW_BITS // (2 * num_draws)
    draws = torch.stack([evenly_spaced, evenly_spaced.flip(0)], dim=-1)[None]
    for _ in range(80):
        top_k, top_p = draw.choice([None, 1, 2, 3, 5, 100]), draw.choice([None, 0.05, 0.5, 0.8, 0.95, 1.0])
        temperature = draw.choice([0.3, 1.0, 2.0])
        groups = [torch.randn(size) * draw.choice([0.1, 1.0, 4.0]) for size in VOCAB_SIZES]

        codes, _ = sample_codes(
            tuple(group.expand(1, num_draws, -1) for group in groups), VOCAB_SIZES, draws, temperature, top_k, top_p
        )

        for group, sub_codes in zip(groups, split_codes(codes, VOCAB_SIZES).unbind(dim=-1), strict=True):
            expected = narrowed(group, temperature, top_k, top_p)
            frequency = sub_codes.flatten().bincount(minlength=len(group))
            assert not frequency[expected == 0].any()
            assert (frequency - expected * num_draws).abs().max() < 1.01  # an interval holds that many or one more


def test_of_equal_values_exactly_top_k_are_left() -> None:
    weights = torch.tensor([[[5, 9, 9, 9, 9, 5, 5, 0]]])

    assert keep_likeliest(weights, 3, None).tolist() == [[[0, 9, 9, 9, 0, 0, 0, 0]]]
    assert keep_likeliest(weights, 6, None).tolist() == [[[5, 9, 9, 9, 9, 5, 0, 0]]]
    assert keep_likeliest(weights, 4, 0.5).tolist() == [[[0, 9, 9, 0, 0, 0, 0, 0]]]
    assert keep_likeliest(weights, None, 1.0).tolist() == weights.tolist()


@pytest.mark.parametrize(
    "settings", [{"temperature": t} for t in (1e-6, 1e-30, 1e-300)] + [{"top_k": 1}, {"top_p": 1e-9}]
)
def test_in_the_limit_the_likeliest_is_drawn(settings: dict[str, Any]) -> None:
    logits = torch.randn(3, 200, 8) * 3, torch.randn(3, 200, 4) * 1e-2

    codes, log_prob = sample_codes(logits, VOCAB_SIZES, torch.randint(2**DRAW_BITS, (3, 200, 2)), **settings)

    sub_codes = split_codes(codes, VOCAB_SIZES).unbind(dim=-1)
    assert all(torch.equal(sub_code, group.argmax(dim=-1)) for sub_code, group in zip(sub_codes, logits, strict=True))
    assert len(log_prob.unique()) == 600


def test_a_large_temperature_makes_all_values_equally_likely() -> None:
    logits = (torch.randn(1, 8).expand(1, 8000, 8) * 5,)

    codes, _ = sample_codes(logits, (8,), torch.randint(2**DRAW_BITS, (1, 8000, 1)), temperature=1e9)

    assert (codes.flatten().bincount(minlength=8) / 1000 - 1).abs().max() < 0.15


def test_the_confidence_is_the_log_probability_of_the_whole_code() -> None:
    logits = (torch.randn(2, 50, 8), torch.randn(2, 50, 4))
    draws = torch.randint(2**DRAW_BITS, (2, 50, 2))
    joint = torch.einsum("bnv,bnw->bnvw", *(group.softmax(dim=-1) for group in logits)).flatten(2)
    narrowings: list[dict[str, Any]] = [{}, {"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.5}]

    for settings in narrowings:
        codes, log_prob = sample_codes(logits, VOCAB_SIZES, draws, **settings)
        torch.testing.assert_close(log_prob, joint.gather(-1, codes[..., None])[..., 0].log())


@pytest.mark.parametrize("draw", [0, 2 ** (DRAW_BITS - 1), 2**DRAW_BITS - 1])
def test_impossible_codes_are_never_drawn(draw: int) -> None:
    first, second = torch.full((1, 1, 8), -math.inf), torch.full((1, 1, 4), -math.inf)
    first[..., 3], first[..., 5] = 0.3, -0.2  # so cold that the second never comes
    second[..., 1] = 4.0

    codes, _ = sample_codes((first, second), VOCAB_SIZES, torch.full((1, 1, 2), draw), temperature=1e-3)

    assert codes.item() == 0b011_01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_may_come_in_any_precision_and_are_left_alone(dtype: torch.dtype) -> None:
    logits = (torch.randn(2, 50, 8).to(dtype), torch.randn(2, 50, 4).to(dtype))
    before, draws = [group.clone() for group in logits], torch.randint(2**DRAW_BITS, (2, 50, 2))

    codes, log_prob = sample_codes(logits, VOCAB_SIZES, draws, 0.7)
    in_float32, _ = sample_codes(tuple(group.float() for group in logits), VOCAB_SIZES, draws, 0.7)

    assert torch.equal(codes, in_float32)
    assert log_prob.dtype == torch.float32
    assert all(torch.equal(group, was) for group, was in zip(logits, before, strict=True))


def test_even_rare_codes_of_a_large_vocabulary_are_drawn() -> None:
    num_draws, bits = 4, 18
    wanted = torch.tensor([0, 1, 131_072, 2**bits - 1])
    middles = (2 * wanted + 1) * 2 ** (DRAW_BITS - bits - 1)

    codes, _ = sample_codes((torch.zeros(1, num_draws, 2**bits),), (2**bits,), middles.view(1, -1, 1))

    assert torch.equal(codes[0], wanted)


def test_without_noise_the_surest_are_settled_first() -> None:
    sureness = torch.tensor([9.0, 12.0, 8.0, 11.0, 10.0, 13.0])
    seen: list[Tensor] = []

    decode(
        lambda codes, progress: (torch.stack([sureness, torch.zeros(6)], dim=-1)[None],),
        torch.full((1, 1, 1, 6), 2),
        mask_id=2,
        vocab_sizes=(2,),
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
            vocab_sizes=(2,),
            num_steps=20,
            order=ConfidenceOrder(choice_temperature),
            generators=seeded(seed),
            callback=lambda _, filled: seen.append(filled.flatten() < 2),
        )
        return int(seen[0].nonzero()[0])

    assert {first_settled(0.0, seed) for seed in range(6)} == {19}
    assert len({first_settled(50.0, seed) for seed in range(6)}) > 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"num_steps": True}, "num_steps must be an integer >= 1, got True"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"temperature": math.inf}, "temperature must be positive and finite, got inf"),
        ({"top_k": 0}, "top_k must be an integer >= 1, got 0"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"mask_id": 31}, "codes must be in"),
        ({"condition_codes": torch.full((2, 1, 2, 2), 33)}, r"condition_codes must be in \[0, 32\], got .* 33"),
        ({"vocab_sizes": (8, 8)}, r"mask_id must be at least 64, .* sub-codes with \[8, 8\] values, got 32"),
        ({"vocab_sizes": (4, 8)}, "sub-code 0 requires 4 logits, got 8"),
        ({"vocab_sizes": (32,)}, "there must be logits for 1 sub-codes, got 2"),
        ({"generators": seeded(1)}, "one for each of 2 samples, got a list of 1"),
    ],
)
def test_what_cannot_be_is_refused_in_words(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(wavering, torch.full((2, 1, 2, 2), MASK), **settings)


@pytest.mark.usefixtures("as_users_call")
def test_a_condition_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape of codes, \(2, 1, 2, 2\), got \(1, 1, 2, 2\)"):
        decode(wavering, torch.full((2, 1, 2, 2), MASK), condition_codes=torch.full((1, 1, 2, 2), MASK))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_has_diverged_is_named(value: float) -> None:
    def diverged(codes: Tensor, progress: float) -> tuple[Tensor, ...]:
        first, second = wavering(codes, progress)
        if value < 0:
            second[:, -1] = value
        else:
            second[:, -1, 2] = value
        return first, second

    with pytest.raises(ValueError, match="logits must not be NaN or \\+inf, and not all -inf"):
        decode(diverged, torch.full((1, 1, 2, 2), MASK))


def test_a_critic_that_has_diverged_is_named() -> None:
    with pytest.raises(ValueError, match="scores of CriticOrder must be numbers, got NaN"):
        decode(wavering, torch.full((1, 1, 2, 2), MASK), order=CriticOrder(lambda codes: moody(codes) * math.nan))

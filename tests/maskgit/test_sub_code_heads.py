"""Sub-codes that are predicted one after another."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective, guide
from magvit2_pytorch.maskgit.factorization import split_codes
from magvit2_pytorch.maskgit.losses import cross_entropies
from magvit2_pytorch.maskgit.masking import training_mask
from magvit2_pytorch.maskgit.sampling import DRAW_BITS, sample_codes
from magvit2_pytorch.maskgit.sub_code_heads import Logits, logits_given


@pytest.fixture
def config(config: MaskGitConfig) -> MaskGitConfig:
    return replace(config, codebook_size=2**5, split=(2, 2, 1), sequential=True)


def all_hidden(config: MaskGitConfig, batch_size: int = 1) -> tuple[Tensor, Tensor]:
    return torch.full((batch_size, *config.grid), config.mask_id), torch.zeros(batch_size, dtype=torch.long)


def log_probabilities(logits: Logits, vocab_sizes: tuple[int, ...]) -> Tensor:
    """The log-probability of every code at every position, by the chain rule."""
    num_codes = math.prod(vocab_sizes)
    (batch, places, _) = logits_given(logits[0], ()).shape
    of_codes = []
    for code in range(num_codes):
        sub_codes = split_codes(torch.full((batch, places), code), vocab_sizes).unbind(dim=-1)
        of_groups = [logits_given(group, sub_codes[:index]).log_softmax(-1) for index, group in enumerate(logits)]
        pairs = zip(of_groups, sub_codes, strict=True)
        of_codes.append(torch.stack([group.gather(-1, own[..., None])[..., 0] for group, own in pairs]).sum(dim=0))
    return torch.stack(of_codes, dim=-1)


def test_the_probabilities_of_all_codes_sum_to_one_and_are_no_product(maskgit: MaskGit, config: MaskGitConfig) -> None:
    joint = log_probabilities(maskgit(*all_hidden(config)), config.vocab_sizes).exp()

    torch.testing.assert_close(joint.sum(dim=-1), torch.ones(joint.shape[:-1]))
    table = joint.unflatten(-1, config.vocab_sizes)
    product = torch.einsum("bnx,bny,bnz->bnxyz", table.sum((3, 4)), table.sum((2, 4)), table.sum((2, 3)))
    assert (table - product).abs().amax() > 0.01


def test_codes_are_drawn_with_these_probabilities(maskgit: MaskGit, config: MaskGitConfig) -> None:
    logits = tuple(group[:, :1] for group in maskgit(*all_hidden(config)))
    expected = log_probabilities(logits, config.vocab_sizes)[0, 0]
    num_draws = 20_000
    many = tuple(group[:, torch.zeros(num_draws, dtype=torch.long)] for group in logits)

    draws = torch.randint(2**DRAW_BITS, (1, num_draws, 3), generator=torch.Generator().manual_seed(0))
    codes, log_prob = sample_codes(many, config.vocab_sizes, draws)

    frequencies = codes[0].bincount(minlength=config.codebook_size) / num_draws
    assert (frequencies - expected.exp()).abs().max() < 0.012
    torch.testing.assert_close(log_prob[0], expected[codes[0]])


def test_the_loss_is_the_exact_negative_log_likelihood(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes, labels = torch.randint(config.codebook_size, (2, *config.grid)), torch.tensor([0, 1])
    targets = split_codes(codes.flatten(1), config.vocab_sizes)
    logits = maskgit(codes, labels)
    given = tuple(logits_given(group, targets.unbind(-1)[:index]) for index, group in enumerate(logits))

    exact = log_probabilities(logits, config.vocab_sizes).gather(-1, codes.flatten(1)[..., None])[..., 0]

    torch.testing.assert_close(cross_entropies(given, targets), -exact)
    losses = MaskGitObjective(maskgit, label_smoothing=0.0)(codes, labels, torch.Generator().manual_seed(0))
    is_hidden = training_mask(2, math.prod(config.grid), generator=torch.Generator().manual_seed(0))
    shown = codes.flatten(1).masked_fill(is_hidden, config.mask_id).view_as(codes)
    of_all = log_probabilities(maskgit(shown, labels), config.vocab_sizes)
    surprise = -of_all.gather(-1, codes.flatten(1)[..., None])[..., 0]
    torch.testing.assert_close(losses["masked_code"], surprise[is_hidden].mean())


def test_only_later_sub_codes_depend_on_earlier_ones(maskgit: MaskGit, config: MaskGitConfig) -> None:
    first, second, third = maskgit(*all_hidden(config))

    assert isinstance(first, Tensor)
    zeros = torch.zeros(1, math.prod(config.grid), dtype=torch.long)
    changed = zeros.clone()
    changed[0, 0] = 1
    for group, before, after in ((second, (zeros,), (changed,)), (third, (zeros, zeros), (zeros, changed))):
        change = (logits_given(group, before) - logits_given(group, after)).abs().amax(dim=-1)[0]
        assert change[0] > 0.01
        assert (change[1:] == 0).all()


def test_guidance_compares_predictions_for_the_same_earlier_sub_codes(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes, _ = all_hidden(config, 2)
    conditional, unconditional = maskgit(codes, torch.tensor([0, 1])), maskgit(codes, torch.tensor([3, 3]))
    earlier = [torch.randint(4, (2, math.prod(config.grid))) for _ in range(2)]

    for scale in (0.0, 1.0, 2.5):
        for index, group in enumerate(guide(conditional, unconditional, scale)):
            known = earlier[:index]
            cond, uncond = logits_given(conditional[index], known), logits_given(unconditional[index], known)
            torch.testing.assert_close(logits_given(group, known), uncond + scale * (cond - uncond))


def test_sub_codes_that_hang_together_are_learned_as_such(config: MaskGitConfig) -> None:
    """Two sub-codes that are always equal have one bit of entropy, of which independent heads see two."""
    surprise = {}
    for sequential in (False, True):
        torch.manual_seed(0)
        pairs = replace(config, codebook_size=4, split=2, sequential=sequential, num_registers=0)
        model = MaskGit(pairs)
        objective = MaskGitObjective(model, label_smoothing=0.0, label_dropout=0.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(150):
            generator = torch.Generator().manual_seed(step)
            codes = 3 * torch.randint(2, (32, *config.grid), generator=generator)
            loss = objective(codes, torch.zeros(32, dtype=torch.long), generator)["masked_code"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            surprise[sequential] = loss.item()

    assert surprise[False] == pytest.approx(2 * math.log(2), rel=0.03)
    assert surprise[True] == pytest.approx(math.log(2), rel=0.05)


def test_a_saved_model_stays_sequential(maskgit: MaskGit, config: MaskGitConfig, tmp_path: Path) -> None:
    maskgit.save_pretrained(tmp_path)
    loaded = MaskGit.from_pretrained(tmp_path)

    ours, theirs = (log_probabilities(model(*all_hidden(config)), config.vocab_sizes) for model in (maskgit, loaded))
    assert torch.equal(ours, theirs)

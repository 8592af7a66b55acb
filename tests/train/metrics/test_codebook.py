import pytest
import torch

from magvit2_pytorch.train.metrics import bit_balance, codebook_perplexity, dead_bits, num_used_codes


def test_the_perplexity_of_uniform_codes_is_the_codebook_size() -> None:
    codes = torch.arange(64).repeat(5).reshape(4, 5, 4, 4)

    assert codebook_perplexity(codes, 64) == pytest.approx(64)


def test_the_perplexity_of_a_constant_is_one() -> None:
    assert codebook_perplexity(torch.full((2, 3, 4, 4), 7), 2**18) == pytest.approx(1)


def test_the_perplexity_of_uneven_codes_is_exp_of_their_entropy() -> None:
    codes = torch.tensor([0, 0, 0, 2])

    expected = torch.distributions.Categorical(probs=torch.tensor([0.75, 0.25])).entropy().exp().item()

    assert codebook_perplexity(codes, 4) == pytest.approx(expected)
    assert num_used_codes(codes) == 2


def test_the_balance_of_bits_starts_with_the_highest() -> None:
    codes = torch.tensor([0b100, 0b101, 0b100, 0b110])

    assert bit_balance(codes, 8).tolist() == [1, 0.25, 0.25]


def test_bits_that_never_change_are_named() -> None:
    codes = torch.randint(2**6, (500,)) & 0b101110 | 0b001000

    assert dead_bits(bit_balance(codes, 2**6)) == [1, 2, 5]

import math

import pytest
import torch

from magvit2_pytorch.maskgit.factorization import join_codes, split_codes
from magvit2_pytorch.tokenizer.quantizer import FiniteScalarQuantizer


@pytest.mark.parametrize(
    "vocab_sizes", [(2**10,), (2**9, 2**8), (2**7, 2**7, 2**6), (2, 2), (2**31, 2**31), (35, 8), (3, 5, 7, 9)]
)
def test_joining_is_the_exact_inverse_of_splitting(vocab_sizes: tuple[int, ...]) -> None:
    size = math.prod(vocab_sizes)
    codes = torch.cat([torch.randint(size, (3, 500)), torch.tensor([[0], [size // 2], [size - 1]])], dim=1)

    sub_codes = split_codes(codes, vocab_sizes)

    assert torch.equal(join_codes(sub_codes, vocab_sizes), codes)
    assert all(
        (sub_codes[..., group] >= 0).all() and (sub_codes[..., group] < size).all()
        for group, size in enumerate(vocab_sizes)
    )


def test_every_code_has_sub_codes_of_its_own() -> None:
    sub_codes = split_codes(torch.arange(2**7)[None], (16, 8))

    assert len(sub_codes[0].unique(dim=0)) == 2**7


def test_the_first_sub_code_holds_the_highest_bits() -> None:
    codes = torch.tensor([[0b101_01, 0b010_11]])

    assert split_codes(codes, (8, 4)).tolist() == [[[0b101, 0b01], [0b010, 0b11]]]


def test_codes_of_fewer_bytes_split_alike() -> None:
    codes = torch.randint(2**17, (2, 50))

    assert torch.equal(split_codes(codes.int(), (512, 256)), split_codes(codes, (512, 256)))


def test_the_digits_of_a_code_are_the_levels_of_its_quantizer() -> None:
    quantizer = FiniteScalarQuantizer((5, 7, 8))
    _, codes = quantizer(torch.randn(2, 3, 1, 4, 4))

    digits = split_codes(codes.flatten(1), (8, 7, 5))

    values = quantizer.dequantize(codes, torch.float32)
    for channel, levels in enumerate((5, 7, 8)):
        own = digits[..., 2 - channel].float() - levels // 2
        torch.testing.assert_close(own / (levels // 2), values[:, channel].flatten(1))

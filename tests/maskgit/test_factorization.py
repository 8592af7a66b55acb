import pytest
import torch

from magvit2_pytorch.maskgit.factorization import join_codes, split_codes


@pytest.mark.parametrize("group_bits", [(10,), (9, 8), (9, 9), (7, 7, 6), (1, 1), (20, 20), (31, 31)])
def test_joining_is_the_exact_inverse_of_splitting(group_bits: tuple[int, ...]) -> None:
    size = 2 ** sum(group_bits)
    codes = torch.cat([torch.randint(size, (3, 500)), torch.tensor([[0], [size // 2], [size - 1]])], dim=1)

    sub_codes = split_codes(codes, group_bits)

    assert torch.equal(join_codes(sub_codes, group_bits), codes)
    assert all(
        (sub_codes[..., group] >= 0).all() and (sub_codes[..., group] < 2**bits).all()
        for group, bits in enumerate(group_bits)
    )


def test_every_code_has_sub_codes_of_its_own() -> None:
    sub_codes = split_codes(torch.arange(2**7)[None], (4, 3))

    assert len(sub_codes[0].unique(dim=0)) == 2**7


def test_the_first_sub_code_holds_the_highest_bits() -> None:
    codes = torch.tensor([[0b101_01, 0b010_11]])

    assert split_codes(codes, (3, 2)).tolist() == [[[0b101, 0b01], [0b010, 0b11]]]


def test_codes_of_fewer_bytes_split_alike() -> None:
    codes = torch.randint(2**17, (2, 50))

    assert torch.equal(split_codes(codes.int(), (9, 8)), split_codes(codes, (9, 8)))

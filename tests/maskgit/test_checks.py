import pytest
import torch

from magvit2_pytorch.maskgit.checks import check_integers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_what_is_no_integer_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=rf"codes must be integers, got {dtype}"):
        check_integers("codes", torch.zeros(2, dtype=dtype), 7)


def test_values_are_not_read_where_there_are_none() -> None:
    check_integers("codes", torch.full((2,), 99, device="meta"), 7)
    check_integers("codes", torch.zeros(0, dtype=torch.long), 7)


def test_both_ends_of_the_range_are_allowed() -> None:
    check_integers("codes", torch.tensor([0, 7]), 7)

import numpy as np
import pytest
import torch

from magvit2_pytorch.choices import as_list, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_a_whole_number_of_any_library_is_taken(value: object) -> None:
    assert whole_number("num_steps", value, 1) == 3


@pytest.mark.parametrize("value", [2.5, 3.0, "3", None, True, 0, -1, torch.tensor(3.0), [3]])
def test_anything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="num_steps must be an integer"):
        whole_number("num_steps", value, 1)


@pytest.mark.parametrize(
    ("value", "items"), [("sintel", 1), (3, 1), (torch.tensor(3), 1), ([3, 4], 2), (torch.tensor([3, 4]), 2), ((), 0)]
)
def test_one_or_several_make_a_list(value: object, items: int) -> None:
    assert len(as_list(value)) == items

import pytest
import torch

from magvit2_pytorch.train.metrics.baseline import independent_codes


def test_a_code_is_drawn_as_often_as_its_label_has_it_at_that_place() -> None:
    codes = torch.tensor([[3, 5], [3, 6], [4, 6], [3, 6], [7, 7]]).reshape(5, 1, 1, 2)
    labels = torch.tensor([1, 1, 1, 1, 0])

    drawn = independent_codes(codes, labels, torch.ones(4000, dtype=torch.long), torch.Generator().manual_seed(0))

    shares = [(drawn[..., place] == code).double().mean().item() for place, code in ((0, 3), (0, 4), (1, 5), (1, 6))]
    assert shares == pytest.approx([0.75, 0.25, 0.25, 0.75], abs=0.03)


def test_places_are_drawn_independently_of_each_other() -> None:
    codes = torch.tensor([0, 1]).reshape(2, 1, 1, 1).expand(2, 1, 1, 2)
    labels = torch.zeros(2, dtype=torch.long)

    drawn = independent_codes(codes, labels, labels.new_zeros(4000), torch.Generator().manual_seed(0))

    assert (drawn[..., 0] == drawn[..., 1]).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_each_video_gets_codes_of_its_own_label() -> None:
    codes = torch.tensor([10, 11, 20, 21]).reshape(4, 1, 1, 1).expand(4, 2, 3, 3)
    wanted = torch.tensor([2, 1, 2])

    drawn = independent_codes(codes, torch.tensor([1, 1, 2, 2]), wanted, torch.Generator().manual_seed(0))

    assert torch.equal(drawn // 10, wanted[:, None, None, None].expand(3, 2, 3, 3))


def test_a_label_without_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="no codes of label 4"):
        independent_codes(
            torch.zeros(1, 1, 1, 1, dtype=torch.long), torch.tensor([0]), torch.tensor([4]), torch.Generator()
        )

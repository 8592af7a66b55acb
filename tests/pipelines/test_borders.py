import pytest
import torch
from torch import Tensor

from magvit2_pytorch.pipelines.borders import blur, join_given, spread_error

CELL = (4, 16, 16)


def join(drawn: Tensor, given: Tensor, known: Tensor) -> Tensor:
    return join_given(drawn, given, known, seams=(), cell=CELL)


@pytest.fixture
def box() -> Tensor:
    """All but 16 x 16 pixels in the middle."""
    known = torch.ones(1, 5, 32, 32) > 0
    known[:, :, 8:24, 8:24] = False
    return known


def test_given_pixels_are_as_they_were_given() -> None:
    drawn, given, known = torch.rand(2, 3, 9, 12, 14), torch.rand(2, 3, 9, 12, 14), torch.rand(2, 9, 12, 14) < 0.5

    joined = join(drawn, given, known)

    is_given = known[:, None].expand_as(given)
    assert torch.equal(joined[is_given], given[is_given])
    assert 0 <= joined.min() <= joined.max() <= 1


def test_what_nothing_is_known_of_is_as_it_was_drawn() -> None:
    drawn = torch.rand(2, 3, 9, 12, 14)

    assert torch.equal(join(drawn, torch.rand_like(drawn), torch.zeros(2, 9, 12, 14) > 0), drawn)


def test_what_is_drawn_without_error_stays(box: Tensor) -> None:
    drawn = torch.rand(1, 3, 1, 32, 32).expand(-1, -1, 5, -1, -1)

    assert torch.equal(join(drawn, drawn, box), drawn)


def test_an_error_of_colour_vanishes_at_the_border_and_stays_far_from_it(box: Tensor) -> None:
    given = torch.full((1, 3, 5, 32, 32), 0.6)

    joined = join(given - 0.2, given, box)[0, 0, 2, 16]

    assert (joined[8] - joined[7]).abs() < 0.05
    assert joined.diff().abs().max() < 0.08
    assert joined[16] == pytest.approx(0.4, abs=1e-3)


def test_an_error_like_that_nearby_is_lessened(box: Tensor) -> None:
    """A tokenizer's errors are alike nearby: what given pixels tell of them does no harm to those drawn."""
    for seed in range(5):
        noise = torch.randn(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(seed))
        given, error = torch.full_like(noise, 0.5), blur(blur(noise, (24, 24)), (24, 24)) / 2
        hidden = ~box[:, None].expand_as(given)

        after = (join(given + error, given, box) - given)[hidden].square().mean()

        assert after < 0.9 * error[hidden].square().mean()


def test_an_error_spreads_only_inside_its_frame(box: Tensor) -> None:
    drawn, given = torch.zeros(1, 3, 5, 32, 32), torch.zeros(1, 3, 5, 32, 32)
    given[:, :, 2] = 1

    spread = spread_error(drawn, given, box, CELL[1:])

    assert (spread[:, :, 2, 8:24, 8] > 0.5).all()
    assert not spread[:, :, [0, 1, 3, 4]].any()


def test_the_blur_keeps_what_it_spreads() -> None:
    values = torch.zeros(1, 1, 1, 25, 25)
    values[..., 12, 12] = 1

    spread = blur(values, (16, 8))[0, 0, 0]

    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert torch.equal(spread.argmax(), torch.tensor(12 * 25 + 12))
    assert (spread[8, 12] > spread[12, 8]).item()

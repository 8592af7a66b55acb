import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from magvit2_pytorch.pipelines.fill.joins import KEPT, blur, join_given, local_mean, median, smooth_seams, spread_error

CELL = (4, 5, 5)
NOTHING = torch.zeros(1, 20, 12, 12) > 0


def smoothed(video: Tensor, known: Tensor = NOTHING, seams: tuple[int, ...] = (10,)) -> Float[Tensor, "b c T H W"]:
    return smooth_seams(video, known, seams=seams, cell=CELL)


def steps(video: Tensor) -> list[float]:
    return video.diff(dim=2).abs().mean(dim=(0, 1, 3, 4)).tolist()


@pytest.fixture
def jumping() -> Float[Tensor, "1 3 20 12 12"]:
    """A still video with a flicker of 0.01 and a jump of 0.2 before frame 10."""
    video = torch.rand(1, 3, 1, 12, 12) / 2 + 0.2 + 0.01 * (torch.arange(20) % 2).view(-1, 1, 1)
    video[:, :, 10:] += 0.2
    return video


def test_without_a_seam_nothing_changes(jumping: Tensor) -> None:
    assert torch.equal(smoothed(jumping, seams=()), jumping)


def test_the_step_at_a_seam_is_reduced_to_the_usual_size(jumping: Tensor) -> None:
    before, after = steps(jumping), steps(smoothed(jumping))

    assert before[9] == pytest.approx(0.19, abs=1e-5)
    assert after[9] == pytest.approx(0.01, abs=1e-5)
    assert max(after) < 0.04  # what fades out from frame to frame, beside the flicker


def test_the_step_at_a_seam_does_not_affect_the_usual_size() -> None:
    """It would be the median of the few steps."""
    video = torch.tensor([0.1, 0.2, 0.6, 0.6]).view(1, 1, 4, 1, 1).expand(1, 1, 4, 8, 8)

    after = steps(smooth_seams(video, torch.zeros(1, 4, 8, 8) > 0, seams=(2,), cell=(1, 4, 4)))

    assert after[1] == pytest.approx(0.05, abs=1e-6)


def test_corrections_are_symmetric_and_fade_out(jumping: Tensor) -> None:
    change = (smoothed(jumping) - jumping).mean(dim=(0, 1, 3, 4))

    assert change[9] == pytest.approx(0.09, abs=1e-5)
    torch.testing.assert_close(change[:10], -change[10:].flip(0), atol=1e-4, rtol=0)
    ratios = change[11:] / change[10:-1]
    assert (ratios > 0.9 * KEPT).all()
    assert (ratios < KEPT).all()


def test_known_pixels_are_unchanged_and_the_others_corrected(jumping: Tensor) -> None:
    known = NOTHING.clone()
    known[:, :10] = True

    result = smoothed(jumping, known, seams=())

    assert torch.equal(result[:, :, :10], jumping[:, :, :10])
    assert steps(result)[9] == pytest.approx(0.01, abs=1e-5)
    assert (result - jumping)[:, :, 10].mean() == pytest.approx(-0.18, abs=1e-5)

    reversed_in_time = smoothed(jumping.flip(2), known.flip(1), seams=())
    torch.testing.assert_close(reversed_in_time.flip(2), result)


def test_a_correction_ends_where_a_pixel_is_known_again(jumping: Tensor) -> None:
    known = NOTHING.clone()
    known[:, :10] = known[:, 13:] = True

    result = smoothed(jumping, known, seams=())

    assert torch.equal(result[known[:, None].expand_as(result)], jumping[known[:, None].expand_as(result)])
    assert not torch.equal(result, jumping)


def test_only_pixels_that_become_unknown_are_corrected(jumping: Tensor) -> None:
    known = NOTHING.clone()
    known[:, :10, :, :4] = True
    known[:, :, :, 8:] = True

    changed = (smoothed(jumping, known, seams=()) != jumping).any(dim=1)

    assert changed[:, 10, :, :4].all()
    assert not changed[:, :10].any()
    assert not changed[..., 4:].any()


def test_steady_motion_is_unchanged() -> None:
    stripes = torch.sin(torch.arange(12) + torch.arange(20)[:, None] * 0.5)
    video = (stripes / 4 + 0.5).view(1, 1, 20, 1, 12).expand(1, 3, 20, 12, 12)

    assert (smoothed(video) - video).abs().max() < 0.01
    jump = video.clone()
    jump[:, :, 10:] += 0.3
    assert (smoothed(jump) - jump).abs().max() > 0.1


def test_a_correction_fades_faster_where_the_picture_changes(jumping: Tensor) -> None:
    video = jumping.clone()
    video[:, :, 12:, :, 6:] = torch.rand(1, 3, 8, 12, 6)

    change = (smoothed(video) - video).abs().mean(dim=(0, 1))

    assert change[15, :, :2].mean() > 5 * change[15, :, -2:].mean()


def test_videos_of_a_batch_are_independent(jumping: Tensor) -> None:
    videos = torch.cat([jumping, torch.rand(1, 3, 20, 12, 12)])
    known = torch.cat([NOTHING, torch.rand(1, 20, 12, 12) < 0.5])

    together = smoothed(videos, known)

    for row in range(2):
        torch.testing.assert_close(smoothed(videos[row : row + 1], known[row : row + 1])[0], together[row])


def test_the_local_mean_ignores_padding() -> None:
    values = torch.rand(2, 1, 3, 6, 7)

    means = local_mean(values, (2, 5))

    assert means[1, 0, 2, 3, 3] == pytest.approx(values[1, 0, 2, 2:5, 1:6].mean().item())
    assert means[1, 0, 2, 0, 0] == pytest.approx(values[1, 0, 2, :2, :3].mean().item())


@pytest.mark.parametrize("number", [1, 2, 5, 8])
def test_median_equals_quantile(number: int) -> None:
    values = torch.rand(2, 1, number, 3, 3)

    torch.testing.assert_close(median(values), values.quantile(0.5, dim=2))


CELL = (4, 16, 16)


def join(drawn: Tensor, given: Tensor, known: Tensor) -> Tensor:
    return join_given(drawn, given, known, seams=(), cell=CELL)


@pytest.fixture
def box() -> Tensor:
    """Known pixels: all except 16 x 16 in the middle."""
    known = torch.ones(1, 5, 32, 32) > 0
    known[:, :, 8:24, 8:24] = False
    return known


def test_given_pixels_are_unchanged() -> None:
    drawn, given, known = torch.rand(2, 3, 9, 12, 14), torch.rand(2, 3, 9, 12, 14), torch.rand(2, 9, 12, 14) < 0.5

    joined = join(drawn, given, known)

    is_given = known[:, None].expand_as(given)
    assert torch.equal(joined[is_given], given[is_given])
    assert 0 <= joined.min() <= joined.max() <= 1


def test_without_known_pixels_nothing_changes() -> None:
    drawn = torch.rand(2, 3, 9, 12, 14)

    assert torch.equal(join(drawn, torch.rand_like(drawn), torch.zeros(2, 9, 12, 14) > 0), drawn)


def test_without_errors_nothing_changes(box: Tensor) -> None:
    drawn = torch.rand(1, 3, 1, 32, 32).expand(-1, -1, 5, -1, -1)

    assert torch.equal(join(drawn, drawn, box), drawn)


def test_a_colour_error_is_corrected_at_the_border_only(box: Tensor) -> None:
    given = torch.full((1, 3, 5, 32, 32), 0.6)

    joined = join(given - 0.2, given, box)[0, 0, 2, 16]

    assert (joined[8] - joined[7]).abs() < 0.05
    assert joined.diff().abs().max() < 0.08
    assert joined[16] == pytest.approx(0.4, abs=1e-3)


def test_correlated_errors_are_reduced(box: Tensor) -> None:
    """Errors of a tokenizer are similar at neighbouring pixels, so corrections reduce them."""
    for seed in range(5):
        noise = torch.randn(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(seed))
        given, error = torch.full_like(noise, 0.5), blur(blur(noise, (24, 24)), (24, 24)) / 2
        hidden = ~box[:, None].expand_as(given)

        after = (join(given + error, given, box) - given)[hidden].square().mean()

        assert after < 0.9 * error[hidden].square().mean()


def test_corrections_stay_in_their_frame(box: Tensor) -> None:
    drawn, given = torch.zeros(1, 3, 5, 32, 32), torch.zeros(1, 3, 5, 32, 32)
    given[:, :, 2] = 1

    spread = spread_error(drawn, given, box, CELL[1:])

    assert (spread[:, :, 2, 8:24, 8] > 0.5).all()
    assert not spread[:, :, [0, 1, 3, 4]].any()


def test_the_blur_keeps_the_sum() -> None:
    values = torch.zeros(1, 1, 1, 25, 25)
    values[..., 12, 12] = 1

    spread = blur(values, (16, 8))[0, 0, 0]

    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert torch.equal(spread.argmax(), torch.tensor(12 * 25 + 12))
    assert (spread[8, 12] > spread[12, 8]).item()

import math

import torch

from magvit2_pytorch.maskgit.masking import cosine_schedule, random_mask, rank, training_mask


def test_the_cosine_schedule_falls_from_one_to_zero() -> None:
    share = cosine_schedule(torch.linspace(0, 1, 101, dtype=torch.float64))

    assert share[0] == 1
    assert abs(share[-1]) < 1e-15
    assert (share.diff() < 0).all()
    torch.testing.assert_close(share[50], torch.tensor(math.sqrt(0.5), dtype=torch.float64))


def test_a_mask_hides_exactly_the_share_asked_for_and_at_least_one() -> None:
    ratio = torch.tensor([0.0, 1e-6, 0.25, 0.253, 0.5, 0.999, 1.0])

    mask = random_mask(ratio, 80)

    assert mask.sum(dim=1).tolist() == [1, 1, 20, 21, 40, 80, 80]


def test_a_mask_hides_every_place_equally_often() -> None:
    mask = random_mask(torch.full((4000,), 0.3), 10, torch.Generator().manual_seed(0))

    frequency = mask.float().mean(dim=0)

    assert (frequency - 0.3).abs().max() < 4 * math.sqrt(0.3 * 0.7 / 4000)


def test_the_masks_of_training_cover_the_decoding_evenly() -> None:
    mask = training_mask(500, 1000, generator=torch.Generator().manual_seed(0))

    ratio = mask.float().mean(dim=1).sort(descending=True).values
    expected = cosine_schedule((torch.arange(500) + 0.5) / 500)

    torch.testing.assert_close(ratio, expected, atol=0.003, rtol=0)


def test_each_training_mask_by_itself_is_at_a_uniform_point_of_the_decoding() -> None:
    generator = torch.Generator().manual_seed(0)

    ratios = torch.stack([training_mask(3, 200, generator=generator).float().mean(dim=1) for _ in range(800)])
    progress = ratios.acos() * 2 / math.pi

    assert (progress.mean(dim=0) - 0.5).abs().max() < 4 * math.sqrt(1 / 12 / 800)
    assert (progress.std(dim=0) - math.sqrt(1 / 12)).abs().max() < 0.03


def test_the_same_generator_gives_the_same_mask_and_another_one_another() -> None:
    masks = [training_mask(4, 50, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]

    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_equal_values_never_share_a_rank() -> None:
    values = torch.tensor([[2.0, 2.0, -math.inf, 2.0, math.inf, math.inf]])

    assert sorted(rank(values)[0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert rank(torch.tensor([[0.3, 0.1, 0.2]])).tolist() == [[2, 0, 1]]

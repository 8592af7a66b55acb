import torch

from magvit2_pytorch.tokenizer.pixels import to_model_range, to_unit_range


def test_the_ranges_are_each_others_inverse() -> None:
    video = torch.arange(256).float() / 255

    assert to_model_range(video).aminmax() == (torch.tensor(-1.0), torch.tensor(1.0))
    torch.testing.assert_close(to_unit_range(to_model_range(video)), video)


def test_what_a_reconstruction_overshoots_is_clipped() -> None:
    assert torch.equal(to_unit_range(torch.tensor([-1.5, 1.5])), torch.tensor([0.0, 1.0]))

import torch

from magvit2_pytorch.tokenizer.rotary import rotate


def test_attention_sees_only_how_far_apart_places_are() -> None:
    queries, keys = torch.randn(2, 1, 1, 32, dtype=torch.float64).expand(2, 1, 12, 32)
    scores = rotate(queries, (3, 4)) @ rotate(keys, (3, 4)).mT

    grid = scores[0].reshape(3, 4, 3, 4)

    torch.testing.assert_close(grid[0, 0, 1, 2], grid[1, 1, 2, 3])  # one row down, two columns right
    assert not torch.isclose(grid[0, 0, 1, 2], grid[0, 0, 2, 1])


def test_turning_keeps_lengths() -> None:
    x = torch.randn(2, 5, 18)

    torch.testing.assert_close(rotate(x, (5,)).norm(dim=-1), x.norm(dim=-1))

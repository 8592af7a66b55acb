import itertools

import pytest
import torch
from einops import rearrange

from magvit2_pytorch.tokenizer.context import Context
from magvit2_pytorch.tokenizer.resampling import Fold, Unfold, UnfoldOverlapping


@pytest.mark.parametrize("patch_size", [(1, 1, 1), (4, 4, 4), (2, 3, 1)])
def test_unfolding_is_the_exact_inverse_of_folding(patch_size: tuple[int, int, int]) -> None:
    video = torch.randn(2, 3, 1 + 2 * patch_size[0], 4 * patch_size[1], 2 * patch_size[2])

    assert torch.equal(Unfold(patch_size)(Fold(patch_size)(video)), video)


@pytest.mark.parametrize("patch", [(4, 2), (1, 2), (4, 1), (3, 3)])
def test_overlapping_blocks_are_added_at_their_places(patch: tuple[int, int]) -> None:
    block = [2 * size if size > 1 else 1 for size in patch]
    unfold = UnfoldOverlapping(5, 3, (2, *patch), (2, block[0], block[1]))
    features = torch.randn(2, 5, 3, 4, 6)

    video = unfold(features, Context(begins=False))

    border = [size // 2 if size > 1 else 0 for size in patch]
    blocks = torch.einsum("nd,bdthw->bnthw", unfold.weight[..., 0, 0, 0], features)
    blocks = rearrange(blocks, "b (c r p q) t h w -> b c t r h w p q", r=2, p=block[0], q=block[1])
    canvas = torch.zeros(2, 3, 6, *(size * number + 2 * size for size, number in zip(patch, (4, 6), strict=True)))
    for h, w in itertools.product(range(4), range(6)):
        rows, columns = slice(h * patch[0], h * patch[0] + block[0]), slice(w * patch[1], w * patch[1] + block[1])
        canvas[..., rows, columns] += rearrange(blocks[..., h, w, :, :], "b c t r p q -> b c (t r) p q")
    expected = canvas[..., border[0] : border[0] + 4 * patch[0], border[1] : border[1] + 6 * patch[1]]
    torch.testing.assert_close(video, expected)
    assert torch.equal(unfold(features), video[:, :, 1:])

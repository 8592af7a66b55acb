import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from magvit2_pytorch.tokenizer.context import Context
from magvit2_pytorch.tokenizer.resampling import Fold, Unfold


@pytest.mark.parametrize("patch_size", [(1, 1, 1), (4, 4, 4), (2, 3, 1)])
def test_unfolding_is_the_exact_inverse_of_folding(patch_size: tuple[int, int, int]) -> None:
    video = torch.randn(2, 3, 1 + 2 * patch_size[0], 4 * patch_size[1], 2 * patch_size[2])

    assert torch.equal(Unfold(patch_size, patch_size)(Fold(patch_size)(video)), video)


@pytest.mark.parametrize(("patch", "block"), [((4, 2), (8, 4)), ((1, 2), (1, 4)), ((4, 1), (8, 1)), ((3, 3), (6, 6))])
def test_overlapping_blocks_are_added_as_by_a_transposed_convolution(
    patch: tuple[int, int], block: tuple[int, int]
) -> None:
    folded = torch.randn(2, 3 * 2 * block[0] * block[1], 3, 4, 5)
    unfold = Unfold((2, *patch), (2, *block))

    video = unfold(folded, Context(begins=False))

    channels = folded.shape[1]
    kernel = torch.eye(channels).view(channels, 6, *block)
    padding = [size // 2 if whole > size else 0 for size, whole in zip(patch, block, strict=True)]
    frames = rearrange(folded, "b c t h w -> (b t) c h w")
    whole = F.conv_transpose2d(frames, kernel, stride=patch)
    top, left = padding
    expected = whole[..., top : top + 4 * patch[0], left : left + 5 * patch[1]]
    torch.testing.assert_close(video, rearrange(expected, "(b t) (c r) H W -> b c (t r) H W", b=2, r=2))
    assert torch.equal(unfold(folded), video[:, :, 1:])

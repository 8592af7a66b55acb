import math

import pytest
import torch

from magvit2_pytorch.pipelines.media.squared_error import SquaredError


def test_pieces_are_weighted_by_their_pixels() -> None:
    video, other = torch.rand(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0)).unsqueeze(1)
    pooled, whole = SquaredError(), SquaredError()

    for frames in ([0, 1, 2, 3], [4]):
        pooled.add(video[:, :, frames], other[:, :, frames])
    whole.add(video, other)

    assert pooled.psnr == pytest.approx(whole.psnr, rel=1e-12)
    assert whole.psnr == pytest.approx(-10 * math.log10((video - other).double().square().mean()), rel=1e-6)


def test_psnr_without_errors_is_infinite() -> None:
    error = SquaredError()
    error.add(torch.ones(2), torch.ones(2))

    assert error.psnr == math.inf

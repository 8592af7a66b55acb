"""Videos longer than the training clips, with simple models of a periodic motion, whose continuation is exact."""

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.maskgit import MaskGitConfig

NUM_CODES = 32
PERIOD = 22
STRIDE = 4
PHASES = torch.arange(PERIOD)
COLOURS = torch.stack([((PHASES + shift) % PERIOD - PERIOD // 2).abs() / (PERIOD // 2) for shift in (0, 5, 9)])
"""Each channel rises and falls linearly; together they determine the phase."""


class PhaseTokenizer(VideoTokenizer):
    """Encodes frames that have the colour of their phase. A code is the phase of the last frame of its latent frame."""

    def encode(self, video: Float[Tensor, "b c T H W"]) -> Int[Tensor, "b t h w"]:  # type: ignore[override]
        last = torch.arange(0, video.shape[2] + STRIDE - 1, STRIDE).clamp(max=video.shape[2] - 1)
        colours = (video[:, :, last, ::2, ::2] + 1) / 2
        return (colours[..., None] - COLOURS[:, None, None, None]).abs().sum(dim=1).argmin(dim=-1)

    def decode(  # type: ignore[override]
        self, codes: Int[Tensor, "b t h w"], num_frames: int, height: int, width: int
    ) -> Float[Tensor, "b c T H W"]:
        back = torch.arange(1 - STRIDE, 1)[:, None, None]
        phases = ((codes[:, :, None] + back) % PERIOD).flatten(1, 2)[:, STRIDE - 1 :][:, :num_frames]
        phases = phases.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :height, :width]
        return COLOURS[:, phases].movedim(0, 1) * 2 - 1


class PhaseMaskGit(MaskGit):
    """Predicts the phases that continue the visible ones; without visible ones, the label is the first phase."""

    def forward(  # type: ignore[override]
        self, codes: Int[Tensor, "b t h w"], labels: Int[Tensor, " b"], **_: object
    ) -> tuple[Float[Tensor, "b n v"], ...]:
        places = torch.arange(codes.shape[1])[:, None, None] * STRIDE
        start = torch.where(codes < self.config.mask_id, (codes - places) % PERIOD, -1).flatten(1).amax(dim=1)
        start = torch.where(start < 0, labels, start)
        expected = ((start[:, None, None, None] + places) % PERIOD).expand_as(codes).flatten(1)
        return (torch.nn.functional.one_hot(expected, NUM_CODES) * 60.0,)


@pytest.fixture
def periodic() -> VideoGenerationPipeline:
    """Pipeline for clips of 9 frames of 4 x 4 pixels, with a grid of 3 x 2 x 2."""
    tokenizer = PhaseTokenizer(
        image_size=4, init_dim=8, layers=("residual",), codebook_size=NUM_CODES, patch_size=(STRIDE, 2, 2)
    )
    config = MaskGitConfig(
        codebook_size=NUM_CODES, grid=(3, 2, 2), num_labels=PERIOD, width=16, depth=1, num_heads=2, split=1
    )
    labels = [str(phase) for phase in range(PERIOD)]
    return VideoGenerationPipeline(tokenizer, PhaseMaskGit(config), labels=labels, num_frames=9)


def motion(start: int, num_frames: int) -> Float[Tensor, "1 3 T 4 4"]:
    colours = COLOURS[:, (torch.arange(num_frames) + start) % PERIOD]
    return colours[None, :, :, None, None].expand(1, -1, -1, 4, 4)


@pytest.mark.parametrize("num_frames", [1, 2, 5, 9, 10, 13, 14, 30, 65])
def test_motion_continues_over_all_windows(periodic: VideoGenerationPipeline, num_frames: int) -> None:
    output = periodic.generate(num_frames, [3, 11], num_steps=2, seed=0, progress=False)

    expected = torch.cat([motion(3, num_frames), motion(11, num_frames)])
    torch.testing.assert_close(output.videos, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_first", [1, 5, 6, 8, 12, 20])
@pytest.mark.parametrize("overlap", [1, 5])
def test_given_frames_are_continued_from_a_whole_latent_frame(
    periodic: VideoGenerationPipeline, num_first: int, overlap: int
) -> None:
    for num_frames in (num_first + 1, num_first + 3, num_first + 18):
        videos = periodic.generate(
            num_frames, frames=motion(7, num_first), overlap=overlap, num_steps=2, seed=0, progress=False
        ).videos

        torch.testing.assert_close(videos, motion(7, num_frames), atol=1e-5, rtol=0)


def test_motion_ends_at_given_last_frames(periodic: VideoGenerationPipeline) -> None:
    whole = motion(2, 26)

    videos = periodic.generate(
        26, frames=whole[:, :, :5], last_frames=whole[:, :, -2:], num_steps=2, seed=0, progress=False
    ).videos

    torch.testing.assert_close(videos, whole, atol=1e-5, rtol=0)

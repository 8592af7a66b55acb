import torch

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.pipelines.tokenization import fit, reconstruct
from magvit2_pytorch.tokenizer.pixels import to_model_range, to_unit_range


def test_a_video_is_reconstructed_clip_by_clip(pipeline: VideoGenerationPipeline) -> None:
    video = torch.rand(3, 7, 16, 16)

    result = reconstruct(pipeline.tokenizer, video, clip_frames=5, progress=False)

    assert result.shape == video.shape
    with torch.no_grad():
        second = to_unit_range(pipeline.tokenizer(to_model_range(video[None, :, 5:])))[0]
    assert torch.equal(result[:, 5:], second)


def test_fitting_crops_the_middle_and_averages_areas() -> None:
    video = torch.zeros(3, 1, 4, 12)
    video[..., 4:8] = torch.tensor([0.0, 1.0, 0.2, 0.4]).repeat(4, 1)

    fitted = fit(video, 2, 2)

    torch.testing.assert_close(fitted[0, 0], torch.tensor([[0.5, 0.3], [0.5, 0.3]]))


def test_a_video_that_fits_is_left_alone() -> None:
    video = torch.rand(3, 2, 5, 6)

    assert torch.equal(fit(video, 5, 6), video)
    assert fit(video, 10, 10).shape == (3, 2, 10, 10)

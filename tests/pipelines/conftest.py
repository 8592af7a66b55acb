import pytest
import torch

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.maskgit import MaskGitConfig

LABELS = ("left", "right", "up")


@pytest.fixture
def versatile() -> VideoGenerationPipeline:
    """Return a pipeline with random weights and a transformer with tasks, context, critic and sequential sub-codes."""
    tokenizer = VideoTokenizer(
        image_size=16, init_dim=16, layers=("residual", "compress_space"), codebook_size=2**7, patch_size=(2, 2, 2)
    )
    config = MaskGitConfig(
        codebook_size=2**7,
        grid=(3, 4, 4),
        num_labels=len(LABELS),
        width=32,
        depth=2,
        num_heads=2,
        tasks=("frame_prediction", "class_frame_prediction", "central_inpainting"),
        dim_context=6,
        critic=True,
        sequential=True,
    )
    maskgit = MaskGit(config)
    for parameter in maskgit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return VideoGenerationPipeline(tokenizer, maskgit, labels=LABELS, num_frames=5)

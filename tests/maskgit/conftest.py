import pytest
import torch

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig


@pytest.fixture
def config() -> MaskGitConfig:
    return MaskGitConfig(codebook_size=2**7, grid=(3, 2, 4), num_labels=3, width=32, depth=2, num_heads=2)


@pytest.fixture
def maskgit(config: MaskGitConfig) -> MaskGit:
    """A model in which every weight matters; a fresh one has layers that do nothing yet."""
    model = MaskGit(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model

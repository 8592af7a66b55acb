from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig


@pytest.fixture
def config() -> MaskGitConfig:
    return MaskGitConfig(
        codebook_size=2**7, grid=(3, 2, 4), num_labels=3, width=32, depth=2, num_heads=2, num_registers=2
    )


@pytest.fixture
def build() -> Callable[[MaskGitConfig], MaskGit]:
    """Makes a model in which every weight matters; a fresh one has layers that do nothing yet."""

    def build(config: MaskGitConfig) -> MaskGit:
        model = MaskGit(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return model.eval()

    return build


@pytest.fixture
def maskgit(config: MaskGitConfig, build: Callable[[MaskGitConfig], MaskGit]) -> MaskGit:
    return build(config)


@pytest.fixture
def conditioned(config: MaskGitConfig, build: Callable[[MaskGitConfig], MaskGit]) -> MaskGit:
    """With everything that a transformer can be conditioned on, and a critic."""
    return build(replace(config, tasks=("frame_prediction", "central_inpainting"), dim_context=6, critic=True))

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState

from magvit2_pytorch.pipelines.media.video_files import write_frames
from magvit2_pytorch.tokenizer import TokenizerConfig
from magvit2_pytorch.train.data import DataConfig
from magvit2_pytorch.train.maskgit import MaskGitRun, TransformerConfig
from magvit2_pytorch.train.optimization import OptimizerConfig
from magvit2_pytorch.train.tokenizer import TokenizerRun


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGVIT2_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """accelerate keeps its state for the whole process; a run is meant to have a process of its own."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of two labels: 30 frames of a bright bar that moves to one side or the other."""
    for label, direction in (("left", -1), ("right", 1)):
        frames = np.full((30, 16, 16, 3), 40, dtype=np.uint8)
        for time, frame in enumerate(frames):
            frame[:, np.arange(time, time + 6) * direction % 16] = (220, 180, 7 * time)
        write_frames(tmp_path / "videos" / label / "bar.gif", frames, fps=10)
    return tmp_path / "videos"


@pytest.fixture
def tokenizer_run(tmp_path: Path, videos: Path) -> TokenizerRun:
    """Six steps of a tiny tokenizer."""
    return TokenizerRun(
        output_dir=tmp_path / "tokenizer",
        num_steps=6,
        batch_size=2,
        log_every=2,
        evaluate_every=4,
        save_every=4,
        data=DataConfig(path=str(videos), resolution=16, num_frames=5),
        model=TokenizerConfig(
            init_dim=16, layers=("residual", "compress_space"), codebook_size=2**6, patch_size=(2, 4, 4)
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2, ema_decay=0.9, matrices="muon"),
        progress=False,
    )


@pytest.fixture
def maskgit_run(tmp_path: Path, tokenizer_run: TokenizerRun) -> MaskGitRun:
    """Six steps of a tiny transformer, with dropout, on the codes of that tokenizer."""
    return MaskGitRun(
        output_dir=tmp_path / "maskgit",
        tokenizer=tokenizer_run.output_dir,
        num_steps=6,
        batch_size=4,
        log_every=2,
        evaluate_every=4,
        save_every=4,
        data=tokenizer_run.data,
        model=TransformerConfig(width=32, depth=1, num_heads=2, dropout=0.1),
        optimizer=replace(tokenizer_run.optimizer, betas=(0.9, 0.96)),
        progress=False,
    )

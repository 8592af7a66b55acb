from pathlib import Path
from typing import Any

import pytest
import torch

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.maskgit import MaskGitConfig
from magvit2_pytorch.maskgit.tasks import TASKS
from magvit2_pytorch.tokenizer.pixels import to_unit_range
from magvit2_pytorch.train import task_samples
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.task_samples import draw_tasks


def test_each_task_that_gives_pixels_is_shown_with_what_was_given_and_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(DataConfig(path="shapes", resolution=16, num_frames=5))
    layers = ("residual", "compress_space")
    tokenizer = VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=2**6, patch_size=(2, 4, 4))
    config = MaskGitConfig(
        codebook_size=2**6,
        grid=(3, 2, 2),
        num_labels=len(data.labels),
        tasks=tuple(TASKS),
        width=32,
        depth=1,
        num_heads=2,
    )
    pipeline = VideoGenerationPipeline(tokenizer, MaskGit(config), labels=data.labels, num_frames=5)
    saved: dict[str, Any] = {}
    monkeypatch.setattr(task_samples, "save_videos", lambda path, videos, **other: saved.update(videos=videos, **other))

    draw_tasks(pipeline, data.heldout, tmp_path / "tasks.gif", tasks=tuple(TASKS), seed=1)

    names = [name for name in TASKS if name != "class_generation"]
    assert saved["captions"] == [caption for name in names for caption in (name, "")]
    for number, (given, made) in enumerate(saved["videos"].unflatten(0, (len(names), 2))):
        is_grey = (given == task_samples.UNKNOWN).all(dim=0)
        original = to_unit_range(data.heldout[number]["video"])
        assert is_grey.any()
        assert torch.equal(given[:, ~is_grey], original[:, ~is_grey])
        assert torch.equal(made[:, ~is_grey], original[:, ~is_grey])
        assert not torch.equal(made, original)


def test_without_such_a_task_there_is_no_picture(tmp_path: Path) -> None:
    data = load_data(DataConfig(path="shapes", resolution=16, num_frames=5))
    tokenizer = VideoTokenizer(
        image_size=16, init_dim=16, layers=("residual",), codebook_size=2**6, patch_size=(2, 8, 8)
    )
    config = MaskGitConfig(codebook_size=2**6, grid=(3, 2, 2), num_labels=len(data.labels), width=32, num_heads=2)
    pipeline = VideoGenerationPipeline(tokenizer, MaskGit(config), labels=data.labels, num_frames=5)

    draw_tasks(pipeline, data.heldout, tmp_path / "tasks.gif", tasks=("class_generation",), seed=1)

    assert not list(tmp_path.iterdir())

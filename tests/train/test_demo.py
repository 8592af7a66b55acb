from dataclasses import replace
from pathlib import Path

import pytest

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.files import read_json
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.data.arcade import GAMES
from magvit2_pytorch.train.demo import DemoConfig, run_demo


def test_the_demo_takes_arcade_games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for presets in (tokenizer.PRESETS, maskgit.PRESETS):
        run = presets["arcade"]
        few = replace(run.data, drawn_clips=16, num_frames=5, resolution=32, cache_dir=str(tmp_path / "cache"))
        monkeypatch.setitem(presets, "arcade", replace(run, data=few, progress=False))
    config = DemoConfig(output_dir=tmp_path / "demo", data="arcade", seed=3, tokenizer_steps=2, maskgit_steps=2)

    run_demo(config)

    pipeline = VideoGenerationPipeline.from_pretrained(config.output_dir / "pipeline")
    assert pipeline.labels == tuple(GAMES)
    assert pipeline.num_frames == 5
    metrics = read_json(config.output_dir / "metrics.json")
    assert metrics["seed"] == 3
    assert metrics["tokenizer"]["psnr"] > 0
    written = {path.name for path in config.output_dir.iterdir()}
    assert written >= {"samples.gif", "samples.mp4", "samples.npy", "reconstruction.gif"}


def test_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown data 'films'"):
        DemoConfig(data="films")

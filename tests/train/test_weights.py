from dataclasses import replace
from pathlib import Path

import pytest
import torch

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer, hub
from magvit2_pytorch.files import read_json
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.weights import WeightsConfig, adding_seconds, make_weights


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsConfig:
    """Two steps of each training, on 16 clips."""
    for presets in (tokenizer.PRESETS, maskgit.PRESETS):
        run = presets["arcade64"]
        few = replace(run.data, drawn_clips=16, num_frames=5, resolution=32, cache_dir=str(tmp_path / "cache"))
        monkeypatch.setitem(presets, "arcade64", replace(run, data=few, progress=False))
    return WeightsConfig(
        names=("arcade64",),
        runs_dir=tmp_path / "runs",
        output_dir=tmp_path / "weights",
        tokenizer_steps=2,
        maskgit_steps=2,
    )


def test_weights_are_saved_in_half_precision_and_load_by_name(
    config: WeightsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_weights(config)
    monkeypatch.setattr(hub, "WEIGHTS_DIR", config.output_dir)
    pipeline = VideoGenerationPipeline.from_pretrained("arcade64")

    for model in pipeline.models():
        for values in model.parameters():
            assert values.dtype == torch.float32
            assert torch.equal(values, values.half().float())
    assert pipeline.generate(labels="snake", seed=0, progress=False).videos.shape == (1, 3, 5, 32, 32)
    assert VideoTokenizer.from_pretrained("arcade64").fingerprint() == pipeline.tokenizer.fingerprint()


def test_the_transformer_is_trained_on_the_codes_of_the_rounded_tokenizer(config: WeightsConfig) -> None:
    make_weights(config)

    run = read_json(config.runs_dir / "arcade64" / "maskgit" / "config.json")
    rounded = VideoTokenizer.from_pretrained(run["tokenizer"])
    saved = VideoTokenizer.from_pretrained(config.output_dir / "arcade64")
    assert rounded.fingerprint() == saved.fingerprint()


def test_a_repeated_command_trains_nothing_again(config: WeightsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    make_weights(config)
    names = ("tokenizer", "maskgit")
    weights = [config.output_dir / "arcade64" / name / "model.safetensors" for name in names]
    before = [path.read_bytes() for path in weights]

    make_weights(config)

    assert [path.read_bytes() for path in weights] == before


def test_seconds_add_up_also_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    with adding_seconds(path):
        pass
    first = read_json(path)["seconds"]
    with pytest.raises(KeyboardInterrupt), adding_seconds(path):
        raise KeyboardInterrupt

    assert read_json(path)["seconds"] > first > 0


def test_unknown_weights_are_named() -> None:
    with pytest.raises(ValueError, match="arcade46"):
        WeightsConfig(names=("arcade46",))

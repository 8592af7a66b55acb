import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer, hub
from magvit2_pytorch.files import read_json
from magvit2_pytorch.model_card import as_markdown
from magvit2_pytorch.pretrained import training_facts
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
    assert maskgit.load_tokenizer(Path("arcade64")).fingerprint() == pipeline.tokenizer.fingerprint()
    assert maskgit.load_pipeline(Path("arcade64")).maskgit.config == pipeline.maskgit.config


def test_weights_come_with_facts_and_checksums(config: WeightsConfig) -> None:
    make_weights(config)
    folder = config.output_dir / "arcade64"

    facts = training_facts(folder)
    assert facts["trained by"].endswith("--names arcade64 --seed 0 --tokenizer-steps 2 --maskgit-steps 2")
    assert facts["steps"] == "2 of the tokenizer, 2 of the transformer"
    psnr = read_json(config.runs_dir / "arcade64" / "tokenizer" / "metrics.json")["psnr"]
    assert facts["PSNR of held-out clips"] == f"{psnr:.2f} dB"
    card = (folder / "README.md").read_text()
    assert 'from_pretrained("arcade64")' in card
    assert "license: mit" in card
    assert all(f"| {name} | {as_markdown(fact)} |" in card for name, fact in facts.items())
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del files["SHA256SUMS"]
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert len(files) == 9


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

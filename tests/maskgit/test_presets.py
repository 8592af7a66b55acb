"""Transformers known by name."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from magvit2_pytorch.maskgit import MaskGit
from magvit2_pytorch.maskgit.presets import PRESETS
from magvit2_pytorch.maskgit.sub_code_heads import logits_given
from magvit2_pytorch.train.maskgit import PRESETS as TRAINING_PRESETS

PAPERS_CODES: dict[str, Any] = {"codebook_size": 2**18, "grid": (5, 16, 16)}


def test_magvit2_is_of_the_papers_size() -> None:
    with torch.device("meta"):
        model = MaskGit.from_preset("magvit2", num_labels=600, **PAPERS_CODES)

    assert model.num_parameters / 1e6 == pytest.approx(307, rel=0.02)
    assert (model.config.depth, model.config.width, model.config.num_heads) == (24, 1024, 16)
    assert model.config.mlp_ratio * model.config.width == 4096


@pytest.mark.parametrize(
    ("name", "millions"),
    [("magvit2", 303.34), ("magvit2-small", 85.88), ("base", 87.06), ("small", 14.62), ("tiny", 1.37)],
)
def test_presets_are_of_the_size_that_they_are_described_with(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = MaskGit.from_preset(name, **PAPERS_CODES)
        codes = torch.zeros(1, 5, 16, 16, dtype=torch.long)
        predicted = model(codes, torch.zeros(1, dtype=torch.long))
        logits = [logits_given(group, [codes.flatten(1)] * index) for index, group in enumerate(predicted)]
        torch.cat(logits, dim=-1).sum().backward()

    assert round(model.num_parameters / 1e6, 2) == millions
    assert [group.shape for group in logits] == [(1, 1280, 512)] * 2
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "run"), [("tiny", "demo"), ("base", "base"), ("magvit2-small", "magvit2-small"), ("magvit2", "magvit2")]
)
def test_presets_are_what_training_presets_of_that_kind_train(name: str, run: str) -> None:
    trained = vars(TRAINING_PRESETS[run].model)

    assert {field: getattr(PRESETS[name], field) for field in trained} == trained


def test_a_preset_takes_the_tokenizers_codes_and_other_changes() -> None:
    model = MaskGit.from_preset("tiny", codebook_size=2**7, grid=(3, 2, 4), num_heads=2, split=(4, 3), num_labels=2)

    changes: dict[str, Any] = {
        "codebook_size": 2**7,
        "grid": (3, 2, 4),
        "num_heads": 2,
        "split": (4, 3),
        "num_labels": 2,
    }
    assert model.config == replace(PRESETS["tiny"], **changes)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("large", {}, "unknown preset 'large': must be one of magvit2, magvit2-small, base, small, tiny"),
        (
            "tiny",
            {"heads": 4},
            "unknown option of the transformer 'heads': did you mean 'num_heads'\\? Allowed: codebook_size, grid",
        ),
        ("tiny", {"num_heads": 3}, "width must be a multiple of num_heads, got 128 and 3"),
    ],
)
def test_an_unknown_preset_or_option_is_refused_in_words(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MaskGit.from_preset(name, **PAPERS_CODES, **changes)

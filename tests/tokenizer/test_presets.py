"""Tokenizers known by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.configs import config_from_dict, config_to_dict
from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.tokenizer import TokenizerConfig
from magvit2_pytorch.tokenizer.presets import PRESETS
from magvit2_pytorch.train.tokenizer import DEMO


def on_the_meta_device(name: str) -> VideoTokenizer:
    """With shapes and without numbers."""
    with torch.device("meta"):
        return VideoTokenizer.from_preset(name)


def test_magvit2_is_of_the_papers_size() -> None:
    tokenizer = on_the_meta_device("magvit2")

    millions = [
        sum(parameter.numel() for parameter in half.parameters()) / 1e6
        for half in (tokenizer.encoder, tokenizer.decoder)
    ]

    assert [round(number, 2) for number in millions] == [144.88, 225.70]
    widths = {layer.width_after for layer in tokenizer.config.encoder_layers_resolved}
    assert sorted(widths) == [1 * 128, 2 * 128, 4 * 128]
    assert tokenizer.codebook_size == 2**18


@pytest.mark.parametrize("name", ["magvit2", "magvit2-small"])
@torch.no_grad()
def test_the_papers_grid_is_that_of_latents_and_pixels(name: str) -> None:
    tokenizer = on_the_meta_device(name)
    video = torch.empty(1, 3, 17, 128, 128, device="meta")

    latents = tokenizer.video_to_latents(video)

    assert tokenizer.code_shape(17, 128, 128) == (5, 16, 16)
    assert latents.shape == (1, 18, 5, 16, 16)
    assert tokenizer.encode(video).shape == (1, 5, 16, 16)
    assert tokenizer.decode(torch.empty(1, 5, 16, 16, dtype=torch.long, device="meta")).shape == video.shape
    assert tokenizer(video).shape == video.shape


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_built_and_lets_gradients_through(name: str) -> None:
    tokenizer = on_the_meta_device(name)
    height, width = tokenizer.config.height_width
    video = torch.empty(1, 3, 5, height, width, device="meta")

    tokenizer(video).sum().backward()

    assert all(parameter.grad is not None for parameter in tokenizer.parameters())


@pytest.mark.parametrize(
    ("name", "millions", "grid"),
    [
        ("magvit2-small", 56.46, (5, 16, 16)),
        ("base", 30.37, (5, 16, 16)),
        ("seed", 1.96, (9, 128, 128)),
        ("tiny", 1.53, (5, 4, 4)),
    ],
)
def test_the_other_presets_are_of_the_size_that_they_are_described_with(
    name: str, millions: float, grid: tuple[int, int, int]
) -> None:
    tokenizer = on_the_meta_device(name)

    assert round(tokenizer.num_parameters / 1e6, 2) == millions
    assert tokenizer.code_shape(17, *tokenizer.config.height_width) == grid


def test_seed_has_the_layers_of_the_seed() -> None:
    theirs = TokenizerConfig(
        image_size=256,
        init_dim=64,
        layers=(
            "residual",
            ("compress_space", 128),
            "residual",
            "residual",
            "attend_space",
            ("compress_time", 256),
            "attend_time",
        ),
    )

    assert PRESETS["seed"] == theirs
    assert on_the_meta_device("seed").config == theirs


def test_tiny_is_what_the_demo_trains() -> None:
    assert replace(PRESETS["tiny"], image_size=DEMO.model.image_size) == DEMO.model


def test_a_preset_may_be_changed_field_by_field() -> None:
    tokenizer = VideoTokenizer.from_preset("tiny", init_dim=8, layers=["residual", ["compress_space", 12]])

    expected = replace(PRESETS["tiny"], init_dim=8, layers=("residual", ("compress_space", 12)))
    assert tokenizer.config == expected


@pytest.mark.parametrize("name", ["tiny", "seed"])
def test_a_saved_preset_keeps_its_config(name: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"init_dim": 8, "codebook_size": 2**6}
    if PRESETS[name].quantizer == "fsq":
        changes["fsq_levels"] = (8, 8)
    tokenizer = VideoTokenizer.from_preset(name, **changes)
    tokenizer.save_pretrained(tmp_path)

    assert VideoTokenizer.from_pretrained(tmp_path).config == replace(PRESETS[name], **changes)


@pytest.mark.parametrize("name", PRESETS)
def test_the_config_of_a_preset_survives_its_file(name: str, tmp_path: Path) -> None:

    write_json(tmp_path / "config.json", config_to_dict(PRESETS[name]))

    assert config_from_dict(TokenizerConfig, read_json(tmp_path / "config.json")) == PRESETS[name]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "magvit3",
            {},
            "unknown preset 'magvit3': did you mean 'magvit2'. Allowed: magvit2, magvit2-small, base, seed, tiny",
        ),
        ("", {}, "unknown preset ''"),
        ("tiny", {"width": 8}, "unknown option 'width': must be one of image_only, init_dim, layers"),
        ("tiny", {"layers": ("residul",)}, "did you mean 'residual'"),
        ("magvit2", {"layers": ("residual",)}, r"must divide .* by \(1, 1, 1\), .* got \(4, 8, 8\)"),
    ],
)
def test_an_unknown_preset_or_option_is_refused_in_words(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VideoTokenizer.from_preset(name, **changes)

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig


@pytest.mark.parametrize(
    ("codebook_size", "split", "group_bits"),
    [
        (2**18, (10, 8), (10, 8)),
        (2**18, 2, (9, 9)),
        (2**17, 2, (9, 8)),
        (2**20, 3, (7, 7, 6)),
        (2**5, 5, (1, 1, 1, 1, 1)),
        (2**10, 1, (10,)),
    ],
)
def test_the_bits_of_a_code_are_dealt_evenly(
    codebook_size: int, split: int | tuple[int, ...], group_bits: tuple[int, ...]
) -> None:
    config = MaskGitConfig(codebook_size=codebook_size, grid=(5, 4, 4), split=split)

    assert config.group_digits == tuple((2,) * bits for bits in group_bits)
    assert config.vocab_sizes == tuple(2**bits for bits in group_bits)


@pytest.mark.parametrize(
    ("split", "group_digits"),
    [(1, ((5, 7, 8),)), (2, ((5, 7), (8,))), (3, ((5,), (7,), (8,))), ((1, 2), ((5,), (7, 8)))],
)
def test_the_levels_of_fsq_are_dealt_evenly(split: int | tuple[int, ...], group_digits: tuple) -> None:
    """The first level is the lowest digit of a code."""
    config = MaskGitConfig(codebook_size=280, levels=(8, 7, 5), grid=(5, 4, 4), split=split)

    assert config.group_digits == group_digits
    assert config.vocab_sizes == tuple(np.prod(digits) for digits in group_digits)


def test_the_mask_the_null_label_and_the_null_task_come_after_the_last_code_label_and_task() -> None:
    config = MaskGitConfig(
        codebook_size=64, grid=(5, 4, 4), num_labels=7, tasks=("frame_prediction", "central_inpainting")
    )

    assert config.mask_id == 64
    assert config.null_label == 7
    assert config.null_task == 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"depth": 3, "mlp_ratio": 2.7, "split": (5, 3, 2), "num_labels": 4, "num_registers": 3},
        {"codebook_size": 8 * 5 * 5, "levels": (8, 5, 5)},
        {"split": 3, "sequential": True},
        {"dim_context": 7, "critic": True, "qk_norm": False, "tasks": ("frame_prediction", "class_generation")},
    ],
)
def test_the_number_of_parameters_is_known_without_a_model(changes: dict[str, Any]) -> None:
    config = MaskGitConfig(**{"codebook_size": 1024, "grid": (5, 4, 4), "width": 32, "num_heads": 2} | changes)

    assert MaskGit(config).num_parameters == config.num_parameters


def test_a_config_far_too_large_to_build_is_checked_at_once() -> None:
    """As a hostile file may hold: what its model would need is known before anything is built."""
    config = MaskGitConfig(codebook_size=2**62, grid=(10**9, 1, 1), width=2**30, depth=10**12, num_heads=2)

    assert config.num_parameters > 10**30
    endless: list[dict[str, Any]] = [
        {"split": (1,) * 10**6},
        {"levels": (3,) * 10**6},
        {"tasks": ("frame_prediction",) * 10**6},
    ]
    for changes in endless:
        with pytest.raises(ValueError, match="must") as refused:
            MaskGitConfig(codebook_size=1024, grid=(5, 4, 4), **changes)
        assert len(str(refused.value)) < 300


@pytest.mark.usefixtures("as_users_call")
def test_integers_of_numpy_become_pythons(tmp_path: Path) -> None:
    given: dict[str, Any] = {"codebook_size": np.int64(64), "grid": (np.int64(1), 2, 2), "width": np.int32(16)}
    config = MaskGitConfig(**given, num_heads=2)

    MaskGit(config).save_pretrained(tmp_path)

    assert MaskGit.from_pretrained(tmp_path).config == config


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 1000}, "power of two.*1000"),
        ({"codebook_size": 2**63}, r"codebook_size must be at most 2\*\*62"),
        ({"codebook_size": 1}, ">= 2, got 1"),
        ({"levels": (8, 8, 8)}, r"codebook_size must be the product of levels, got 1024 and \(8, 8, 8\)"),
        ({"levels": (1024, 1)}, "each entry of levels must be an integer >= 2, got 1"),
        ({"levels": ()}, r"must be the product of levels, got 1024 and \(\)"),
        ({"levels": (32, 32), "split": 3}, "split must be at most 2, the levels of a code, got 3"),
        ({"grid": (5, 0, 4)}, "each entry of grid must be an integer >= 1, got 0"),
        ({"grid": (5, 4)}, r"grid must be three integers \(t, h, w\), got \(5, 4\)"),
        ({"grid": (5, 4.0, 4)}, "each entry of grid must be an integer, got 4.0"),
        ({"num_labels": -1}, "num_labels must be an integer >= 0, got -1"),
        ({"num_labels": True}, "num_labels must be an integer >= 0, got True"),
        ({"width": 64.0}, "width must be an integer, got 64.0"),
        ({"depth": 0}, "depth must be an integer >= 1, got 0"),
        ({"split": 0}, "split must be an integer >= 1, got 0"),
        ({"split": True}, "split must be an integer >= 1, got True"),
        ({"split": 11}, "split must be at most 10, the bits of a code, got 11"),
        ({"split": (5, 4)}, r"split must have a sum of 10, the bits of a code, got \(5, 4\)"),
        ({"split": (11, -1)}, "each entry of split must be an integer >= 1, got -1"),
        ({"split": ()}, r"split must have a sum of 10, the bits of a code, got \(\)"),
        ({"tasks": ("frame_predicton",)}, "unknown task 'frame_predicton': did you mean 'frame_prediction'"),
        ({"tasks": ("frame_prediction",) * 2}, "tasks must not contain duplicates, got .*'frame_prediction'"),
        ({"num_registers": -1}, "num_registers must be an integer >= 0, got -1"),
        ({"dim_context": 0}, "dim_context must be an integer >= 1, got 0"),
        ({"num_heads": 3}, "width must be a multiple of num_heads, got 256 and 3"),
        ({"num_heads": 64}, "at least 6.*256 / 64 = 4"),
        ({"width": 9 * 7, "num_heads": 9}, "must be even.*= 7"),
        ({"mlp_ratio": 0.0}, r"mlp_ratio \* width must be finite and at least 1, got 0.0 \* 256"),
        ({"mlp_ratio": float("nan")}, r"mlp_ratio \* width must be finite"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"codebook_size": 1024, "grid": (5, 4, 4)}

    with pytest.raises(ValueError, match=message):
        MaskGitConfig(**valid | changes)

from typing import Any

import pytest

from magvit2_pytorch.maskgit import MaskGitConfig


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

    assert config.group_bits == group_bits
    assert config.vocab_sizes == tuple(2**bits for bits in group_bits)
    assert sum(config.group_bits) == config.code_bits


def test_the_mask_the_null_label_and_the_null_task_come_after_the_last_code_label_and_task() -> None:
    config = MaskGitConfig(codebook_size=64, grid=(5, 4, 4), num_labels=7, tasks=("predict", "inpaint"))

    assert config.mask_id == 64
    assert config.null_label == 7
    assert config.null_task == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 1000}, "power of two.*1000"),
        ({"codebook_size": 1}, "at least 2, got 1"),
        ({"grid": (5, 0, 4)}, "grid must be three positive"),
        ({"num_labels": -1}, "num_labels must not be negative, got -1"),
        ({"depth": 0}, "depth must be positive, got 0"),
        ({"split": 0}, "split must be from 1 to the 10 bits"),
        ({"split": 11}, "split must be from 1 to the 10 bits of a code, got 11"),
        ({"split": (5, 4)}, r"split must share out the 10 bits of a code, got \(5, 4\)"),
        ({"split": (11, -1)}, r"split must share out the 10 bits"),
        ({"split": ()}, r"split must share out the 10 bits"),
        ({"tasks": ("a", "b", "a")}, "tasks must have names of their own, got .*'b'"),
        ({"num_registers": -1}, "num_registers must not be negative, got -1"),
        ({"dim_context": 0}, "dim_context must be positive, or None .* got 0"),
        ({"num_heads": 3}, "num_heads must divide the width 256, got 3"),
        ({"num_heads": 64}, "at least 6.*256 / 64 = 4"),
        ({"width": 9 * 7, "num_heads": 9}, "must be even.*= 7"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must leave at least one"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio must leave at least one"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"codebook_size": 1024, "grid": (5, 4, 4)}

    with pytest.raises(ValueError, match=message):
        MaskGitConfig(**valid | changes)

from pathlib import Path
from typing import Any

import pytest
import torch

from magvit2_pytorch import VideoTokenizer

FORMAT_1 = Path(__file__).parents[1] / "magvit2_pytorch" / "format_1"


def small_tokenizer(**changes: Any) -> VideoTokenizer:
    torch.manual_seed(0)
    options = {"image_size": 16, "init_dim": 16, "layers": ("residual", "compress_space"), "codebook_size": 2**7}
    return VideoTokenizer(**options | changes)


def test_a_tokenizer_has_one_fingerprint_wherever_and_in_whatever_type_it_is(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(tmp_path)

    same = [
        VideoTokenizer.from_pretrained(tmp_path),
        small_tokenizer(image_size=64, gradient_checkpointing=False, inverse_temperature=2.0),
        small_tokenizer().to(torch.bfloat16),
    ]

    assert {one.fingerprint() for one in same} == {tokenizer.fingerprint()}


def test_what_changes_the_codes_changes_the_fingerprint() -> None:
    trained = small_tokenizer()
    with torch.no_grad():
        next(trained.parameters()).view(-1)[0] += 0.1
    others = [trained, small_tokenizer(quantizer="bsq"), small_tokenizer(norm="channel"), small_tokenizer()]

    assert len({one.fingerprint() for one in others}) == 4


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, "52163c0ea86f82e2"),
        ({"quantizer": "bsq", "norm": "channel"}, "d7ac8dc497b71d91"),
        ({"quantizer": "fsq", "fsq_levels": (3, 3, 3), "codebook_size": 27}, "51615d1e17590eba"),
    ],
)
def test_the_fingerprint_in_old_code_files_is_still_that_of_their_tokenizer(
    options: dict[str, Any], known: str
) -> None:
    tokenizer = small_tokenizer(**options)
    with torch.no_grad():
        for index, parameter in enumerate(tokenizer.parameters(), start=1):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape) * index / 8)

    assert tokenizer.fingerprint() == known


@pytest.mark.parametrize(
    ("folder", "known"), [("pipeline/tokenizer", "30a402b2a01c42cf"), ("folding_tokenizer", "18f48a5ecd87fc86")]
)
def test_a_tokenizer_of_format_1_keeps_its_fingerprint(folder: str, known: str) -> None:
    assert VideoTokenizer.from_pretrained(FORMAT_1 / folder).fingerprint() == known

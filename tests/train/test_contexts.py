import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from magvit2_pytorch.train.contexts import find_contexts


def save(path: Path, **tensors: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path)


def test_each_window_has_the_embeddings_beside_its_video_padded_to_the_longest(tmp_path: Path) -> None:
    short, long = torch.randn(2, 3), torch.randn(4, 3).half()
    save(tmp_path / "a" / "one.context.safetensors", context=short)
    save(tmp_path / "two.context.safetensors", context=long)
    videos = ["a/one.mp4", "a/one.mp4", "none.mp4", "two.gif"]

    contexts = find_contexts(tmp_path, videos)

    assert contexts is not None
    embeddings, is_padding = contexts.of([3, 1, 2])
    assert torch.equal(embeddings[0], long.float())
    assert torch.equal(embeddings[1], torch.cat([short, torch.zeros(2, 3)]))
    assert is_padding.tolist() == [[False] * 4, [False, False, True, True], [True] * 4]
    assert (embeddings[2] == 0).all()
    assert contexts.channels == 3


def test_a_file_whose_name_is_not_utf8_is_skipped_by_name(tmp_path: Path, caplog) -> None:
    save(tmp_path / "a.context.safetensors", context=torch.ones(2, 3))
    shutil.copy(tmp_path / "a.context.safetensors", tmp_path / os.fsdecode(b"\xfc.context.safetensors"))

    contexts = find_contexts(tmp_path, ["a.mp4", r"\udcfc.mp4"])

    assert contexts is not None
    assert contexts.of([0, 1])[1].tolist() == [[False] * 2, [True] * 2]
    (message,) = caplog.messages
    assert message.startswith(rf"skipped {tmp_path}/\udcfc.context.safetensors: ")


def test_where_no_video_has_embeddings_there_are_no_contexts(tmp_path: Path) -> None:
    save(tmp_path / "other.context.safetensors", context=torch.randn(2, 3))

    assert find_contexts(tmp_path, ["video.mp4"]) is None


def test_other_embeddings_have_another_fingerprint(tmp_path: Path) -> None:
    def fingerprint() -> str:
        contexts = find_contexts(tmp_path, ["a.mp4", "b.mp4"])
        assert contexts is not None
        return contexts.fingerprint

    save(tmp_path / "a.context.safetensors", context=torch.randn(2, 3))
    before = fingerprint()
    assert fingerprint() == before
    save(tmp_path / "b.context.safetensors", context=torch.randn(2, 3))
    with_b = fingerprint()
    save(tmp_path / "b.context.safetensors", context=torch.randn(5, 3))

    assert len({before, with_b, fingerprint()}) == 3


@pytest.mark.parametrize(
    ("tensors", "got"),
    [
        ({}, "no tensors"),
        ({"text": torch.zeros(2, 3)}, r"text of \[2, 3\] F32"),
        ({"context": torch.zeros(3)}, r"context of \[3\] F32"),
        ({"context": torch.zeros(0, 3)}, r"context of \[0, 3\] F32"),
        ({"context": torch.zeros(2, 3, dtype=torch.long)}, r"context of \[2, 3\] I64"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, tensors: dict[str, Tensor], got: str) -> None:
    save(tmp_path / "a.context.safetensors", **tensors)

    with pytest.raises(ValueError, match=rf"must contain a floating point tensor 'context' of shape .*, got {got}"):
        find_contexts(tmp_path, ["a.mp4"])


def test_a_damaged_file_and_another_number_of_channels_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.context.safetensors", context=torch.zeros(2, 3))
    save(tmp_path / "b.context.safetensors", context=torch.zeros(2, 4))
    (tmp_path / "c.context.safetensors").write_bytes(b"nothing")

    with pytest.raises(ValueError, match=r"the same number of channels, got 3 in .*a\.context.* and 4 in .*b\.context"):
        find_contexts(tmp_path, ["a.mp4", "b.mp4"])
    with pytest.raises(ValueError, match=r"c\.context\.safetensors cannot be read as safetensors"):
        find_contexts(tmp_path, ["c.mp4"])

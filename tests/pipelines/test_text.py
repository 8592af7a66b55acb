"""A T5 with random weights and a vocabulary of the alphabet."""

import sys
from pathlib import Path

import pytest
import torch

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.pipelines.text import T5TextEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = [("▁a", -2.0), ("▁red", -2.0), ("▁car", -2.0), ("▁", -3.0)]
    letters = [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *words, *letters], extra_ids=0)
    config = T5Config(vocab_size=len(tokenizer), d_model=6, d_kv=4, d_ff=12, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_every_token_has_an_embedding(folder: Path) -> None:
    encoder = T5TextEncoder.from_pretrained(folder)

    context, padding = encoder(["a red car", "a"])

    assert encoder.dim == 6
    assert context.shape == (2, 4, 6)
    assert padding.tolist() == [[False] * 4, [False, False, True, True]]
    assert not context.requires_grad
    assert (context[1, 2:] == 0).all()


def test_texts_of_a_batch_are_independent(folder: Path) -> None:
    encoder = T5TextEncoder.from_pretrained(folder)

    alone = encoder(["a"]).context

    torch.testing.assert_close(encoder(["a red car", "a"]).context[1:, :2], alone)
    assert not torch.allclose(encoder(["a car"]).context[:, :1], alone[:, :1])


def test_dtype_and_device_of_the_encoder(folder: Path) -> None:
    encoder = T5TextEncoder.from_pretrained(folder, device="cpu", dtype=torch.bfloat16)

    assert encoder(["a"]).context.dtype == torch.bfloat16
    assert encoder.to(torch.float32)(["a"]).context.dtype == torch.float32


def test_an_empty_text_is_padding(folder: Path) -> None:
    context, padding = T5TextEncoder.from_pretrained(folder)(["a car", " "])

    assert padding[1].all()
    assert (context[1] == 0).all()
    assert not padding[0].any()


def test_a_pipeline_accepts_text_embeddings(folder: Path, versatile: VideoGenerationPipeline) -> None:
    encoder = T5TextEncoder.from_pretrained(folder)

    both = versatile.generate(**encoder(["a", "a red car"])._asdict(), seed=[3, 4], progress=False)
    alone = versatile.generate(**encoder(["a"])._asdict(), seed=[3], progress=False)

    assert both.videos.shape == (2, 3, 5, 16, 16)
    assert torch.equal(both.codes[:1], alone.codes)


def test_wrong_texts_are_refused(folder: Path, as_users_call: None) -> None:
    encoder = T5TextEncoder.from_pretrained(folder, max_tokens=3)

    encoder(["a car"])
    for texts in ("a car", [], ["a", 1]):
        with pytest.raises(ValueError, match="list of at least one string"):
            encoder(texts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"at most 3 tokens, got 4: 'a red car'"):
        encoder(["a", "a red car"])


def test_other_names_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("t5-base", "/nowhere/t5", "./t5", "a/b/c"):
        with pytest.raises(FileNotFoundError, match=f"there is no folder {name}"):
            T5TextEncoder.from_pretrained(name)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no T5 could be loaded from"):
        T5TextEncoder.from_pretrained(folder)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(ModuleNotFoundError, match=r"extra `text`: run `pip install transformers sentencepiece`"):
        T5TextEncoder.from_pretrained(tmp_path)

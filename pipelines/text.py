"""Texts as embeddings that a transformer with `dim_context` attends to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .movable import Movable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5EncoderModel


class TextContext(NamedTuple):
    """What `generate` and `MaskGit.forward` take as `context` and `context_padding`."""

    context: Float[Tensor, "b m e"]
    """0 where there is padding."""
    context_padding: Bool[Tensor, "b m"]
    """True where there is no embedding; everywhere for an empty text, which then counts as none."""


class T5TextEncoder(Movable):
    """The encoder of a frozen T5: an embedding for each token of a text, and of its end.

    Needs the extra `text`: transformers and sentencepiece.
    """

    def __init__(self, model: "T5EncoderModel", tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int = 128) -> None:
        """Args:
        max_tokens: of a text, its end counted.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, revision: str | None = None, max_tokens: int = 128) -> Self:
        """A T5, encoder and tokenizer, from a folder or from a Hub repository, which is downloaded.

        Args:
            name_or_folder: a folder that transformers wrote, or `owner/name`, such as `google/t5-v1_1-base`. Weights
                are read as safetensors only.

        Raises:
            ModuleNotFoundError: transformers is not installed.
            FileNotFoundError: there is no such folder or repository, or it lacks a file.
        """
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "a text encoder needs the extra `text`: run `pip install transformers sentencepiece`, "
                "or `pip install -e '.[text]'` in the clone"
            ) from error
        name, is_local = str(name_or_folder), Path(name_or_folder).is_dir()
        if not is_local and (name.count("/") != 1 or name.startswith(("/", ".", "~"))):
            raise FileNotFoundError(f"there is no folder {name}")
        where = {"revision": revision, "local_files_only": is_local}
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, **where)
            model = T5EncoderModel.from_pretrained(name, use_safetensors=True, **where)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"no T5 can be read from {name}: {error}") from error
        return cls(model, tokenizer, max_tokens=max_tokens)

    @property
    def dim(self) -> int:
        """Channels of the embeddings, to be `dim_context` of the transformer."""
        return self.model.config.d_model

    def models(self) -> "tuple[T5EncoderModel]":
        """Return the encoder."""
        return (self.model,)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> TextContext:
        """The embeddings of texts, all padded to the longest.

        Raises:
            ValueError: no text, something else than texts, or one of more than `max_tokens` tokens.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts must be a list of at least one text, got {texts!r}")
        tokens = self.tokenizer(list(texts), padding=True, return_tensors="pt").to(self.model.device)
        is_token: Bool[Tensor, "b m"] = tokens["attention_mask"].bool()
        longest = is_token.sum(dim=1).max()
        if longest > self.max_tokens:
            which = texts[int(is_token.sum(dim=1).argmax())]
            raise ValueError(f"a text must have at most {self.max_tokens} tokens, got {longest}: {which!r}")
        output = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        is_empty = torch.tensor([not text.strip() for text in texts], device=is_token.device)
        padding = ~is_token | is_empty[:, None]
        return TextContext(output.last_hidden_state.masked_fill(padding[..., None], 0), padding)

"""Embeddings of texts, for transformers with `dim_context`."""

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
    """Arguments `context` and `context_padding` of `generate` and `MaskGit.forward`."""

    context: Float[Tensor, "b m e"]
    """One embedding per token; 0 at padding."""
    context_padding: Bool[Tensor, "b m"]
    """True at padding. An empty text is padding only, which is the same as no context."""


class T5TextEncoder(Movable):
    """Frozen encoder of a T5. It returns an embedding for each token of a text, including the end token.

    Requires the extra `text`: transformers and sentencepiece.
    """

    def __init__(self, model: "T5EncoderModel", tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int = 128) -> None:
        """Args:
        max_tokens: maximum number of tokens of a text, including the end token.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        max_tokens: int = 128,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load encoder and tokenizer of a T5 from a folder or a Hub repository. The model weights must be safetensors.

        Args:
            name_or_folder: folder that transformers wrote, or `owner/name`, such as `google/t5-v1_1-base`.
            max_tokens: maximum number of tokens of a text, including the end token.
            revision, token, cache_dir, local_files_only: as in `huggingface_hub.snapshot_download`.

        Raises:
            ModuleNotFoundError: if transformers is not installed.
            FileNotFoundError: if the folder or repository or one of its files does not exist.
        """
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "T5TextEncoder requires the extra `text`: run `pip install transformers sentencepiece`, "
                "or `pip install -e '.[text]'` in the clone"
            ) from error
        name, is_local = str(name_or_folder), Path(name_or_folder).is_dir()
        if not is_local and (name.count("/") != 1 or name.startswith(("/", ".", "~"))):
            raise FileNotFoundError(f"there is no folder {name}")
        where = {"revision": revision, "token": token, "cache_dir": cache_dir}
        where["local_files_only"] = local_files_only or is_local
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, **where)
            model = T5EncoderModel.from_pretrained(name, use_safetensors=True, **where)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"no T5 could be loaded from {name}: {error}") from error
        return cls(model, tokenizer, max_tokens=max_tokens).to(device, dtype)

    @property
    def dim(self) -> int:
        """Number of channels of the embeddings, the `dim_context` of the transformer."""
        return self.model.config.d_model

    def models(self) -> "tuple[T5EncoderModel]":
        """Return the encoder."""
        return (self.model,)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> TextContext:
        """Return the embeddings of texts, padded to the longest text.

        Raises:
            ValueError: if `texts` is not a list of strings, is empty, or has a text of more than `max_tokens` tokens.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts must be a list of at least one string, got {texts!r}")
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

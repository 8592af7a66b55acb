"""Model cards: the `README.md` of a folder that contains a model."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from .files import written_whole
from .messages import printable

CARD_NAME = "README.md"
CARD_MARK = b"<!-- Written by magvit2-pytorch, which writes it anew until somebody edits it (digest "
MAX_FACT = 10_000  # characters


def model_card(
    title: str,
    summary: str,
    *,
    example: str,
    facts: Mapping[str, str],
    tags: Sequence[str],
    license: str | None,
) -> str:
    """Return the text of a model card: metadata, what the model is, how to load it, its properties.

    Args:
        title: the class that loads it.
        example: lines of Python that follow the import of that class.
        facts: properties by name. They are escaped: labels, for example, come from names of folders.
    """
    data = ModelCardData(library_name="magvit2-pytorch", license=license, tags=list(tags))
    text = "\n".join(
        [
            f"# {title}",
            "",
            summary,
            "",
            "```python",
            f"from magvit2_pytorch import {title}",
            "",
            example,
            "```",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {as_markdown(fact)} | {as_markdown(value)} |" for fact, value in facts.items()),
            "",
        ]
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def as_markdown(text: str) -> str:
    """Return Markdown that shows `text` literally on one line: no links, HTML, table cells or control characters."""
    escaped = re.sub(r"([\\`*_~$\[<|&])", r"\\\1", printable(text, MAX_FACT))
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # GitHub makes links of bare addresses


def write_card(folder: Path, card: str) -> None:
    """Write a model card, unless there is a `README.md` that somebody else wrote or edited."""
    path = folder / CARD_NAME
    if not path.is_file() or is_card_of_ours(path.read_bytes()):
        with written_whole(path) as aside:
            aside.write_bytes(card.encode() + mark_of(card.encode()))


def is_card_of_ours(content: bytes) -> bool:
    """Return whether a model card is unchanged: its last line has the digest of the rest."""
    card, start, rest = content.rpartition(CARD_MARK)
    return start + rest == mark_of(card)


def mark_of(card: bytes) -> bytes:
    """Return the last line of a model card."""
    return CARD_MARK + hashlib.sha256(card).hexdigest()[:16].encode() + b") -->\n"

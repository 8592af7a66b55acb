"""Model cards: the `README.md` of a folder that holds a model."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .files import written_whole

CARD_NAME = "README.md"
CARD_MARK = b"<!-- Written by magvit2-pytorch, which writes it anew until somebody edits it (digest "


def model_card(
    title: str,
    summary: str,
    *,
    example: str,
    facts: Mapping[str, str],
    tags: Sequence[str],
    license: str | None,
) -> str:
    """The text of a model card: header, what the model is, how to load it, its facts.

    Args:
        title: the class that loads it.
        example: lines of Python that follow the import of that class.
    """
    header = {"library_name": "magvit2-pytorch"} | ({"license": license} if license else {}) | {"tags": list(tags)}
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in header.items()),  # JSON is YAML
            "---",
            "",
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
            *(f"| {fact} | {value} |" for fact, value in facts.items()),
            "",
        ]
    )


def write_card(folder: Path, card: str) -> None:
    """Write a model card, unless there is a `README.md` that somebody else wrote or edited."""
    path = folder / CARD_NAME
    if not path.exists() or is_card_of_ours(path.read_bytes()):
        with written_whole(path) as aside:
            aside.write_bytes(card.encode() + mark_of(card.encode()))


def is_card_of_ours(content: bytes) -> bool:
    """Whether a model card is as it was written here: its last line holds the digest of the rest."""
    card, start, rest = content.rpartition(CARD_MARK)
    return start + rest == mark_of(card)


def mark_of(card: bytes) -> bytes:
    """The last line of a model card."""
    return CARD_MARK + hashlib.sha256(card).hexdigest()[:16].encode() + b") -->\n"

"""Label names: Unicode normalization, natural sort order, lookup by name or index."""

import logging
import operator
import re
import unicodedata
from collections.abc import Sequence
from typing import SupportsIndex

from .messages import allowed_names, printable

Label = str | SupportsIndex
"""A name or an index."""

logger = logging.getLogger(__name__)


def normalized(label: str) -> str:
    """Return a label in Unicode's composed form (NFC), with bytes that are not UTF-8 escaped.

    File systems and programs differ in how they write accents, and names that look the same are the same label.

    >>> normalized("cafe\\u0301") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", label.encode("utf-8", "backslashreplace").decode())


def natural_order(label: str) -> tuple[list[str | int], str]:
    """Sorting key that compares digits as numbers.

    >>> sorted(["10", "2", "take 10", "take 9"], key=natural_order)
    ['2', '10', 'take 9', 'take 10']
    """
    parts = re.split(r"([0-9]+)", label)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], label


def label_index(label: Label, names: Sequence[str]) -> int:
    """Return the index of a label.

    An integer is an index. A string is a name, but a string of digits is an index if no name consists of digits.

    Raises:
        ValueError: if there is no such label.
    """
    index = _index_of_name(label, names) if isinstance(label, str) else _as_index(label)
    if index is None or not 0 <= index < len(names):
        raise ValueError(f"unknown label {printable(repr(label))}: {allowed_names(label, names)}")
    name = names[index]
    if not isinstance(label, str) and name != str(index) and (name.isdecimal() or str(index) in names):
        logger.warning("label %d is an index and selects %r; to select by name, pass a string", index, name)
    return index


def _index_of_name(label: str, names: Sequence[str]) -> int | None:
    if label in names:
        return names.index(label)
    spelled = [normalized(name) for name in names]
    if normalized(label) in spelled:
        return spelled.index(normalized(label))
    return int(label) if label.isdecimal() and not any(name.isdecimal() for name in names) else None


def _as_index(label: object) -> int | None:
    try:
        return None if isinstance(label, bool) else operator.index(label)  # type: ignore[arg-type]
    except TypeError:
        return None

"""Parts of messages: suggestions for misspelled names, and text that is safe to print."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 20


def allowed_names(name: object, allowed: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest allowed name, and up to `MOST_NAMES` of all.

    >>> allowed_names("cosin", ["cosine", "linear"])
    "did you mean 'cosine'? Allowed: cosine, linear"
    """
    names = list(allowed)
    nearest = difflib.get_close_matches(str(name), names, n=1)
    suggestion = f"did you mean {printable(nearest[0])!r}? " if nearest else ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    listed = ("Allowed: " if nearest else "must be one of ") + ", ".join(map(printable, names[:MOST_NAMES])) + more
    return suggestion + listed if names else "no value is allowed"


def printable(text: object, most: int = 200) -> str:
    """Return `text` on one line, with control characters and surrogates escaped, cut after `most` characters."""
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in str(text)
    )
    return escaped if len(escaped) <= most else f"{escaped[: most - 3]}..."

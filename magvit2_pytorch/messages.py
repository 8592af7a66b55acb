"""Parts of messages: suggestions for misspelled names, and text that is safe to print."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 20


def allowed_names(name: object, allowed: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest allowed one, and at most `MOST_NAMES` of all.

    >>> allowed_names("cosin", ["cosine", "linear"])
    "did you mean 'cosine'? Allowed: cosine, linear"
    """
    names = list(allowed)
    nearest = difflib.get_close_matches(str(name), names, n=1)
    suggestion = f"did you mean {printable(nearest[0])!r}? " if nearest else ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    listed = f"Allowed: {', '.join(map(printable, names[:MOST_NAMES]))}{more}" if names else "None is allowed"
    return suggestion + listed


def printable(text: object, most: int = 200) -> str:
    """`text` on one line, with control characters and surrogates escaped, cut after `most` characters."""
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in str(text)
    )
    return escaped if len(escaped) <= most else f"{escaped[: most - 3]}..."

"""Is the installed `magvit2_pytorch` this one? PyPI has another package of that name."""

import sys
from importlib.util import find_spec
from pathlib import Path


def check_installation() -> None:
    """End the program in words where another package stands in the place of this one, or none does.

    Started by path, a script of this folder finds this module beside itself, whatever is installed.
    """
    spec = find_spec("magvit2_pytorch")
    if spec is None or spec.origin is None:
        sys.exit("magvit2_pytorch is not installed here: run `pip install -e .` in its clone, or use the clone's .venv")
    if "VideoGenerationPipeline" not in Path(spec.origin).read_text():
        sys.exit(
            f"{Path(spec.origin).parent} is another package of the same name. Remove it with "
            "`pip uninstall magvit2-pytorch`, then run `pip install -e .` in the clone of this one"
        )

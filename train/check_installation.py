"""Check that the installed `magvit2_pytorch` is this one: PyPI has another package of the same name."""

import sys
from importlib.util import find_spec
from pathlib import Path


def check_installation() -> None:
    """End the process with a message if `magvit2_pytorch` is not installed or is another package.

    Scripts in this folder import this module by file name, so the check works even if the package is not installed.
    """
    spec = find_spec("magvit2_pytorch")
    if spec is None or spec.origin is None:
        sys.exit("magvit2_pytorch is not installed: run `pip install -e .` in its clone, or use the clone's .venv")
    if "VideoGenerationPipeline" not in Path(spec.origin).read_text():
        sys.exit(
            f"{Path(spec.origin).parent} is another package of the same name. Remove it with "
            "`pip uninstall magvit2-pytorch`, then run `pip install -e .` in the clone of this package"
        )

"""MAGVIT-v2 video tokenizer, masked transformer (MaskGIT), and the pipeline that combines them."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magvit2_pytorch.maskgit import MaskGit
    from magvit2_pytorch.pipelines import VideoGenerationPipeline
    from magvit2_pytorch.tokenizer import VideoTokenizer

__all__ = ["MaskGit", "VideoGenerationPipeline", "VideoTokenizer"]

_HOMES = {"MaskGit": "maskgit", "VideoGenerationPipeline": "pipelines", "VideoTokenizer": "tokenizer"}

# In a clone, the sub-packages are next to this folder. Python that is started in the clone imports this folder, even if
# the package is installed.
_ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("tokenizer", "maskgit", "pipelines", "train")
if (_ROOT / "pyproject.toml").is_file() and all((_ROOT / folder).is_dir() for folder in _FOLDERS):
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> object:
    """Import a public class on first access, so that `magvit2 --help` imports none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

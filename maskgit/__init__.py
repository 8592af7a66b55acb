"""The masked transformer, its training objective and iterative decoding."""

from .config import MaskGitConfig
from .guidance import guide
from .model import MaskGit
from .objective import MaskGitObjective
from .sampling import iterative_decode

__all__ = ["MaskGit", "MaskGitConfig", "MaskGitObjective", "guide", "iterative_decode"]

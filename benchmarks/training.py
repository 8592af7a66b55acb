"""Trainings that other benchmarks start."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from magvit2_pytorch import VideoTokenizer

ROOT = Path(__file__).resolve().parent.parent


def trained_tokenizer(options: Sequence[str], output: Path) -> VideoTokenizer:
    """Print and run `train/tokenizer.py` with these options, and return the tokenizer in evaluation mode.

    If the training fails, its error is shown and this process ends.
    """
    command = ["train/tokenizer.py", *options]
    print(f"{time.strftime('%X')} python {' '.join(command)}", flush=True)
    command += ["--output-dir", str(output.absolute()), "--no-progress"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return VideoTokenizer.from_pretrained(output / "tokenizer").eval()

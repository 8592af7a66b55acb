"""Python environments for benchmarks against other packages."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import rmtree

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path("~/.cache/magvit2-pytorch").expanduser()
TORCH = ("torch==2.14.1", "torchvision==0.29.1")
"""For both sides, since the other packages need torchvision."""
OURS = ("einops", "huggingface_hub", "jaxtyping", "psutil", "safetensors", "vector-quantize-pytorch")
"""Requirements of this package that the other packages do not have."""


def set_up(environment: Path, requirements: tuple[str, ...]) -> Path:
    """Create the environment if it does not exist, and return the path of its Python.

    An interrupted set-up is started again.

    Args:
        requirements: Requirements, beginning with those of `TORCH`.

    Raises:
        SystemExit: if the folder holds other files.
    """
    stamp = environment / "magvit2-benchmark.txt"
    python = environment / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == "\n".join(requirements):
        return python
    if environment.exists():
        if not stamp.is_file() and any(environment.iterdir()):
            raise SystemExit(f"{environment} is not an environment of this benchmark; choose an empty folder")
        rmtree(environment)
    print(f"setting up {environment}: some minutes and 6 GB, only once", flush=True)
    environment.mkdir(parents=True)
    stamp.touch()
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    for wanted in (TORCH, requirements):  # torch first, so that no other requirement chooses its version
        print(f"installing {', '.join(wanted)}", flush=True)
        subprocess.run([*pip, *wanted], check=True)
    stamp.write_text("\n".join(requirements))
    return python


def variables_of_one_thread(*, with_ours: bool) -> dict[str, str]:
    """Return environment variables for a process with one thread that can import this package, or cannot."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return variables | ({"PYTHONPATH": str(ROOT)} if with_ours else {})


def warn_of_a_busy_machine() -> None:
    """Print a warning if the load of the machine would disturb the measurement."""
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"warning: the load of this machine is {busy:.1f}; the figures are not reliable", flush=True)


def verdict(value: float, bar: tuple[str, float] | None) -> str:
    """Return the bound of a figure (`at most` or `at least` a number) and whether it is met, as text."""
    if bar is None:
        return ""
    sense, limit = bar
    is_reached = value <= limit if sense == "at most" else value >= limit
    return f"{sense} {limit}: {'ok' if is_reached else 'MISSED'}"

"""An environment in which a peer and ours run side by side, set up by the benchmark that needs it."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import rmtree

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path("~/.cache/magvit2-pytorch").expanduser()
TORCH = ("torch==2.14.1", "torchvision==0.29.1")
"""Of both sides, since peers need torchvision."""
OURS = ("einops", "huggingface_hub", "jaxtyping", "psutil", "safetensors", "vector-quantize-pytorch")
"""What peers do not ask for themselves, and ours needs."""


def set_up(environment: Path, requirements: tuple[str, ...]) -> Path:
    """The environment's Python. A set-up that was broken off begins again.

    Args:
        requirements: begin with those of `TORCH`.

    Raises:
        SystemExit: the folder holds something else.
    """
    stamp = environment / "magvit2-benchmark.txt"
    python = environment / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == "\n".join(requirements):
        return python
    if environment.exists():
        if not stamp.is_file() and any(environment.iterdir()):
            raise SystemExit(f"{environment} is not an environment of this benchmark; name another or empty folder")
        rmtree(environment)
    print(f"setting up {environment}: some minutes and 6 GB, once", flush=True)
    environment.mkdir(parents=True)
    stamp.touch()
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    for wanted in (TORCH, requirements):  # the torch of both first, so that nothing asks for another
        print(f"installing {', '.join(wanted)}", flush=True)
        subprocess.run([*pip, *wanted], check=True)
    stamp.write_text("\n".join(requirements))
    return python


def variables_of_one_thread(*, with_ours: bool) -> dict[str, str]:
    """Those of this process, for one in the environment that takes one core and finds our package, or does not."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return variables | ({"PYTHONPATH": str(ROOT)} if with_ours else {})


def warn_of_a_busy_machine() -> None:
    """Say so where other work would disturb the figures."""
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"the load of this machine is {busy:.1f}: on a busy machine the figures are off", flush=True)


def verdict(value: float, bar: tuple[str, float] | None) -> str:
    """The bar beside a figure (`at most` or `at least`, and a number), and whether it is reached."""
    if bar is None:
        return ""
    sense, limit = bar
    is_reached = value <= limit if sense == "at most" else value >= limit
    return f"{sense} {limit}: {'ok' if is_reached else 'MISSED'}"

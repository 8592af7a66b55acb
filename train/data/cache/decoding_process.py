"""A process that decodes files for another one, which sends it the jobs and whose end is also its own."""

import os
import pickle
import signal
import sys
from threading import Thread

import torch

from .frame_cache import take_jobs


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the other process
    torch.set_num_threads(1)
    jobs = pickle.load(sys.stdin.buffer)  # from the process that has started this one
    Thread(target=end_with_input, daemon=True).start()
    try:
        take_jobs(jobs)
    except OSError:
        sys.exit(1)  # the other process meets the same error, and names it


def end_with_input() -> None:
    """End this process at the end of its input."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()

"""The four clips that are shipped with the package, and the list of their held-out windows."""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

from .sources.files import FileTable, OnDisk, VideoFile

CLIPS_DIR = Path(__file__).parent / "clips"
HELDOUT_LIST = CLIPS_DIR / "heldout.csv"


def shipped_videos() -> FileTable:
    """Return the clips. Each has a label of its own, the name of its file."""
    return FileTable(
        VideoFile(
            OnDisk(str(path)), path.name, path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        )
        for path in sorted(CLIPS_DIR.glob("*.mp4"))
    )


def shipped_heldout() -> Iterator[tuple[str, int, int]]:
    """Yield file, first frame and number of frames of the held-out windows. Training uses other parts of the same
    shots."""
    with HELDOUT_LIST.open(newline="") as file:
        for row in csv.DictReader(file):
            yield row["file"], int(row["first_frame"]), int(row["num_frames"])

"""The four clips that are shipped with the package, and the list of their held-out windows."""

import csv
import hashlib
from pathlib import Path

from .sources.files import OnDisk, VideoFile
from .windows import FrameRange

CLIPS_DIR = Path(__file__).parent / "clips"
HELDOUT_LIST = CLIPS_DIR / "heldout.csv"


def shipped_videos() -> list[VideoFile]:
    """Return the clips. Each has a label of its own, the name of its file."""
    return [
        VideoFile(
            OnDisk(path), path.name, path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        )
        for path in sorted(CLIPS_DIR.glob("*.mp4"))
    ]


def shipped_heldout() -> dict[str, list[FrameRange]]:
    """Return the held-out windows of each clip. Training uses other parts of the same shots."""
    listed: dict[str, list[FrameRange]] = {}
    with HELDOUT_LIST.open(newline="") as file:
        for row in csv.DictReader(file):
            first_frame, num_frames = int(row["first_frame"]), int(row["num_frames"])
            listed.setdefault(row["file"], []).append(FrameRange(first_frame, first_frame + num_frames))
    return listed

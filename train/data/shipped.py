"""The four clips that come with the package, and the list of windows that are held out from them."""

import csv
import hashlib
from pathlib import Path

from .frame_cache import VideoFile
from .windows import FrameRange

CLIPS_DIR = Path(__file__).parent / "clips"
HELDOUT_LIST = CLIPS_DIR / "heldout.csv"


def shipped_videos() -> list[VideoFile]:
    """One label for each clip, named after it."""
    return [
        VideoFile(path, path.name, path.stem, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(CLIPS_DIR.glob("*.mp4"))
    ]


def shipped_heldout() -> dict[str, list[FrameRange]]:
    """The listed windows of each clip. They lie in shots that training sees other parts of."""
    listed: dict[str, list[FrameRange]] = {}
    with HELDOUT_LIST.open(newline="") as file:
        for row in csv.DictReader(file):
            first_frame, num_frames = int(row["first_frame"]), int(row["num_frames"])
            listed.setdefault(row["file"], []).append(FrameRange(first_frame, first_frame + num_frames))
    return listed

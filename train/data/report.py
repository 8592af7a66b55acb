"""What was found in a source of files, what is not used, and why."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...files import written_whole
from ...labels import natural_order
from ...messages import printable
from .sources.files import OTHER_KIND, Skipped, counted

SKIPPED_NAME = "skipped.csv"  # in a run's folder
MOST_NAMED = 5  # files that the log names
MOST_LABELS = 20
UNUSED_IMAGES = "image files (used if num_frames is 1 or image_ratio is above 0)"
IMAGES_ARE_USED = "image files are used if num_frames is 1 or image_ratio is above 0"
QUIET = (IMAGES_ARE_USED, OTHER_KIND)
"""Reasons that are only counted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Facts about the files of a source."""

    source: str
    num_files: int
    num_frames: int
    """Decoded frames."""
    hours: float
    """Duration of the videos; 0 for images."""
    num_cuts: int
    num_windows: int
    """For training."""
    num_heldout: int
    """Held-out windows."""
    blank_share: float
    """Of the training windows."""
    labels: Mapping[str, int]
    """Number of files of each label."""
    skipped: Sequence[Skipped] = field(default_factory=tuple)

    def log(self) -> None:
        """Log the facts, and the first files that are not used."""
        source = printable(self.source, 4096)
        named = [one for one in self.skipped if one.reason not in QUIET]
        for one in named[:MOST_NAMED]:
            logger.warning("skipped %s: %s", printable(one.name, 4096), printable(one.reason, 4096))
        if len(named) > MOST_NAMED:
            logger.warning(
                "... and %d more; %s in the run's folder has all of them", len(named) - MOST_NAMED, SKIPPED_NAME
            )
        if self.skipped:
            used = set(self.labels)
            missing = {one.label for one in self.skipped if one.label and ("/" in one.name or one in named)} - used
            logger.warning(
                "%d of %d files in %s are left out: %s%s",
                len(self.skipped),
                len(self.skipped) + self.num_files,
                source,
                counted(one.kind for one in self.skipped),
                f"; labels without a usable file: {printable(', '.join(sorted(missing, key=natural_order)), 1000)}"
                if missing
                else "",
            )
        listed = sorted(self.labels, key=natural_order)
        counts = ", ".join(f"{label} {self.labels[label]}" for label in listed[:MOST_LABELS])
        logger.info(
            "%s: %d files, %d frames, %.2f hours, %d cuts, %d training windows (%.1f %% blank), "
            "%d held-out windows; files per label: %s%s",
            *(source, self.num_files, self.num_frames, self.hours, self.num_cuts, self.num_windows),
            100 * self.blank_share,
            self.num_heldout,
            printable(counts, 1000),
            f" and {len(listed) - MOST_LABELS} more labels" * (len(listed) > MOST_LABELS),
        )


def write_skipped(folder: Path, reports: Sequence[DataReport]) -> None:
    """Write the files that are not used and the reasons to `skipped.csv`, if there are any."""
    rows = [(report.source, one.name, one.reason) for report in reports for one in report.skipped]
    if not rows:
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("source", "file", "reason"), *rows])
    with written_whole(folder / SKIPPED_NAME) as aside:
        aside.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))

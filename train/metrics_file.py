"""The file `metrics.jsonl` of a run: a line for each logged step and each evaluation."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import written_whole

METRICS_NAME = "metrics.jsonl"  # in a run's folder
HELDOUT = "heldout/"  # beginning of the names of the values of an evaluation

Record = dict[str, Any]


def append_record(path: Path, record: Mapping[str, object]) -> None:
    """Append a line. NaN and infinity, which JSON does not have, become null."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: _in_json(value) for name, value in record.items()}) + "\n")


def read_records(path: Path) -> list[Record]:
    """Return the objects of a file in order, each with an integer `step`.

    Other lines are left out, for example half a line at the end, as a process that was killed leaves it.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            records.append(record)
    return records


def is_evaluation(record: Mapping[str, object]) -> bool:
    return any(name.startswith(HELDOUT) for name in record)


def drop_records_after(path: Path, step: int, num_steps: int) -> None:
    """Drop the lines that a run which continues after a step writes again, and lines that are not complete.

    The evaluation after the last step is one of them: it follows the last checkpoint.
    """
    if not path.is_file():
        return
    kept = [
        record
        for record in read_records(path)
        if record["step"] <= step and not (is_evaluation(record) and record["step"] == num_steps)
    ]
    with written_whole(path) as aside:
        aside.write_text("".join(f"{json.dumps(record)}\n" for record in kept), encoding="utf-8")


def _in_json(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value

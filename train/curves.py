"""Pictures of the curves of training runs, for `magvit2 plot`."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import check_result_file, written_whole
from ..messages import printable
from .metrics_file import METRICS_NAME, Record, is_evaluation, read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg", ".pdf")
COLUMNS = 4
PANEL_SIZE = (3.6, 2.6)  # inches
SMOOTHED = 30  # a smooth curve averages over this part of the lines of a run
RAW = "_raw_weights"  # ending of scores of the weights that are not averaged
GROUPS = ("loss", "train", "heldout", "optimizer", "speed")  # of panels, in this order

Curve = tuple[list[int], list[float]]
"""Steps and values."""


def plot_runs(folders: Sequence[Path], output: Path) -> int:
    """Draw the curves of some runs, with a panel for each value and a colour for each run. Return the number of panels.

    Values with the same name in different groups, such as `train/masked_code` and `heldout/masked_code`, share a panel.

    Raises:
        ValueError: if there is no folder, a folder has no lines in its `metrics.jsonl`, the output has another ending
            than `ENDINGS`, or matplotlib is not installed.
    """
    if output.suffix.lower() not in ENDINGS:
        raise ValueError(f"{printable(output)} must end in one of {', '.join(ENDINGS)}")
    check_result_file(output, *(folder / METRICS_NAME for folder in folders))
    if not folders:
        raise ValueError("name at least one folder of a training run: magvit2 plot outputs/tokenizer")
    runs = {str(folder): records_of(folder) for folder in folders}
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ValueError(
            "magvit2 plot needs matplotlib: run `pip install matplotlib`, or `pip install -e '.[plot]'` in the clone"
        ) from error

    names = panels({name for records in runs.values() for record in records for name in numbers_in(record)})
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows + 0.5), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
    lines = {}
    for axes, (title, shown) in zip(all_axes, names.items(), strict=False):
        axes.set_title(plain(title), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        for index, (run, records) in enumerate(runs.items()):
            for name in shown:
                lines[run] = draw(axes, records, name, colour=f"C{index % 10}") or lines.get(run)
    for axes in all_axes[len(names) :]:
        axes.set_axis_off()
    figure.supxlabel("optimizer step (points: held-out clips; dashed: raw weights)", fontsize=8)
    handles = [lines[run] for run in runs]
    figure.legend(handles, [plain(run) for run in runs], loc="outside upper center", ncols=2, fontsize=8)
    with written_whole(output) as aside:
        figure.savefig(aside, dpi=120)
    return len(names)


def records_of(folder: Path) -> list[Record]:
    """
    Raises:
        ValueError: if the folder has no `metrics.jsonl` with a line.
    """
    try:
        records = read_records(folder / METRICS_NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{printable(folder)} has no {METRICS_NAME}: it is not the folder of a training run, or the run has not "
            "logged a step yet"
        ) from error
    if not any(panels(numbers_in(record)) for record in records):
        raise ValueError(f"{printable(folder / METRICS_NAME)} has no values to plot")
    return records


def panels(names: set[str]) -> dict[str, list[str]]:
    """Return the values that each panel shows, by its title.

    >>> panels({"step", "train/masked_code", "heldout/masked_code", "heldout/psnr", "heldout/psnr_raw_weights"})
    {'masked_code': ['train/masked_code', 'heldout/masked_code'], 'psnr': ['heldout/psnr', 'heldout/psnr_raw_weights']}
    """
    found: dict[str, list[str]] = defaultdict(list)
    for group in GROUPS:
        for name in sorted(name for name in names if name.startswith(f"{group}/")):
            found[name.removeprefix(f"{group}/").removesuffix(RAW)].append(name)
    return dict(found)


def draw(axes: "Axes", records: Sequence[Record], name: str, *, colour: str) -> Any:
    """Draw a curve and return its line; None if there are no values.

    Evaluations are marked by points, with a dashed line for raw weights. Other curves are smoothed, with the values
    behind them.
    """
    steps, values = curve(records, name)
    if not steps:
        return None
    if any(is_evaluation(record) and name in record for record in records):
        (line,) = axes.plot(steps, values, "o--" if name.endswith(RAW) else "o-", color=colour, markersize=3)
        return line
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    (line,) = axes.plot(steps, smoothed(values, 1 + len(values) // SMOOTHED), color=colour, linewidth=1.2)
    return line


def curve(records: Sequence[Record], name: str) -> Curve:
    """Return the finite values with a name, and their steps."""
    points = [(record["step"], record[name]) for record in records if is_number(record.get(name))]
    return [step for step, _ in points], [value for _, value in points]


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and the `window - 1` values before it.

    >>> smoothed([1.0, 3.0, 5.0], 2)
    [1.0, 2.0, 4.0]
    """
    parts = (values[max(0, end - window) : end] for end in range(1, len(values) + 1))
    return [sum(part) / len(part) for part in parts]


def numbers_in(record: Record) -> set[str]:
    """Return the names of the numbers in a line."""
    return {name for name, value in record.items() if is_number(value)}


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def plain(text: str) -> str:
    """Return a text as matplotlib shows it: without formulas, and without a `_` that would hide it in a legend."""
    shown = printable(text).replace("$", r"\$")
    return f"./{shown}" if shown.startswith("_") else shown

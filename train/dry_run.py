"""What a run would need, as text: `--dry-run`. Nothing is trained, decoded, downloaded or written."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..messages import printable
from ..pipelines.media.decoding import open_frames
from ..tokenizer.config import TokenizerArchitecture
from .budget import PRECISIONS, Budget
from .data import DataConfig
from .data.config import RENDERED, SHIPPED_CLIPS
from .data.shipped import CLIPS_DIR
from .data.sources.find import find_files, kind_of
from .session import RunConfig

UTILIZATION = 0.4  # share of a GPU's peak that training reaches; 0.3 to 0.5 is common for such networks
MOST_PROCESSES = 64
GIB = 2**30

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What is known of the data without decoding it."""

    description: str
    most_clips: int | None = None
    """Clips of an epoch; for files an upper bound. None: not known."""


def print_once(text: str) -> None:
    """Print a text in the first process of a run only."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def num_processes() -> int:
    """Return the number of processes that a launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def report(run: RunConfig, data: DataConfig, tokenizer: TokenizerArchitecture, budget: Budget) -> str:
    """Return the size, memory, operations and disk space of a run as aligned tables.

    Raises:
        FileNotFoundError: if the data does not exist.
    """
    processes = num_processes()
    sections: list[tuple[str, Iterator[Row]]] = [
        ("Clips", clip_rows(data, tokenizer)),
        ("Data", data_rows(run, data, processes)),
        ("Parameters", parameter_rows(budget)),
        ("Memory of a process in GiB", memory_rows(budget, processes)),
        (f"Operations and time at {UTILIZATION:.0%} of {run.peak_tflops:g} TFLOP/s", time_rows(run, budget, processes)),
        ("Disk", disk_rows(run, budget)),
    ]
    title = f"Dry run of {printable(run.output_dir)}: an estimate; nothing is trained or written."
    return "\n\n".join([title, *(f"{name}\n{table(list(rows))}" for name, rows in sections)])


def clip_rows(data: DataConfig, tokenizer: TokenizerArchitecture) -> Iterator[Row]:
    num_frames, side = data.num_frames, data.resolution
    grid = tokenizer.code_shape(num_frames, side, side)
    bits = math.log2(tokenizer.codebook_size)
    yield "pixels", f"{num_frames} x {side} x {side}"
    yield "codes", f"{' x '.join(map(str, grid))} = {math.prod(grid):,} of {bits:.4g} bits"
    yield "bits per pixel", f"{math.prod(grid) * bits / (num_frames * side**2):.3g}"


def data_rows(run: RunConfig, data: DataConfig, processes: int) -> Iterator[Row]:
    facts = [data_facts(source, data) for source in data.sources]
    for source, of_source in zip(data.sources, facts, strict=True):
        yield printable(source), of_source.description
    yield "clips per step", batches_of(run, processes)
    clips_in_all = run.num_steps * clips_per_step(run, processes)
    yield "steps", f"{run.num_steps:,}, {clips_in_all:,} clips"
    counts = [of_source.most_clips for of_source in facts]
    if len(counts) == 1 and counts[0]:
        steps = counts[0] / clips_per_step(run, processes)
        yield "an epoch", f"at most {steps:,.1f} steps"
        yield "epochs", f"at least {clips_in_all / counts[0]:,.1f}"


def clips_per_step(run: RunConfig, processes: int) -> int:
    """Return the clips of an optimizer step over all processes."""
    return run.clips_per_process(processes) * processes * run.gradient_accumulation


def batches_of(run: RunConfig, processes: int) -> str:
    """Describe how the clips of a step are divided."""
    factors = (
        counted(run.clips_per_process(processes), "clip", "clips"),
        counted(processes, "process", "processes"),
        counted(run.gradient_accumulation, "batch", "batches"),
    )
    return f"{clips_per_step(run, processes):,} = {' x '.join(factors)}"


def data_facts(source: str, data: DataConfig) -> DataFacts:
    """Return what is known of a source of clips without decoding it.

    Raises:
        FileNotFoundError: if there is no such source.
    """
    if source in RENDERED:
        return DataFacts(description=f"{data.drawn_clips:,} clips, drawn", most_clips=data.drawn_clips)
    if source == SHIPPED_CLIPS:
        num_frames = sum(frames_in_header(path) for path in CLIPS_DIR.glob("*.mp4"))
        most = num_frames // data.span
        return DataFacts(description=f"{num_frames:,} frames, at most {most:,} clips in an epoch", most_clips=most)
    if kind_of(source) in ("table", "archives"):
        return DataFacts(description="the number of clips is known after reading")
    found = find_files(source, data)
    gigabytes = sum(int(files.num_bytes.sum()) for files in (found.videos, found.pictures)) / 1e9
    files = f"{len(found.videos):,} videos and {len(found.pictures):,} images of {three_digits(gigabytes)} GB"
    return DataFacts(description=f"{files}; the number of clips is known after decoding")


def frames_in_header(path: Path) -> int:
    """Return the number of frames of a video according to its header, 0 if it is unknown."""
    with open_frames(path) as reader:
        return reader.num_frames or 0


def parameter_rows(budget: Budget) -> Iterator[Row]:
    for name, number in budget.parameters.items():
        yield name, f"{number / 1e6:,.2f} M"


def memory_rows(budget: Budget, processes: int) -> Iterator[Row]:
    choices = sorted({checkpointing for _, checkpointing in budget.activation_bytes})
    fixed = {
        "weights": budget.weight_bytes,
        "gradients": budget.gradient_bytes,
        "copies of gradients, for several processes": budget.gradient_bytes if processes > 1 else 0,
        "optimizer": budget.optimizer_bytes,
        "averaged weights": budget.average_bytes,
    }
    yield "", *PRECISIONS
    for name, size in fixed.items():
        if size:
            yield name, *(gib(size) for _ in PRECISIONS)
    for checkpointing in choices:
        suffix = ", with gradient checkpointing" if checkpointing else ""
        activations = [budget.activation_bytes[precision, checkpointing] for precision in PRECISIONS]
        yield f"activations{suffix}", *map(gib, activations)
        yield f"sum{suffix}", *(gib(sum(fixed.values()) + size) for size in activations)


def time_rows(run: RunConfig, budget: Budget, processes: int) -> Iterator[Row]:
    batches = run.gradient_accumulation * processes
    yield "", "batches per step", "TFLOP per step", "hours"
    for number in sorted({processes, *(2**power for power in range(MOST_PROCESSES.bit_length()))}):
        if batches % number:
            continue
        of_process = batches // number * budget.batch_flops + budget.update_flops
        hours = run.num_steps * of_process / (UTILIZATION * run.peak_tflops * 1e12) / 3600
        yield (
            counted(number, "process", "processes"),
            str(batches // number),
            three_digits(of_process * number / 1e12),
            three_digits(hours),
        )


def disk_rows(run: RunConfig, budget: Budget) -> Iterator[Row]:
    size = budget.checkpoint_bytes
    yield "a checkpoint", f"{gib(size)} GiB"
    yield "checkpoints", f"{gib((run.keep_last + 1) * size)} GiB: {run.keep_last} kept, and one being written"
    yield "exported model", f"{gib(budget.result_bytes)} GiB"


def counted(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def gib(size: int) -> str:
    return f"{size / GIB:,.2f}" if size >= GIB / 100 else f"{size / GIB:.2g}"


def three_digits(value: float) -> str:
    """Write a number with three digits, or more before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Return rows of cells as aligned lines: the first column to the left; the others to the right if there are several
    of them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("    " + "  ".join([first.ljust(widths[0]), *(cells if len(cells) > 1 else others)]).rstrip())
    return "\n".join(lines)

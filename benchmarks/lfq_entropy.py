"""CPU time and memory of the exact LFQ entropies, compared with vector-quantize-pytorch, forward and backward.

    python benchmarks/lfq_entropy.py
    python benchmarks/lfq_entropy.py --sweep

Each side runs with one thread in a process of its own. The library needs about 40 seconds and 9 GB at 2^18 codes and
1,280 latents. The last two lines are the ratios, library divided by ours.

The sweep measures codebooks of 2^10 to 2^24 codes with 1,280 to 20,480 latents and prints the tables of
`docs/entropies.md`. It takes about ten minutes and up to 16 GiB. The library is limited to 16 GiB of address space and
300 CPU seconds; the tables say where this is not enough.
"""

import argparse
import importlib.metadata
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch

INVERSE_TEMPERATURE = 1.0
MAX_PASSES, ENOUGH_SECONDS = 20, 5.0  # limits of the number of passes that are averaged
SWEPT_CODE_BITS = range(10, 25, 2)
SWEPT_LATENTS = (1280, 5120, 20480)
SIDES = ("ours", "library")
LIBRARY_ADDRESS_SPACE = 16 * 2**30
LIBRARY_CPU_SECONDS = 300

Figures = dict[str, float]


def measure(side: str, code_bits: int, num_latents: int) -> Figures:
    """Return the CPU seconds of a forward and backward pass, its extra memory in MB, and the entropies."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    latents = torch.randn(1, code_bits, num_latents, 1, 1, requires_grad=True)
    if side == "ours":
        from magvit2_pytorch.tokenizer.entropy import codebook_entropy, sample_entropy

        def entropies() -> tuple[torch.Tensor, torch.Tensor]:
            return sample_entropy(latents, INVERSE_TEMPERATURE), codebook_entropy(latents, INVERSE_TEMPERATURE)
    else:
        from vector_quantize_pytorch import LFQ

        quantizer = LFQ(dim=code_bits, codebook_size=2**code_bits).train()

        def entropies() -> tuple[torch.Tensor, torch.Tensor]:
            _, parts = quantizer(latents, inv_temperature=INVERSE_TEMPERATURE, return_loss_breakdown=True)
            return parts.per_sample_entropy, parts.batch_entropy

    (latents * 2).sum().backward()  # so that the memory of autograd itself is not counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    results = []
    while len(results) < MAX_PASSES and (not results or time.process_time() - started < ENOUGH_SECONDS):
        sample, codebook = entropies()
        (sample - codebook).backward()
        results.append((sample.item(), codebook.item()))
    seconds = (time.process_time() - started) / len(results)
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "seconds": seconds,
        "megabytes": extra,
        "sample_entropy": results[-1][0],
        "codebook_entropy": results[-1][1],
    }


def measure_apart(side: str, code_bits: int, num_latents: int, limit: Callable[[], None] | None = None) -> Figures:
    """Call `measure` in a new process, which calls `limit` first.

    Raises:
        subprocess.CalledProcessError: if the process fails.
    """
    command = [sys.executable, __file__, "--side", side, "--code-bits", str(code_bits), "--latents", str(num_latents)]
    stderr = subprocess.PIPE if limit else None
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, preexec_fn=limit)
    return json.loads(finished.stdout.splitlines()[-1])


def limit_library() -> None:
    """Limit the address space and the CPU time of the calling process."""
    resource.setrlimit(resource.RLIMIT_AS, (LIBRARY_ADDRESS_SPACE, LIBRARY_ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (LIBRARY_CPU_SECONDS, LIBRARY_CPU_SECONDS + 1))


def measure_library(code_bits: int, num_latents: int) -> Figures | str:
    """Return the figures of the library, or the limit that it exceeds."""
    try:
        return measure_apart("library", code_bits, num_latents, limit_library)
    except subprocess.CalledProcessError as error:
        if error.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return "no time"
        if "allocate memory" in error.stderr or "MemoryError" in error.stderr:
            return "no memory"
        raise RuntimeError(f"the library failed unexpectedly:\n{error.stderr}") from error


def table(figure: str, cell: str, figures: dict[tuple[int, int], tuple[Figures, Figures | str]]) -> str:
    """Return a Markdown table of a figure, with a row per codebook and three columns per number of latents.

    Args:
        cell: Format of the numbers.
    """
    sizes = sorted({num_latents for _, num_latents in figures})
    header = ["codes"]
    for num_latents in sizes:
        header += [f"{num_latents:,} latents: ours", "library", "ratio"]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for code_bits in sorted({code_bits for code_bits, _ in figures}):
        row = [f"2^{code_bits}"]
        for num_latents in sizes:
            ours, library = figures[code_bits, num_latents]
            if isinstance(library, str):
                row += [cell.format(ours[figure]), f"fails: {library}", "–"]
            else:
                ratio = library[figure] / max(ours[figure], 1e-9)
                row += [cell.format(ours[figure]), cell.format(library[figure]), f"{ratio:,.0f}"]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def sweep(swept_code_bits: Sequence[int], swept_latents: Sequence[int]) -> None:
    """Print the tables of time and of memory."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "vector-quantize-pytorch"))
    print(f"Forward and backward pass at one thread; {versions}.\n")
    figures: dict[tuple[int, int], tuple[Figures, Figures | str]] = {}
    for code_bits in swept_code_bits:
        for num_latents in swept_latents:
            both = measure_apart("ours", code_bits, num_latents), measure_library(code_bits, num_latents)
            figures[code_bits, num_latents] = both
            print(f"2^{code_bits} codes, {num_latents} latents: ours {both[0]}, library {both[1]}", file=sys.stderr)
    print(f"CPU seconds:\n\n{table('seconds', '{:.3g}', figures)}\n")
    print(f"Extra memory in MB:\n\n{table('megabytes', '{:,.0f}', figures)}")


def compare(code_bits: int, num_latents: int) -> None:
    """Print the figures of both sides at one size, with the library unlimited, and their ratios."""
    print(f"2^{code_bits} codes, {num_latents} latents, one thread")
    results = {}
    for side in SIDES:
        figures = results[side] = measure_apart(side, code_bits, num_latents)
        print(
            f"{side:8} {figures['seconds']:9.3f} CPU s, {figures['megabytes']:8.1f} MB, sample entropy "
            f"{figures['sample_entropy']:.4f}, codebook entropy {figures['codebook_entropy']:.4f} nats"
        )
    print(f"time_ratio {results['library']['seconds'] / results['ours']['seconds']:.0f}")
    print(f"memory_ratio {results['library']['megabytes'] / max(results['ours']['megabytes'], 1):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code-bits", type=int, default=18, help="bits per code (default: 18)")
    parser.add_argument("--latents", type=int, default=1280, help="number of latents (default: 1280)")
    parser.add_argument("--sweep", action="store_true", help="measure all sizes, and print Markdown tables")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.code_bits, arguments.latents)))
    elif arguments.sweep:
        sweep(SWEPT_CODE_BITS, SWEPT_LATENTS)
    else:
        compare(arguments.code_bits, arguments.latents)


if __name__ == "__main__":
    main()

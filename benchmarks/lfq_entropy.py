"""The exact LFQ entropies beside those of vector-quantize-pytorch, forward and backward.

    python benchmarks/lfq_entropy.py

CPU time and extra memory at one thread, each side in a process of its own; the library needs about
40 seconds and 9 GB at 2^18 codes and 1,280 latents. The last two lines are the ratios, library over ours.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

INVERSE_TEMPERATURE = 1.0
REPEATS = {"ours": 20, "library": 1}  # the library takes long enough to be measured at once


def measure(side: str, code_bits: int, num_latents: int) -> dict[str, float]:
    """CPU seconds of one forward and backward pass, the process's extra memory in MB, and the values."""
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

    (latents * 2).sum().backward()  # the machinery of autograd is none of either side's memory
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    results = []
    for _ in range(REPEATS[side]):
        sample, codebook = entropies()
        (sample - codebook).backward()
        results.append((sample.item(), codebook.item()))
    seconds = (time.process_time() - started) / REPEATS[side]
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "seconds": seconds,
        "megabytes": extra,
        "sample_entropy": results[-1][0],
        "codebook_entropy": results[-1][1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code-bits", type=int, default=18, help="bits of a code (default: 18)")
    parser.add_argument("--latents", type=int, default=1280, help="number of latents (default: 1280)")
    parser.add_argument("--side", choices=("ours", "library"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.code_bits, arguments.latents)))
        return

    print(f"2^{arguments.code_bits} codes, {arguments.latents} latents, one thread")
    results = {}
    for side in ("ours", "library"):
        command = [sys.executable, __file__, "--side", side, "--code-bits", str(arguments.code_bits)]
        finished = subprocess.run(
            [*command, "--latents", str(arguments.latents)], stdout=subprocess.PIPE, text=True, check=True
        )
        results[side] = json.loads(finished.stdout.splitlines()[-1])
        figures = results[side]
        print(
            f"{side:8} {figures['seconds']:9.3f} CPU s, {figures['megabytes']:8.1f} MB, sample entropy "
            f"{figures['sample_entropy']:.4f}, codebook entropy {figures['codebook_entropy']:.4f} nats"
        )
    print(f"time_ratio {results['library']['seconds'] / results['ours']['seconds']:.0f}")
    print(f"memory_ratio {results['library']['megabytes'] / max(results['ours']['megabytes'], 1):.0f}")


if __name__ == "__main__":
    main()

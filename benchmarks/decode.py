"""CPU time of the transformer, of `muse-maskgit-pytorch` 0.3.5 from PyPI and of plain encoders.

    python benchmarks/decode.py             # some minutes; exit status 1 if a bound is missed

All models run in one process with one thread, in an environment that is set up by the first call (torch 2.14.1 with
torchvision, about 6 GB). They are called in turn, and each ratio is the median of the ratios of the rounds, so that
other load on the machine affects all models equally. 320 codes (5 x 8 x 8), width 256, 6 layers, 8 heads, float32.

- ours: `MaskGit` with its defaults, which include QK-norm and rotary positions. 2^18 codes as two sub-codes of 9 bits,
  so 2 x 512 classes. "With context" also has cross-attention to one embedding in each layer, as muse always has; "with
  registers" has four registers.
- plain: `plain_encoder.py`, with the same positions, QK-norm, MLPs and heads. bare: without positions and QK-norm. Both
  have two sub-codes, too.
- muse: `MaskGitTransformer` with its default attention ("flash") and with its naive attention, which is faster on a
  CPU. It has no factorized codes, so it has 1,024 codes. Its only condition is a text, so it gets the shortest one: one
  embedding with the width of the transformer.

A guided step is everything between two grids of codes: forward passes with and without condition (one batch of two for
ours and plain, two passes for muse), guidance, sampling, and the choice of codes to keep. muse uses its own functions.
A training step is the loss of a batch of clips with half of the codes hidden, its gradients and AdamW. It runs in a
process of its own.

The C library of Linux returns large freed blocks to the system until it has seen one freed, and then keeps them. When
this happens differs between processes, and it affects muse more than ours. The benchmark therefore fixes the thresholds
at their initial values, for which the bounds are meant; with `--keep-freed-memory` the library keeps all memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from peer_environment import CACHE, OURS, TORCH, set_up, variables_of_one_thread, verdict, warn_of_a_busy_machine

REQUIREMENTS = (*TORCH, "muse-maskgit-pytorch==0.3.5", "x-transformers", *OURS)

SIZES: dict[str, Any] = {"codebook_size": 2**18, "grid": (5, 8, 8), "width": 256, "depth": 6, "num_heads": 8}
NUM_CODES = 320
NUM_LABELS = 10
MUSE_CODES = 1024
GUIDANCE_SCALE = 3.0
TRAINED_CLIPS = 2
WARM_UP_ROUNDS = 3
PROCESSES = (("pass", "guided step"), ("training step",))
HAND_BACK_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": str(2**17)}
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

BARS: dict[tuple[str, str, str], tuple[str, float]] = {
    ("pass", "ours", "plain"): ("at most", 1.15),
    ("pass", "ours", "muse"): ("at most", 0.6),
    ("guided step", "ours", "muse"): ("at most", 0.55),
}
NAMES = {
    "ours": "ours",
    "ours_context": "ours, with context",
    "ours_registers": "ours, with registers",
    "plain": "plain, same positions and QK-norm",
    "bare": "plain, bare",
    "muse": "muse",
    "muse_naive": "muse, naive attention",
}

Call = Callable[[], Any]
Milliseconds = dict[str, dict[str, list[float]]]
"""Milliseconds of each round, by measurement and model."""


# In the process of the environment


def measure(whats: tuple[str, ...], num_rounds: int) -> Milliseconds:
    """Return the CPU time of each call in each round. Imports torch and the packages, in the environment."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sides_of_both = calls_of_ours(), calls_of_muse()
    calls = {what: {side: call for sides in sides_of_both for side, call in sides[what].items()} for what in whats}
    taken: Milliseconds = {what: {side: [] for side in sides} for what, sides in calls.items()}
    for number in range(WARM_UP_ROUNDS + num_rounds):
        for what, sides in calls.items():
            for side, call in sides.items():
                with torch.inference_mode(what != "training step"):
                    started = time.process_time()
                    call()
                    seconds = time.process_time() - started
                if number >= WARM_UP_ROUNDS:
                    taken[what][side].append(seconds * 1e3)
    return taken


def calls_of_ours() -> dict[str, dict[str, Call]]:
    """Return the calls of ours and of the plain encoders."""
    import torch
    import torch.nn.functional as F
    from plain_encoder import PlainEncoder

    from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective, guide, iterative_decode
    from magvit2_pytorch.maskgit.losses import MaskGitLossWeights, weighted_sum

    config = MaskGitConfig(num_labels=NUM_LABELS, **SIZES)
    ours = MaskGit(config)
    with_context = MaskGit(replace(config, dim_context=config.width))
    with_registers = MaskGit(replace(config, num_registers=4))
    encoders = {"plain": PlainEncoder(config, bare=False), "bare": PlainEncoder(config, bare=True)}
    codes = torch.randint(config.codebook_size, (1, *config.grid))
    codes[:, 2:] = config.mask_id
    label, pair = torch.tensor([3]), torch.tensor([3, config.null_label])
    context = torch.randn(1, 1, config.width)

    def guided_step(model: Any, generator: torch.Generator) -> None:
        def predict_logits(codes: torch.Tensor, progress: float) -> Any:
            logits = model(torch.cat([codes, codes]), pair)
            conditional, unconditional = zip(*(group.chunk(2) for group in logits), strict=True)
            return guide(conditional, unconditional, GUIDANCE_SCALE)

        iterative_decode(
            predict_logits,
            codes,
            mask_id=config.mask_id,
            vocab_sizes=config.vocab_sizes,
            generators=generator,
            num_steps=1,
        )

    clips = torch.randint(config.codebook_size, (TRAINED_CLIPS, *config.grid))
    labels = torch.randint(NUM_LABELS, (TRAINED_CLIPS,))
    half_hidden = clips.masked_fill(torch.rand(clips.shape) < 0.5, config.mask_id)
    objective = MaskGitObjective(MaskGit(config)).train()
    training = {side: PlainEncoder(config, bare=encoder.bare) for side, encoder in encoders.items()}
    optimizers = {side: adamw(module) for side, module in {"ours": objective, **training}.items()}
    weights = MaskGitLossWeights()

    def train_plain(side: str) -> None:
        targets = (clips // config.vocab_sizes[1], clips % config.vocab_sizes[1])
        losses = [
            F.cross_entropy(logits.flatten(0, 1), target.flatten())
            for logits, target in zip(training[side](half_hidden, labels), targets, strict=True)
        ]
        update(sum(losses), optimizers[side])

    for module in (ours, with_context, with_registers, *encoders.values()):
        module.eval()
    noise = torch.Generator().manual_seed(0)
    return {
        "pass": {
            "ours": lambda: ours(codes, label),
            "ours_context": lambda: with_context(codes, label, context=context),
            "ours_registers": lambda: with_registers(codes, label),
            "plain": lambda: encoders["plain"](codes, label),
            "bare": lambda: encoders["bare"](codes, label),
        },
        "guided step": {
            "ours": lambda: guided_step(ours, noise),
            "plain": lambda: guided_step(encoders["plain"], noise),
        },
        "training step": {
            "ours": lambda: update(weighted_sum(objective(clips, labels, noise), weights), optimizers["ours"]),
            "plain": lambda: train_plain("plain"),
            "bare": lambda: train_plain("bare"),
        },
    }


def calls_of_muse() -> dict[str, dict[str, Call]]:
    """Return the calls of muse."""
    import torch
    from muse_maskgit_pytorch import muse_maskgit_pytorch as muse  # pyright: ignore[reportMissingImports]
    from muse_maskgit_pytorch import t5  # pyright: ignore[reportMissingImports]

    # muse looks here for the width of text embeddings before it asks the Hub.
    t5.T5_CONFIGS["none"] = {"config": SimpleNamespace(d_model=SIZES["width"])}

    def build(*, flash: bool) -> Any:
        return muse.MaskGitTransformer(
            num_tokens=MUSE_CODES,
            dim=SIZES["width"],
            seq_len=NUM_CODES,
            depth=SIZES["depth"],
            heads=SIZES["num_heads"],
            dim_head=SIZES["width"] // SIZES["num_heads"],
            flash=flash,
            t5_name="none",
        )

    models = {"muse": build(flash=True).eval(), "muse_naive": build(flash=False).eval()}
    trained = {"muse": build(flash=True), "muse_naive": build(flash=False)}
    optimizers = {side: adamw(module) for side, module in trained.items()}
    text, texts = torch.randn(1, 1, SIZES["width"]), torch.randn(TRAINED_CLIPS, 1, SIZES["width"])
    codes = torch.randint(MUSE_CODES, (1, NUM_CODES))
    codes[:, 128:] = MUSE_CODES
    clips = torch.randint(MUSE_CODES, (TRAINED_CLIPS, NUM_CODES))
    is_hidden = torch.rand(clips.shape) < 0.5
    half_hidden, targets = clips.masked_fill(is_hidden, MUSE_CODES), clips.masked_fill(~is_hidden, -1)

    def guided_step(side: str) -> None:
        logits = models[side].forward_with_cond_scale(codes, text_embeds=text, cond_scale=GUIDANCE_SCALE)
        drawn = muse.gumbel_sample(muse.top_k(logits, 0.9), temperature=1.0)
        sure = logits.softmax(dim=-1).gather(-1, drawn[..., None])[..., 0]
        is_masked = codes == MUSE_CODES
        filled = torch.where(is_masked, drawn, codes)
        least_sure = (1 - sure).masked_fill(~is_masked, -1e5).topk(NUM_CODES // 4, dim=-1).indices
        filled.scatter(1, least_sure, MUSE_CODES)

    def train(side: str) -> None:
        loss = trained[side](half_hidden, labels=targets, ignore_index=-1, text_embeds=texts, cond_drop_prob=0.1)
        update(loss, optimizers[side])

    sides = tuple(models)
    return {
        "pass": {side: lambda side=side: models[side](codes, text_embeds=text) for side in sides},
        "guided step": {side: lambda side=side: guided_step(side) for side in sides},
        "training step": {side: lambda side=side: train(side) for side in sides},
    }


def adamw(module: Any) -> Any:
    """Return the optimizer, which is the same for all models."""
    import torch

    return torch.optim.AdamW(module.parameters(), lr=1e-4, betas=(0.9, 0.96), weight_decay=0.045)


def update(loss: Any, optimizer: Any) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


# In the main process


def report(taken: Milliseconds) -> bool:
    """Print the tables and the ratios that have a bound, and return whether all bounds are met."""
    print("\n| CPU ms, median |", " | ".join(taken), "|\n|---|" + "---:|" * len(taken))
    for side, name in NAMES.items():
        cells = (f"{median(taken[what][side]):.1f}" if side in taken[what] else "–" for what in taken)
        print(f"| {name} |", " | ".join(cells), "|")
    print("\n| ours over |", " | ".join(taken), "|\n|---|" + "---:|" * len(taken))
    for side, name in NAMES.items():
        if side != "ours":
            cells = (f"{ratio(taken, what, 'ours', side):.3f}" if side in taken[what] else "–" for what in taken)
            print(f"| {name} |", " | ".join(cells), "|")
    print()
    verdicts = []
    for (what, side, other), bar in BARS.items():
        value = ratio(taken, what, side, other)
        verdicts.append(verdict(value, bar))
        print(f"{what}, {NAMES[side]} over {NAMES[other]}: {value:.3f}, {verdicts[-1]}")
    return not any(said.endswith("MISSED") for said in verdicts)


def ratio(taken: Milliseconds, what: str, side: str, other: str) -> float:
    """Return the median of the ratios of the rounds."""
    pairs = zip(taken[what][side], taken[what][other], strict=True)
    return median(one / another for one, another in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = CACHE / "muse"
    parser.add_argument(
        "--environment", type=Path, default=default, help=f"folder of the environment (default: {default})"
    )
    parser.add_argument("--rounds", type=int, default=40, help="timed calls of each kind (default: 40)")
    parser.add_argument("--keep-freed-memory", action="store_true", help="let the C library keep freed memory")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(tuple(arguments.measure), arguments.rounds)))
        return

    python = set_up(arguments.environment.expanduser().absolute(), REQUIREMENTS)
    warn_of_a_busy_machine()
    variables = variables_of_one_thread(with_ours=True) | (
        KEEP_FREED_MEMORY if arguments.keep_freed_memory else HAND_BACK_FREED_MEMORY
    )
    taken: Milliseconds = {}
    for whats in PROCESSES:
        command = [python, Path(__file__).resolve(), "--rounds", str(arguments.rounds), "--measure", *whats]
        with tempfile.TemporaryDirectory() as elsewhere:
            finished = subprocess.run(command, env=variables, cwd=elsewhere, stdout=subprocess.PIPE, text=True)
        if finished.returncode:
            sys.exit(f"measuring {' and '.join(whats)} failed with exit status {finished.returncode}")
        taken |= json.loads(finished.stdout.splitlines()[-1])
    print(f"{TORCH[0]}, one thread, {os.cpu_count()} cores, {arguments.rounds} rounds")
    sys.exit(0 if report(taken) else 1)


if __name__ == "__main__":
    main()

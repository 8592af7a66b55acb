"""CPU time and memory of the tokenizer and of `magvit2-pytorch` 0.5.1 from PyPI: encoding, decoding and training.

    python benchmarks/tokenizer.py             # about 15 minutes, on an idle machine
    python benchmarks/tokenizer.py --verbose   # also prints FLOPs and time of each operation of a training step

"ours" is this package, "peer" the other one. Both run in one environment, which is set up by the first call (torch
2.14.1 with torchvision, about 6 GB). Each measurement runs in a process of its own, since the packages have the same
import name and since the peak memory of a process cannot be reset. Both have the same `layers`, one clip of 17 frames
at 64 x 64, width 32, float32 and one thread, and are measured in turn. Figures are medians of the rounds. Memory is the
peak above that before the first call.

A step with GAN is a step of the tokenizer and a step of the discriminator, with the gradient penalty in every fourth
step, as in the trainer of the peer. The discriminator of the peer is its default, which sees one random frame of each
clip. Ours is the 3D network of the paper for all frames, with a width that gives about the same number of parameters,
and also with blocks of 2 x 2 pixels folded into channels (`patch_size=2`), which takes about 0.3 of the time. There is
no perceptual loss.

The share of the matrix multiplication rate is the FLOP rate of a training step (forward and backward) divided by that
of a product of two 2048 x 2048 matrices. `torch.utils.flop_counter` does not count the attention kernel of the CPU, so
its formulas for the other kernels are registered: two products forward, five backward.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from peer_environment import CACHE, OURS, ROOT, TORCH, set_up, variables_of_one_thread, verdict, warn_of_a_busy_machine

REQUIREMENTS = (*TORCH, "magvit2-pytorch==0.5.1", *OURS)

LAYERS = (
    "residual",
    ("compress_space", 128),
    "residual",
    "residual",
    "attend_space",
    ("compress_time", 256),
    "attend_time",
)
PAPER_LAYERS = tuple("paper_residual" if layer == "residual" else layer for layer in LAYERS)
WIDTH = 32
VIDEO_SHAPE = (1, 3, 17, 64, 64)
CODE_SHAPE = (1, 9, 32, 32)
DISCRIMINATOR_WIDTH = 109  # width of the paper's network with 40.8 M parameters; the default of the peer has 40.7 M
PENALTY_EVERY = 4  # steps between gradient penalties in the trainer of the peer
PRODUCT_SIZE = 2048
PRODUCTS_PER_STEP = 5
ADDRESS_SPACE = 16 * 2**30

Step = Callable[[], Any]
Figures = dict[str, Any]


class Task(NamedTuple):
    """One measurement."""

    side: str
    what: str
    code_bits: int = 10
    layers: tuple[Any, ...] = LAYERS
    repeats: int = 1
    """Timed calls in one process, after a call that is not timed."""
    patch_size: int = 1
    """Patch size of our discriminator."""


TASKS = {
    "peer_encode": Task("peer", "encode", repeats=3),
    "ours_encode": Task("ours", "encode", repeats=3),
    "peer_decode": Task("peer", "decode", repeats=3),
    "ours_decode": Task("ours", "decode", repeats=3),
    "peer_step": Task("peer", "step"),
    "ours_step": Task("ours", "step", repeats=2),
    "ours_step_2^18": Task("ours", "step", code_bits=18, repeats=2),
    "peer_step_gan": Task("peer", "step_gan"),
    "ours_step_gan": Task("ours", "step_gan"),
    "ours_step_gan_folded": Task("ours", "step_gan", patch_size=2),
    "ours_share": Task("ours", "share", repeats=3),
    "ours_share_paper_residual": Task("ours", "share", layers=PAPER_LAYERS, repeats=3),
}
PEER_LARGE = Task("peer", "step", code_bits=18)

BARS: dict[str, tuple[str, float]] = {
    "encode_ratio": ("at most", 0.35),
    "decode_ratio": ("at most", 0.35),
    "step_ratio": ("at most", 0.42),
    "step_memory_ratio": ("at most", 0.4),
    "step_2^18_over_2^10": ("at most", 1.1),
    "step_gan_ratio": ("at most", 0.5),
    "step_gan_folded_ratio": ("at most", 0.5),
    "share": ("at least", 0.65),
    "share_paper_residual": ("at least", 0.75),
}


# In the measured process


def measure(task: Task, *, verbose: bool) -> Figures:
    """Return CPU seconds and memory of a task. Imports torch and the package, in the measured process."""
    import psutil
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    refuse_the_wrong_package(task.side)
    steps, figures = (build_ours if task.side == "ours" else build_peer)(task)
    figures["torch"] = torch.__version__
    before = psutil.Process().memory_info().rss
    *_, last = steps.values()
    last()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    product_seconds = []
    for _ in range(task.repeats):
        for name, step in steps.items():
            seconds[name].append(cpu_seconds(step))
        if task.what == "share":
            product_seconds += [cpu_seconds(a_product()) for _ in range(PRODUCTS_PER_STEP)]
    figures |= {name: median(values) for name, values in seconds.items()}
    figures["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20
    if task.what == "step_gan":
        figures["seconds"] = figures["with_penalty"] / PENALTY_EVERY + figures["without_penalty"] * (
            1 - 1 / PENALTY_EVERY
        )
    if task.what == "share":
        figures["flops_by_operation"] = flops_by_operation(last)
        figures["rate"] = sum(figures["flops_by_operation"].values()) / figures["seconds"]
        figures["product_rate"] = 2 * PRODUCT_SIZE**3 / median(product_seconds)
        figures["share"] = figures["rate"] / figures["product_rate"]
        if verbose:
            figures["profile"] = profile(last)
    return figures


def refuse_the_wrong_package(side: str) -> None:
    """Raise an error if the other package has been imported: both are called `magvit2_pytorch`."""
    file = Path(str(import_module("magvit2_pytorch").__file__)).resolve()
    is_ours = file == ROOT / "magvit2_pytorch" / "__init__.py"
    if is_ours != (side == "ours"):
        raise RuntimeError(f"ImportError: {side} would be measured with the magvit2_pytorch of {file.parent}")


def build_ours(task: Task) -> tuple[dict[str, Step], Figures]:
    """Return the functions to call, by the name of their figure, and facts about the models."""
    import torch

    from magvit2_pytorch.tokenizer import (
        DiscriminatorConfig,
        DiscriminatorObjective,
        TokenizerConfig,
        TokenizerObjective,
        VideoTokenizer,
    )
    from magvit2_pytorch.tokenizer.losses import weighted_sum

    config = TokenizerConfig(
        image_size=VIDEO_SHAPE[-1],
        init_dim=WIDTH,
        layers=task.layers,
        codebook_size=2**task.code_bits,
        gradient_checkpointing=False,
    )
    tokenizer = VideoTokenizer.from_config(config)
    facts: Figures = {"tokenizer_parameters": count_parameters(tokenizer)}
    video = torch.rand(VIDEO_SHAPE) * 2 - 1
    codes = torch.randint(2**task.code_bits, CODE_SHAPE)
    if task.what in ("encode", "decode"):
        tokenizer.eval()
        call = (lambda: tokenizer.encode(video)) if task.what == "encode" else (lambda: tokenizer.decode(codes))
        return {"seconds": torch.no_grad()(call)}, facts

    objective = TokenizerObjective(tokenizer).train()
    optimizer = adamw(objective.parameters())

    def step() -> None:
        update(weighted_sum(objective(video).losses, config.loss_weights), optimizer)

    if task.what in ("step", "share"):
        return {"seconds": step}, facts

    of_discriminator = DiscriminatorConfig(width=DISCRIMINATOR_WIDTH, patch_size=task.patch_size)
    discriminators = DiscriminatorObjective([of_discriminator], loss="hinge")
    discriminator_optimizer = adamw(discriminators.parameters())
    facts["discriminator_parameters"] = count_parameters(discriminators)

    def step_gan(with_penalty: bool) -> None:
        losses, reconstruction, _ = objective(video, discriminators)
        update(weighted_sum(losses, config.loss_weights, adversarial_factors=[1.0]), optimizer)
        judged = discriminators(video, reconstruction, with_r1=with_penalty)
        update(torch.stack(list(judged.values())).sum(), discriminator_optimizer)

    return {"without_penalty": lambda: step_gan(False), "with_penalty": lambda: step_gan(True)}, facts


def build_peer(task: Task) -> tuple[dict[str, Step], Figures]:
    """Return the same for the peer, with the steps of its trainer."""
    import torch

    tokenizer = import_module("magvit2_pytorch").VideoTokenizer(
        image_size=VIDEO_SHAPE[-1],
        init_dim=WIDTH,
        layers=task.layers,
        codebook_size=2**task.code_bits,
        use_gan=task.what == "step_gan",
        perceptual_loss_weight=0.0,
    )
    facts: Figures = {"tokenizer_parameters": sum(parameter.numel() for parameter in tokenizer.parameters())}
    video = torch.rand(VIDEO_SHAPE) * 2 - 1
    codes = torch.randint(2**task.code_bits, CODE_SHAPE)
    if task.what in ("encode", "decode"):
        tokenizer.eval()
        calls = {
            "encode": lambda: tokenizer.tokenize(video),
            "decode": lambda: tokenizer.decode_from_code_indices(codes),
        }
        return {"seconds": torch.no_grad()(calls[task.what])}, facts

    tokenizer.train()
    optimizer = adamw(tokenizer.parameters())

    def step() -> None:
        loss, _ = tokenizer(video, return_loss=True)
        update(loss, optimizer)

    if task.what == "step":
        return {"seconds": step}, facts

    discriminator_optimizer = adamw(tokenizer.discr_parameters())
    facts["discriminator_parameters"] = count_parameters(tokenizer.discr)

    def step_gan(with_penalty: bool) -> None:
        step()
        discriminator_optimizer.zero_grad()  # the step of the tokenizer leaves gradients here
        loss, _ = tokenizer(video, return_discr_loss=True, apply_gradient_penalty=with_penalty)
        update(loss, discriminator_optimizer)

    return {"without_penalty": lambda: step_gan(False), "with_penalty": lambda: step_gan(True)}, facts


def adamw(parameters: Any) -> Any:
    """Return the optimizer, which is the same for both sides."""
    import torch

    return torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-2)


def update(loss: Any, optimizer: Any) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def count_parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def cpu_seconds(call: Step) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def a_product() -> Step:
    import torch

    left, right = torch.randn(2, PRODUCT_SIZE, PRODUCT_SIZE)
    return lambda: left @ right


def flops_by_operation(step: Step) -> dict[str, int]:
    """Return the FLOPs of one call by operation."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        step()
    return {str(operation): flops for operation, flops in counter.get_flop_counts()["Global"].items()}


def profile(step: Step) -> str:
    """Return a table of the time of operations, which shows slow operations that the FLOP counter does not know."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=50)


# In the main process


def run(python: Path, task: Task, *, verbose: bool = False, address_space: int | None = None) -> Figures:
    """Measure in a new process.

    Raises:
        RuntimeError: if it fails, with its last line of output.
    """
    variables = variables_of_one_thread(with_ours=task.side == "ours")
    command = [python, __file__, "--task", json.dumps(task), *(["--verbose"] if verbose else [])]
    if address_space is not None:
        command += ["--address-space", str(address_space)]
    with tempfile.TemporaryDirectory() as elsewhere:
        finished = subprocess.run(command, env=variables, cwd=elsewhere, capture_output=True, text=True)
    if finished.returncode:
        said = [*finished.stderr.strip().splitlines(), f"exit status {finished.returncode}"]
        raise RuntimeError(next((line for line in reversed(said) if "Error" in line), said[-1]))
    return json.loads(finished.stdout.splitlines()[-1])


def received(text: str) -> Task:
    """Return a task from JSON, in which tuples are lists."""
    task = Task(*json.loads(text))
    return task._replace(layers=tuple(tuple(layer) if isinstance(layer, list) else layer for layer in task.layers))


def report(results: dict[str, list[Figures]]) -> None:
    """Print the table of medians and the figures with a bound."""

    def middle(task: str, figure: str = "seconds") -> float:
        return median(figures[figure] for figures in results[task])

    rows = [
        ("encode", "peer_encode", "ours_encode", "encode_ratio"),
        ("decode", "peer_decode", "ours_decode", "decode_ratio"),
        ("training step, 2^10 codes", "peer_step", "ours_step", "step_ratio"),
        ("training step with GAN, 2^10 codes", "peer_step_gan", "ours_step_gan", "step_gan_ratio"),
        ("the same, ours with `patch_size=2`", "peer_step_gan", "ours_step_gan_folded", "step_gan_folded_ratio"),
    ]
    values = {ratio: middle(ours) / middle(peer) for _, peer, ours, ratio in rows}
    for _, peer, ours, ratio in rows:
        values[ratio.replace("ratio", "memory_ratio")] = middle(ours, "megabytes") / middle(peer, "megabytes")
    values["step_2^18_over_2^10"] = middle("ours_step_2^18") / middle("ours_step")
    values["share"] = middle("ours_share", "share")
    values["share_paper_residual"] = middle("ours_share_paper_residual", "share")

    lines = []
    for name, peer, ours, ratio in rows:
        lines.append((f"{name}, CPU s", f"{middle(peer):.2f}", f"{middle(ours):.2f}", ratio))
        in_megabytes = (f"{middle(task, 'megabytes'):.0f}" for task in (peer, ours))
        lines.append((f"{name}, MB", *in_megabytes, ratio.replace("ratio", "memory_ratio")))
    large = "training step, 2^18 codes, CPU s (and over ours at 2^10)"
    lines.append((large, "", f"{middle('ours_step_2^18'):.2f}", "step_2^18_over_2^10"))
    for name, layers in (("share", "these layers"), ("share_paper_residual", "`paper_residual` for `residual`")):
        rate, product = (middle(f"ours_{name}", figure) / 1e9 for figure in ("rate", "product_rate"))
        lines.append((f"share of the product's rate, {layers}", "", f"{rate:.1f} of {product:.1f} GFLOP/s", name))
    print("\n| | peer | ours | figure | bar |\n|---|---|---|---|---|")
    for name, peer, ours, figure in lines:
        print(f"| {name} | {peer} | {ours} | {values[figure]:.2f} | {verdict(values[figure], BARS.get(figure))} |")
    print()
    for name, value in values.items():
        print(f"{name} {value:.3f}")
    for part in ("tokenizer", "discriminator"):
        tasks = ("peer_step_gan", "ours_step_gan", "ours_step_gan_folded")
        peer, ours, folded = (results[task][0][f"{part}_parameters"] / 1e6 for task in tasks)
        print(f"{part} parameters: peer {peer:.2f} M, ours {ours:.2f} M, with patch_size=2 {folded:.2f} M")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = CACHE / "peer"
    parser.add_argument(
        "--environment", type=Path, default=default, help=f"folder of the environment (default: {default})"
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes per measurement (default: 3)")
    parser.add_argument(
        "--peer-large", action="store_true", help="also try a step of the peer with 2^18 codes and 16 GiB of memory"
    )
    parser.add_argument("--verbose", action="store_true", help="also print FLOPs and time of our step by operation")
    parser.add_argument("--task", type=received, help=argparse.SUPPRESS)
    parser.add_argument("--address-space", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        if arguments.address_space:
            resource.setrlimit(resource.RLIMIT_AS, (arguments.address_space, arguments.address_space))
        print(json.dumps(measure(arguments.task, verbose=arguments.verbose)))
        return

    python = set_up(arguments.environment.expanduser().absolute(), REQUIREMENTS)
    warn_of_a_busy_machine()
    results: dict[str, list[Figures]] = {name: [] for name in TASKS}
    for number in range(arguments.rounds):
        for name, task in TASKS.items():
            figures = run(python, task, verbose=arguments.verbose and number == 0)
            results[name].append(figures)
            if number == 0 and len(results[name]) == 1 and name == "peer_encode":
                print(f"torch {figures['torch']}, one thread, {os.cpu_count()} cores", flush=True)
            print(
                f"round {number + 1}: {name:26} {figures['seconds']:8.2f} CPU s {figures['megabytes']:8.0f} MB",
                flush=True,
            )
            for operation, flops in figures.get("flops_by_operation", {}).items() if "profile" in figures else ():
                print(f"    {flops / 1e9:9.2f} GFLOP {operation}")
            print(figures.get("profile", ""), end="")
    if arguments.peer_large:
        try:
            figures = run(python, PEER_LARGE, address_space=ADDRESS_SPACE)
            print(f"peer at 2^18 codes under 16 GiB: {figures['seconds']:.2f} CPU s, {figures['megabytes']:.0f} MB")
        except RuntimeError as error:
            print(f"peer at 2^18 codes under 16 GiB: fails ({error})")
    report(results)


if __name__ == "__main__":
    main()

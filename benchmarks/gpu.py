"""Speed and memory of training steps on a GPU, for the presets `base` and `magvit2` of both stages.

    python benchmarks/gpu.py                            # all models, on the current GPU
    python benchmarks/gpu.py --models tokenizer-base    # one of them
    python benchmarks/gpu.py --device cpu --models tokenizer-tiny maskgit-tiny --most 4    # to try it without a GPU

It needs an installation of this package. Each model is trained on random clips or codes with the largest batch that
fits, found by doubling: in float32 (with TF32) and bf16, as it is and compiled (`--compile` of the training). A step is
forward and backward pass and optimizer, for `tokenizer-magvit2` also the perceptual loss and the discriminator, with an
R1 penalty in one of 16 steps. There is no gradient checkpointing. The time of a step is the mean over `--steps` steps.

The share of the peak is the FLOP rate of these steps divided by the peak of the GPU for dense matrix products in bf16,
from the table below or `--peak-tflops`. FLOPs are those that `torch.utils.flop_counter` knows, of a step without R1.
Memory is the peak of what PyTorch has allocated.

`tokenizer-seed`, the default model with 36,864 codes per clip, is compared with `magvit2-pytorch` 0.5.1 from PyPI: the
same layers and width, with 2^10 codes, since the other package has a table with an entry for each latent and code. It
has the same import name as this package, so it needs an environment of its own: `--peer-python` names the Python there.
`benchmarks/tokenizer.py` makes such an environment in `~/.cache/magvit2-pytorch/peer`.
"""

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peer_environment import CACHE, ROOT
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

GPU_MODELS = ("tokenizer-base", "tokenizer-seed", "tokenizer-magvit2", "maskgit-base", "maskgit-magvit2")
MODELS = (*GPU_MODELS, "tokenizer-tiny", "maskgit-tiny")
PRECISIONS = ("float32", "bf16")
PEER = "peer of tokenizer-seed"
PEER_CODES = 2**10
NUM_LABELS = 101  # UCF-101
STEPS = 16

# Peak of dense matrix products in bf16, TFLOP/s, by words in the name that PyTorch gives to the device; the longest
# entry that fits counts. From the data sheets of the vendors, where values "with sparsity" are twice as high.
PEAKS = {
    "B200": 2250.0,  # NVIDIA HGX B200: 36 PFLOP/s with sparsity for eight
    "H200": 989.0,  # NVIDIA H200 SXM
    "H200 NVL": 835.5,
    "H100": 989.0,  # NVIDIA H100 SXM
    "H100 PCIe": 756.0,
    "H100 NVL": 835.5,
    "GH200": 989.0,
    "A100": 312.0,  # NVIDIA A100, SXM and PCIe
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX A6000": 154.8,
    "RTX 4090": 165.2,  # NVIDIA Ada architecture, with accumulation in float32
    "RTX 3090": 71.0,  # NVIDIA GA102 architecture, with accumulation in float32
    "MI300X": 1307.4,  # AMD Instinct MI300X
    "MI250X": 383.0,
}

Step = Callable[[Any, int], None]


@dataclass
class Training:
    """A model in training."""

    make_batch: Callable[[int], Any]
    """Returns random input for a number of clips."""
    step: Step
    """Trains on a batch. The second argument is the number of the step."""
    compile: Callable[..., Any]
    modules: Sequence[nn.Module]


class Setting(NamedTuple):
    device: torch.device
    precision: str
    steps: int
    most: int
    """Largest batch to try."""


class Result(NamedTuple):
    batch: int
    seconds: float
    """Of a step."""
    gigabytes: float | None
    """None on a CPU."""
    first_seconds: float
    """Of the first step, in which compiled models are compiled."""


# Models


def tokenizer_training(preset: str, device: torch.device) -> Training:
    """Return the training of stage one with a preset of `train/tokenizer.py`."""
    from magvit2_pytorch.tokenizer import (
        DiscriminatorConfig,
        DiscriminatorObjective,
        TokenizerObjective,
        VideoTokenizer,
    )
    from magvit2_pytorch.tokenizer.efficientnet import EfficientNetLite0
    from magvit2_pytorch.tokenizer.losses import weighted_sum
    from magvit2_pytorch.tokenizer.perceptual import FeatureDistance, PerceptualNetwork
    from magvit2_pytorch.train.adversarial import AdversarialConfig
    from magvit2_pytorch.train.tokenizer import PRESETS

    if preset == "tiny":
        with_adversary = AdversarialConfig(discriminators=(DiscriminatorConfig(width=4),))
        run = replace(PRESETS["demo"], adversarial=with_adversary)
    else:
        run = {**PRESETS, "seed": seed_run()}[preset]
    model = replace(run.model, gradient_checkpointing=False)
    # The time does not depend on the weights, so the perceptual network has random ones.
    perceptual = None if run.perceptual is None else PerceptualNetwork(FeatureDistance(EfficientNetLite0()))
    objective = TokenizerObjective(VideoTokenizer.from_config(model), perceptual).to(device)
    optimizer = adamw(objective)
    settings = run.adversarial
    adversary, adversary_optimizer = None, None
    if settings.discriminators:
        adversary = DiscriminatorObjective(settings.discriminators, channels=model.channels).to(device)
        adversary_optimizer = adamw(adversary)
    size = run.data.resolution

    def step(video: Tensor, number: int) -> None:
        losses, reconstruction, _ = objective(video, adversary, phase=number)
        factors = [discriminator.weight for discriminator in settings.discriminators]
        update(weighted_sum(losses, model.loss_weights, adversarial_factors=factors), optimizer)
        if adversary is not None and adversary_optimizer is not None:
            judged = adversary(video, reconstruction, with_r1=number % settings.r1_every == 0, phase=number)
            update(torch.stack([*judged.values()]).sum(), adversary_optimizer)

    def make_batch(batch: int) -> Tensor:
        return torch.rand(batch, model.channels, run.data.num_frames, size, size, device=device) * 2 - 1

    modules = [objective] if adversary is None else [objective, adversary]
    return Training(make_batch, step, lambda **options: [m.compile(**options) for m in modules], modules)


def maskgit_training(preset: str, device: torch.device) -> Training:
    """Return the training of stage two with a preset of `maskgit/presets.py`."""
    from magvit2_pytorch.maskgit import MaskGit, MaskGitObjective
    from magvit2_pytorch.maskgit.losses import MaskGitLossWeights, weighted_sum
    from magvit2_pytorch.maskgit.presets import PRESETS

    config = replace(PRESETS[preset], num_labels=NUM_LABELS)
    objective = MaskGitObjective(MaskGit(config)).to(device)
    optimizer = adamw(objective)

    def step(batch: tuple[Tensor, Tensor], _: int) -> None:
        update(weighted_sum(objective(*batch), MaskGitLossWeights()), optimizer)

    def make_batch(batch: int) -> tuple[Tensor, Tensor]:
        codes = torch.randint(config.codebook_size, (batch, *config.grid), device=device)
        return codes, torch.randint(NUM_LABELS, (batch,), device=device)

    return Training(make_batch, step, objective.compile, [objective])


def peer_training(options: dict[str, Any], device: torch.device) -> Training:
    """Return the training of the other package, without its GAN and its perceptual loss."""
    package = import_module("magvit2_pytorch")
    if Path(str(package.__file__)).resolve().parent == ROOT / "magvit2_pytorch":
        raise ImportError(f"the magvit2_pytorch in the environment of {sys.executable} is this package")
    num_frames = options.pop("num_frames")
    options["layers"] = tuple(tuple(layer) if isinstance(layer, list) else layer for layer in options["layers"])
    tokenizer = package.VideoTokenizer(**options, use_gan=False, perceptual_loss_weight=0.0).to(device)
    optimizer = adamw(tokenizer)
    size = options["image_size"]

    def step(video: Tensor, _: int) -> None:
        update(tokenizer(video, return_loss=True)[0], optimizer)

    def make_batch(batch: int) -> Tensor:
        return torch.rand(batch, 3, num_frames, size, size, device=device) * 2 - 1

    return Training(make_batch, step, tokenizer.compile, [tokenizer])


def seed_run() -> Any:
    """Return the run of stage one with the default model."""
    from magvit2_pytorch.train.data import DataConfig
    from magvit2_pytorch.train.tokenizer import TokenizerRun

    return TokenizerRun(data=DataConfig(resolution=128))


def peer_options() -> dict[str, Any]:
    """Return the settings of the other package, as JSON can hold them."""
    run = seed_run()
    return {
        "image_size": run.data.resolution,
        "num_frames": run.data.num_frames,
        "init_dim": run.model.init_dim,
        "layers": run.model.layers,
        "codebook_size": PEER_CODES,
    }


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(parameters, lr=1e-4, fused=True)


def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


# Measurement


def measure(training: Training, setting: Setting, *, first_batch: int = 1) -> Result:
    """Measure steps with the largest batch that fits.

    Args:
        first_batch: tried first; then twice as many, or half as many if this does not fit.

    Raises:
        torch.OutOfMemoryError: if not even one clip fits.
    """
    started = time.perf_counter()
    batch, fits = first_batch, runs(training, setting, first_batch)
    first_seconds = time.perf_counter() - started
    while not fits and batch > 1:
        batch //= 2
        fits = runs(training, setting, batch)
    if not fits:
        raise torch.OutOfMemoryError("not even one clip fits")
    if batch == first_batch:
        while 2 * batch <= setting.most and runs(training, setting, 2 * batch):
            batch *= 2
    inputs = training.make_batch(batch)
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for number in (0, 1):  # with R1, and without
        run_step(training, setting, inputs, number)
    started = synchronized_time(setting.device)
    for number in range(setting.steps):
        run_step(training, setting, inputs, number)
    seconds = (synchronized_time(setting.device) - started) / setting.steps
    return Result(batch, seconds, peak_gigabytes(setting.device), first_seconds)


def runs(training: Training, setting: Setting, batch: int) -> bool:
    """Return whether steps with and without R1 fit into the memory."""
    try:
        inputs = training.make_batch(batch)
        for number in (0, 1):
            run_step(training, setting, inputs, number)
        synchronized_time(setting.device)
    except torch.OutOfMemoryError:
        is_out = True
    else:
        is_out = False
    if is_out:  # outside of the handler, whose traceback keeps the tensors of the step
        for module in training.modules:
            module.zero_grad()
        free_memory(setting.device)
    return not is_out


def run_step(training: Training, setting: Setting, inputs: Any, number: int) -> None:
    with autocast(setting):
        training.step(inputs, number)


def autocast(setting: Setting) -> AbstractContextManager[Any]:
    return torch.autocast(setting.device.type, torch.bfloat16, enabled=setting.precision == "bf16")


def flops_per_clip(training: Training, setting: Setting) -> int:
    """Return the FLOPs of a step with one clip, without R1."""
    with FlopCounter() as counter:
        run_step(training, setting, training.make_batch(1), 1)
    return counter.total


class FlopCounter(TorchDispatchMode):
    """Counts FLOPs by the formulas of `torch.utils.flop_counter`.

    PyTorch's `FlopCounterMode` also finds the module of each operation, which fails where a step calls `autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def synchronized_time(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gigabytes(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None


def free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_tflops(device: torch.device) -> float | None:
    """Return the peak of a device in bf16, if it is in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    fitting = [words for words in PEAKS if re.search(rf"\b{words}\b", name)]
    return PEAKS[max(fitting, key=len)] if fitting else None


def measure_peer(python: Path, setting: Setting) -> Result | str:
    """Measure the other package in a process of its own. Returns why not, if it cannot be measured."""
    task = {"options": peer_options(), "setting": [str(setting.device), *setting[1:]]}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, Path(__file__).resolve(), "--peer-task", json.dumps(task)]
    with tempfile.TemporaryDirectory() as elsewhere:
        finished = subprocess.run(command, env=variables, cwd=elsewhere, capture_output=True, text=True)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines()
        return next((line for line in reversed(lines) if "Error" in line), f"exit status {finished.returncode}")
    return Result(*json.loads(finished.stdout.splitlines()[-1]))


# Report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = f"default: {' '.join(GPU_MODELS)}"
    parser.add_argument("--models", nargs="+", choices=MODELS, default=GPU_MODELS, help=models)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="default: both")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"timed steps (default: {STEPS})")
    parser.add_argument("--most", type=int, default=1024, help="largest batch to try (default: 1024)")
    parser.add_argument("--peak-tflops", type=float, help="peak of the GPU for dense bf16 matrix products, in TFLOP/s")
    parser.add_argument("--backend", default="inductor", help="backend of torch.compile (default: inductor)")
    default = CACHE / "peer" / "bin" / "python"
    parser.add_argument("--peer-python", type=Path, default=default, help=f"default: {default}")
    parser.add_argument("--peer-task", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    torch.set_float32_matmul_precision("high")  # TF32
    if asked.peer_task:
        device, *others = asked.peer_task["setting"]
        setting = Setting(torch.device(device), *others)
        print(json.dumps(measure(peer_training(asked.peer_task["options"], setting.device), setting)))
        return
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU on this machine; to try the program without one, see --help")

    device = torch.device(asked.device)
    peak = asked.peak_tflops or peak_tflops(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, peak {peak or 'unknown'} TFLOP/s in bf16")
    print("\n| model | precision | | batch | ms a step | clips a second | GiB | share of peak | s for the first step |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for model in asked.models:
        for precision in asked.precisions:
            setting = Setting(device, precision, asked.steps, asked.most)
            report_model(model, setting, peak, asked.backend)
            if model == "tokenizer-seed":
                print(row(PEER, precision, "eager", measure_peer(asked.peer_python, setting)), flush=True)


def report_model(model: str, setting: Setting, peak: float | None, backend: str) -> None:
    """Measure a model, eager and compiled, and print its rows."""
    stage, _, preset = model.partition("-")
    torch.manual_seed(0)
    first_batch = 1
    try:
        training = (tokenizer_training if stage == "tokenizer" else maskgit_training)(preset, setting.device)
        flops = flops_per_clip(training, setting)
        for mode in ("eager", "compiled"):
            if mode == "compiled":
                torch._dynamo.config.recompile_limit = 64  # batches of several sizes
                training.compile(dynamic=False, backend=backend)
            result = measure(training, setting, first_batch=first_batch)
            first_batch = result.batch
            share = flops * result.batch / result.seconds / (peak * 1e12) if peak else None
            print(row(model, setting.precision, mode, result, share), flush=True)
    except torch.OutOfMemoryError as error:
        print(row(model, setting.precision, "", f"out of memory: {str(error).splitlines()[0]}"), flush=True)
    torch.compiler.reset()
    free_memory(setting.device)


def row(model: str, precision: str, mode: str, result: Result | str, share: float | None = None) -> str:
    """Return a row of the table."""
    if isinstance(result, str):
        return f"| {model} | {precision} | {mode} | not measured: {result} |"
    batch, seconds, gigabytes, first_seconds = result
    memory = "" if gigabytes is None else f"{gigabytes:.1f}"
    figures = (f"{1000 * seconds:.1f}", f"{batch / seconds:.2f}", memory)
    of_peak = "" if share is None else f"{share:.1%}"
    return f"| {model} | {precision} | {mode} | {batch} | {' | '.join(figures)} | {of_peak} | {first_seconds:.1f} |"


if __name__ == "__main__":
    main()

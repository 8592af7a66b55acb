"""Operations, host reads and copies that a training step of each preset asks of a device, counted without a device.

    python benchmarks/launches.py           # 90 CPU seconds
    python benchmarks/launches.py --verbose # also the most frequent operations, and where reads and copies come from

A GPU is fast only while it has work in its queue. Each operation costs some microseconds to launch, each host read
(`tensor.item()`) waits until the queue is empty, and so does a copy of numbers that Python has made. This program
counts all three in the second optimizer step of the training loops `train/tokenizer.py` and `train/maskgit.py`.

The device is simulated: tensors on it have a shape and a type, but no values (`torch._subclasses.FakeTensor`). So
presets are counted at their full size in little memory. Everything on the CPU is real, such as the data, which are
moving shapes for all presets. The codes of stage two are random, and the network of the perceptual loss has random
weights. A read returns 1, which is a finite norm of gradients. Gradient checkpointing is off.

- Operations: calls of PyTorch's operators with a result on the device, without views and without allocations. One of
  them is usually one kernel, sometimes several. Attention is counted by its parts, since the device has no kernel for
  it.
- Reads: transfers of values from the device to the CPU.
- Copies: transfers from the CPU to the device, without the tensors of the batch. The random numbers of a step of stage
  two are drawn on the CPU, so that results do not depend on the device; they are one copy.
- Entropies: operations of both entropies of LFQ, forward and backward, for a batch of the preset.

The exit status is 1 if a bound is missed.
"""

import argparse
import math
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from magvit2_pytorch import VideoTokenizer, devices
from magvit2_pytorch.tokenizer import autoencoder
from magvit2_pytorch.tokenizer.efficientnet import EfficientNetLite0
from magvit2_pytorch.tokenizer.entropy import codebook_entropy, sample_entropy
from magvit2_pytorch.tokenizer.perceptual import FeatureDistance, PerceptualNetwork
from magvit2_pytorch.train import adversarial, maskgit, tokenizer
from magvit2_pytorch.train.codes import clip_of, features
from magvit2_pytorch.train.data import DataConfig, VideoData
from magvit2_pytorch.train.data.config import MOVING_SHAPES
from magvit2_pytorch.train.metrics.report import aligned
from magvit2_pytorch.train.session import RunConfig, Session

STAGES = {
    "tokenizer": ("demo", "laptop", "shapes-tasks", "base", "seed", "magvit2"),
    "maskgit": ("demo", "laptop", "shapes-tasks", "base", "magvit2"),
}
SEED_RUN = tokenizer.TokenizerRun(data=DataConfig(resolution=128))  # the default model, with 36,864 codes per clip
COUNTED_STEP = 1  # constants are on the device since step 0, and R1 is due in step 0 only
PRESETS = [f"{stage}:{preset}" for stage, presets in STAGES.items() for preset in presets]
BOUNDS = {"tokenizer": (200, 1, 0), "maskgit": (0, 1, 1)}  # operations of entropies, reads, copies
BATCH_MOVERS = ("data/transfer.py",)  # which moves batches to the device
LISTED = 12
SIMULATED = "simulated"
# Operations without a kernel, besides views.
FREE = {
    "aten::detach",
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
    "aten::lift_fresh",
    "aten::set_",
    "aten::_unsafe_view",
    "aten::_reshape_alias",
    "prim::device",
}
WITHOUT_VALUES = FakeTensorMode(allow_non_fake_inputs=True)
Result = TypeVar("Result")


class Counts(NamedTuple):
    """What was asked of the device, by name of the operator or by line of this package."""

    operations: Counter[str]
    reads: Counter[str]
    copies: Counter[str]


class SimulatedDevice(TorchDispatchMode):
    """Runs operators on tensors of the simulated device without values, all others as usual, and counts.

    It needs a `FakeTensorMode` around it. Operators whose result has a size that depends on values raise an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        self.counts = Counts(Counter(), Counter(), Counter())

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        is_here = any(is_simulated(value) for value in given)
        name = func._schema.name
        if not is_here and not any(is_device(value) for value in given):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if name in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"):
            self.counts.reads[caller()] += 1
            return scalar_of(args[0])
        goes_to_cpu = name == "aten::_to_copy" and torch.device(kwargs.get("device") or SIMULATED).type == "cpu"
        if goes_to_cpu or (name == "aten::copy_" and not is_simulated(args[0])):
            self.counts.reads[caller()] += 1
            like = torch.empty_like(args[0], dtype=kwargs.get("dtype"), device="meta")
            with _disable_current_modes():
                return torch.ones(like.shape, dtype=like.dtype)
        if name == "aten::nonzero":
            self.counts.reads[caller()] += 1
            return torch.zeros(1, args[0].ndim, dtype=torch.long, device=args[0].device)
        # 0-dimensional tensors on the CPU are arguments of kernels, which need no copy.
        copied = [value for value in given if isinstance(value, Tensor) and not is_simulated(value) and value.ndim]
        copied += [args[0]] if name == "aten::_to_copy" and not is_simulated(args[0]) and not args[0].ndim else []
        if copied and not (place := caller()).startswith(BATCH_MOVERS):
            self.counts.copies[place] += len(copied)
        result = func(*tree_map(without_values, args), **tree_map(without_values, kwargs))
        is_view = any(value.alias_info and not value.alias_info.is_write for value in func._schema.returns)
        if not copied and not is_view and name not in FREE:
            self.counts.operations[name] += 1
        return result


class NumbersOfPython(TorchFunctionMode):
    """Makes tensors of the numbers of Python on the CPU and copies them, as PyTorch does for a device."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.new_tensor and is_simulated(args[0]):
            like, *data = args
            return torch.tensor(*data, dtype=kwargs.get("dtype", like.dtype)).to(like.device)
        if func in (torch.tensor, torch.as_tensor) and is_device(kwargs.get("device")):
            return func(*args, **(kwargs | {"device": "cpu"})).to(SIMULATED)
        return func(*args, **kwargs)


def register() -> None:
    """Let PyTorch know the simulated device, in this process."""
    _setup_privateuseone_for_python_backend(SIMULATED)
    torch.get_device_module(SIMULATED).get_amp_supported_dtype = lambda: [torch.bfloat16]


def is_simulated(value: object) -> bool:
    return isinstance(value, FakeTensor) and value.device.type == SIMULATED


def is_device(value: object) -> bool:
    return isinstance(value, str | torch.device) and str(value).startswith(SIMULATED)


def without_values(value: Any) -> Any:
    """Replace a real tensor by one without values. The real one gets no reference, which would pin it to its type."""
    if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return value


def scalar_of(value: Tensor) -> bool | int | float:
    """Return what a read of any value gives."""
    return 1.0 if value.is_floating_point() else value.dtype == torch.bool or 1


def caller() -> str:
    """Return the line of this package that is running."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if "torch" not in path.parts and path != Path(__file__) and "site-packages" not in path.parts:
            return f"{path.parent.name}/{path.name}:{frame.lineno} {frame.line}"
    return "unknown"


class CountedSession(Session):
    """A session on the simulated device that ends after the counted step."""

    def __init__(self, run: RunConfig, device: SimulatedDevice) -> None:
        super().__init__(run, None)
        self.device = device
        self.accelerator.device_placement = False  # see `after_move`

    def ends_after(self, done: int, ema: nn.Module, score: float | None = None) -> bool:
        self.done = done
        self.bad_steps.end_step()
        if done == COUNTED_STEP:
            self.device.forget()
        return done > COUNTED_STEP


def counts_of(stage: str, preset: str, folder: Path) -> Counts:
    """Return the counts of one optimizer step of a run with a preset, without gradient accumulation."""
    module = {"tokenizer": tokenizer, "maskgit": maskgit}[stage]
    run = {**module.PRESETS, "seed": SEED_RUN}[preset]
    data = replace(run.data, path=MOVING_SHAPES, weights=(), zoom=1.0, drawn_clips=64, cache_dir=str(folder))
    run = replace(run, data=data, output_dir=folder / stage / preset, progress=False, gradient_accumulation=1)
    with ExitStack() as stack:
        for place, name, replacement in replaced(stage, preset):
            stack.enter_context(patch.object(place, name, replacement))
        stack.enter_context(patch.object(FakeTensor, "tolist", lambda tensor: tensor.cpu().tolist()))
        stack.enter_context(WITHOUT_VALUES)
        stack.enter_context(NumbersOfPython())
        device = stack.enter_context(SimulatedDevice())
        with CountedSession(run, device) as session:
            module.train_in(session, run)
    return device.counts


def replaced(stage: str, preset: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield what a run takes from elsewhere, with replacements that need neither files nor time."""
    yield Accelerator, "device", torch.device(SIMULATED, 0)
    yield devices, "is_lasting", lambda _: True
    yield _foreach_utils, "_foreach_supported_types", [Tensor, FakeTensor]
    yield autoencoder, "activations_fit", lambda *_: True
    for module, name in ((tokenizer, "make_optimizers"), (maskgit, "make_optimizers"), (adversarial, "adamw")):
        yield module, name, after_move(getattr(module, name))
    if stage == "tokenizer":
        yield tokenizer, "load_perceptual_network", lambda _: PerceptualNetwork(FeatureDistance(EfficientNetLite0()))
        return
    yield maskgit, "load_tokenizer", lambda _: VideoTokenizer.from_config(tokenizer.PRESETS[preset].model)
    yield maskgit, "fingerprint", lambda *_: ""
    yield maskgit, "HeldoutLoss", lambda *_, **__: None  # of evaluations
    yield maskgit, "encoded", random_codes


def after_move(make: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that moves a module to the device before it makes its optimizers.

    Parameters without values are new objects, which an optimizer made before would not know.
    """
    return lambda module, *args, **settings: make(module.to(SIMULATED), *args, **settings)


def random_codes(
    tokenizer: VideoTokenizer, data: VideoData, cache_dir: Path, *, passes: int, conditions: Sequence[str], **_: object
) -> datasets.Dataset:
    """Return a table like that of `encoded`, of random codes."""
    num_rows = passes * len(data.train)
    grid = tokenizer.code_shape(*clip_of(data, 0).shape[1:])
    codes = np.random.default_rng(0).integers(tokenizer.codebook_size, size=(len(data.train), math.prod(grid)))
    once = {"file": 0, "first_frame": 0, "label": 0, "flip": False, "is_blank": False}
    columns = {name: [value] * num_rows for name, value in once.items()}
    columns |= {name: list(codes) * passes for name in ("codes", *conditions)}
    return datasets.Dataset.from_dict(columns, features=features(tokenizer, data, conditions))


def operations_of_entropies(preset: str) -> int | None:
    """Return the operations of both entropies for a batch of a preset of stage one; None without entropies."""
    run = {**tokenizer.PRESETS, "seed": SEED_RUN}[preset]
    if run.model.quantizer == "fsq":
        return None
    size = (run.data.num_frames, run.data.resolution, run.data.resolution)
    shape = (run.batch_size, run.model.latent_channels, *run.model.code_shape(*size))
    with patch.object(devices, "is_lasting", lambda _: True), WITHOUT_VALUES, SimulatedDevice() as device:
        latents = torch.randn(shape, device=SIMULATED, requires_grad=True)
        for _ in range(COUNTED_STEP + 1):
            device.forget()
            (sample_entropy(latents, 1.0) - codebook_entropy(latents, 1.0)).backward()
    return device.counts.operations.total()


def most_frequent(counts: Counts) -> str:
    """Return the most frequent operations, and the places of reads and copies, as text."""
    lines = (f"{number:8} {what}" for counter in counts for what, number in counter.most_common(LISTED))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbose", action="store_true", help="also print the most frequent operations and the places")
    parser.add_argument("--presets", nargs="+", metavar="STAGE:PRESET", default=PRESETS, help="count only these")
    options = parser.parse_args()
    register()
    cells: list[tuple[str, ...]] = [("", "operations", "of entropies", "reads", "copies", "")]
    is_missed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.presets:
            stage, _, preset = name.partition(":")
            counts = counts_of(stage, preset, Path(folder))
            of_entropies = operations_of_entropies(preset) if stage == "tokenizer" else None
            figures = (of_entropies or 0, counts.reads.total(), counts.copies.total())
            missed = any(figure > most for figure, most in zip(figures, BOUNDS[stage], strict=True))
            is_missed |= missed
            written = ("–" if of_entropies is None else f"{of_entropies:,}", *(str(figure) for figure in figures[1:]))
            cells.append((name, f"{counts.operations.total():,}", *written, "missed" if missed else "ok"))
            if options.verbose:
                print(f"{name}\n{most_frequent(counts)}\n", flush=True)
    for stage, bounds in BOUNDS.items():
        cells.append((f"bound for {stage}", "", *(str(most) for most in bounds), ""))
    print(aligned(cells))
    sys.exit(is_missed)


if __name__ == "__main__":
    main()

"""Arithmetic of training the large presets on 1, 8 and 64 accelerators: memory, operations and time. Nothing is timed.

    python benchmarks/scaling.py                                    # about a minute on two cores, no GPU needed
    python benchmarks/scaling.py --peak 312e12 --utilization 0.3    # of another accelerator

Operations are counted by PyTorch's `FlopCounterMode` in one training step of one clip, forward and backward, on tensors
without data. A multiplication with an addition counts as two. Steps of stage one include the perceptual network and the
update of the discriminators if the preset has them, without the R1 penalty of every 16th step.

Rows: trained parameters (with those of discriminators), memory of weights, gradients, AdamW and averaged weights in
each process, operations per clip, and hours for the number of steps and the joined batch at the given share of the peak
of the accelerators. The share is an assumption, not a measurement.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig
from magvit2_pytorch.maskgit.presets import PRESETS as TRANSFORMERS
from magvit2_pytorch.tokenizer import DiscriminatorObjective, TokenizerObjective, VideoTokenizer
from magvit2_pytorch.tokenizer.discriminator import frames_seen
from magvit2_pytorch.tokenizer.perceptual import load_perceptual_network
from magvit2_pytorch.train.tokenizer import PRESETS as TOKENIZERS
from magvit2_pytorch.train.tokenizer import TokenizerRun

BYTES_PER_PARAMETER = 16  # float32: weight 4, gradient 4, AdamW 8
BYTES_PER_AVERAGE = 4  # discriminators have no averaged weights
NUM_ACCELERATORS = (1, 8, 64)
H100_PEAK = 989e12  # bfloat16 without sparsity, according to the data sheet of the H100 SXM
NUM_FRAMES = 17


def operations(step: Callable[[], None]) -> int:
    """Return the number of floating-point operations of a step."""
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def num_trained(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters() if parameter.requires_grad)


class Cost(NamedTuple):
    """What a step of a preset takes."""

    parameters: int
    """Trained ones, with those of discriminators."""
    state: int
    """Bytes in each process."""
    operations: int
    """For each clip."""


def of_tokenizer(run: TokenizerRun) -> Cost:
    """Return the cost of stage one."""
    network = None if run.perceptual is None else load_perceptual_network(run.perceptual)
    # Recomputed activations would be counted twice.
    tokenizer = VideoTokenizer.from_config(replace(run.model, gradient_checkpointing=False))
    objective = TokenizerObjective(tokenizer)
    configs = run.adversarial.discriminators
    adversary = DiscriminatorObjective(configs) if configs else None
    parameters = num_trained(tokenizer) + (0 if adversary is None else num_trained(adversary))
    state = BYTES_PER_PARAMETER * parameters + BYTES_PER_AVERAGE * num_trained(tokenizer)
    video = torch.empty(1, 3, NUM_FRAMES, run.data.resolution, run.data.resolution)

    def step() -> None:
        """The parts of a step, one by one: `FlopCounterMode` does not count `torch.autograd.grad`."""
        total(objective(video).losses.values()).backward()
        picture = torch.zeros_like(video).requires_grad_()
        if network is not None:
            network(*(frames_seen(frames, run.perceptual_stride, 0) for frames in (picture, video))).backward()
        if adversary is not None:
            adversary.requires_grad_(False)
            total(adversary.generator_losses(picture)).backward()
            adversary.requires_grad_()
            total(adversary(video, picture).values()).backward()

    return Cost(parameters, state, operations(step))


def of_transformer(config: MaskGitConfig) -> Cost:
    """Return the cost of stage two."""
    maskgit = MaskGit(config)
    codes, labels = torch.zeros(1, *config.grid, dtype=torch.long), torch.zeros(1, dtype=torch.long)

    def step() -> None:
        total(logits.sum() for logits in maskgit(codes, labels)).backward()

    parameters = num_trained(maskgit)
    return Cost(parameters, (BYTES_PER_PARAMETER + BYTES_PER_AVERAGE) * parameters, operations(step))


def total(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=float, default=H100_PEAK, help="operations per second of an accelerator")
    parser.add_argument("--utilization", type=float, default=0.4, help="share of the peak, an assumption")
    parser.add_argument("--num-steps", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=256, help="clips of all processes together")
    arguments = parser.parse_args()

    counted = {f"tokenizer {name}": of_tokenizer(TOKENIZERS[name]) for name in ("base", "magvit2")}
    counted |= {f"transformer {name}": of_transformer(TRANSFORMERS[name]) for name in ("base", "magvit2")}
    hours = " | ".join(f"hours on {number}" for number in NUM_ACCELERATORS)
    print(f"| preset | parameters (M) | state (GiB) | operations per clip (10^12) | {hours} |")
    print("| --- " * (4 + len(NUM_ACCELERATORS)) + "|")
    per_hour = arguments.peak * arguments.utilization * 3600
    for name, cost in counted.items():
        on_one = cost.operations * arguments.batch_size * arguments.num_steps / per_hour
        times = " | ".join(f"{on_one / number:,.1f}" for number in NUM_ACCELERATORS)
        print(
            f"| {name} | {cost.parameters / 1e6:.2f} | {cost.state / 2**30:.2f} | {cost.operations / 1e12:.3f} | "
            f"{times} |"
        )


if __name__ == "__main__":
    main()

"""Parameters, memory and operations of a training, found by a step on the meta device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..maskgit import MaskGit, MaskGitConfig, MaskGitObjective
from ..maskgit.losses import MaskGitLossWeights
from ..maskgit.losses import weighted_sum as maskgit_loss
from ..tokenizer import DiscriminatorObjective, TokenizerConfig, TokenizerObjective, VideoTokenizer
from ..tokenizer.efficientnet import EfficientNetLite0
from ..tokenizer.perceptual import LPIPS, FeatureDistance, PerceptualNetwork
from .adversarial import AdversarialConfig
from .costs import Cost, cost_of
from .optimization import OptimizerConfig, adamw, make_optimizers

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bf16": torch.bfloat16}

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one process of a run needs."""

    parameters: Mapping[str, int]
    """Number of parameters of each part."""
    weight_bytes: int
    """Weights, trained and frozen."""
    gradient_bytes: int
    """Gradients of the trained weights."""
    optimizer_bytes: int
    """State of the optimizers."""
    average_bytes: int
    """Averaged weights."""
    checkpoint_bytes: int
    """Files of a checkpoint."""
    result_bytes: int
    """Files of the exported model."""
    activation_bytes: Mapping[tuple[str, bool], int]
    """Most memory that the forward and backward pass of a batch need at once, besides all of the above, by precision
    and gradient checkpointing. Half-precision copies of the weights are included."""
    batch_flops: float
    """Operations of the forward and backward pass of a batch, without gradient checkpointing."""
    update_flops: int
    """Operations of the optimizers in a step."""

    @property
    def fixed_bytes(self) -> int:
        """Memory that does not depend on the batch."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.average_bytes

    def total_bytes(self, precision: str, checkpointing: bool = False) -> int:
        """Return the memory of a process, without workspaces of kernels and the fragmentation of memory."""
        return self.fixed_bytes + self.activation_bytes[precision, checkpointing]


def tokenizer_budget(
    config: TokenizerConfig,
    shape: tuple[int, int, int, int, int],
    *,
    optimizer: OptimizerConfig,
    adversarial: AdversarialConfig,
    perceptual: str | None,
    perceptual_stride: int = 1,
    freeze_encoder: bool = False,
) -> Budget:
    """Return the budget of stage one.

    The adaptive weight is not counted. Neither is the perceptual network `lpips`, whose size its package knows.

    Args:
        shape: shape (b, c, T, H, W) of the batches of a process.
    """
    has_network = perceptual not in (None, LPIPS)
    with META:
        network = PerceptualNetwork(FeatureDistance(EfficientNetLite0())) if has_network else None
        tokenizer = VideoTokenizer.from_config(config)
        discriminators = None
        if adversarial.discriminators:
            discriminators = DiscriminatorObjective(
                adversarial.discriminators, channels=config.channels, loss=adversarial.loss
            )
    if freeze_encoder:
        tokenizer.encoder.requires_grad_(False)
    objective = TokenizerObjective(tokenizer, network, perceptual_stride=perceptual_stride)
    optimizers = make_optimizers(objective, optimizer)
    trained: list[nn.Module] = [objective]
    if discriminators is not None:
        optimizers.append(adamw(discriminators, adversarial.optimizer))
        trained.append(discriminators)
    video = torch.empty(shape, device=META)

    def step_cost(autocast: torch.dtype | None, *, checkpointing: bool = False, with_r1: bool = False) -> Cost:
        tokenizer.config = replace(config, gradient_checkpointing=checkpointing)

        def compute() -> None:
            losses, reconstruction, _ = objective(video, discriminators)
            torch.stack(list(losses.values())).sum().backward()
            if discriminators is not None:
                judged = discriminators(video, reconstruction, with_r1=with_r1)
                torch.stack(list(judged.values())).sum().backward()

        return cost_of(compute, autocast=autocast)

    prepare_gradients(trained)
    has_r1 = discriminators is not None and adversarial.r1_weight > 0
    costs = {
        (precision, checkpointing): step_cost(autocast, checkpointing=checkpointing, with_r1=has_r1)
        for precision, autocast in PRECISIONS.items()
        for checkpointing in (False, True)
    }
    batch_flops = float(costs["float32", False].flops)
    if has_r1:
        without_r1 = step_cost(None).flops
        batch_flops = without_r1 + (batch_flops - without_r1) / adversarial.r1_every
    update_flops, optimizer_bytes = update_costs(optimizers)
    weights, average = bytes_of(trained), bytes_of([tokenizer])
    frozen = bytes_of([network.distance]) if network is not None else 0
    return Budget(
        parameters={"encoder": number_of(tokenizer.encoder), "decoder": number_of(tokenizer.decoder)}
        | ({} if discriminators is None else {"discriminators": number_of(discriminators)})
        | ({} if network is None else {"perceptual network (frozen)": number_of(network.distance)}),
        weight_bytes=weights + frozen,
        gradient_bytes=bytes_of(trained, only_trained=True),
        optimizer_bytes=optimizer_bytes,
        average_bytes=average,
        checkpoint_bytes=weights + optimizer_bytes + average,
        result_bytes=average,
        activation_bytes={choice: cost.peak_bytes for choice, cost in costs.items()},
        batch_flops=batch_flops,
        update_flops=update_flops,
    )


def maskgit_budget(
    config: MaskGitConfig, batch_size: int, *, optimizer: OptimizerConfig, tokenizer: TokenizerConfig
) -> Budget:
    """Return the budget of stage two. Gradient checkpointing is not available there.

    The encoding of clips is not counted.

    Args:
        batch_size: clips per batch of a process.
        tokenizer: the frozen tokenizer.
    """
    with META:
        maskgit, frozen = MaskGit(config), VideoTokenizer.from_config(tokenizer)
    objective = MaskGitObjective(maskgit)
    optimizers = make_optimizers(objective, optimizer)
    codes = torch.zeros(batch_size, *config.grid, dtype=torch.long, device=META)
    labels = torch.zeros(batch_size, dtype=torch.long, device=META)

    def compute() -> None:
        maskgit_loss(objective(codes, labels), MaskGitLossWeights()).backward()

    prepare_gradients([objective])
    costs = {precision: cost_of(compute, autocast=autocast) for precision, autocast in PRECISIONS.items()}
    update_flops, optimizer_bytes = update_costs(optimizers)
    weights = bytes_of([maskgit])
    return Budget(
        parameters={"transformer": number_of(maskgit), "tokenizer (frozen)": number_of(frozen)},
        weight_bytes=weights + bytes_of([frozen]),
        gradient_bytes=weights,
        optimizer_bytes=optimizer_bytes,
        average_bytes=weights,
        checkpoint_bytes=2 * weights + optimizer_bytes,
        result_bytes=weights + bytes_of([frozen]),
        activation_bytes={(precision, False): cost.peak_bytes for precision, cost in costs.items()},
        batch_flops=costs["float32"].flops,
        update_flops=update_flops,
    )


def prepare_gradients(modules: Sequence[nn.Module]) -> None:
    """Give each trained parameter a gradient, so that the gradients do not count as activations."""
    for module in modules:
        for parameter in module.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None


def update_costs(optimizers: Sequence[torch.optim.Optimizer]) -> tuple[int, int]:
    """Return the operations of a step of the optimizers, and the bytes of their state after it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["fused"] = False  # the fused AdamW does not run on the meta device
    flops = sum(cost_of(optimizer.step).flops for optimizer in optimizers)
    states = (value for optimizer in optimizers for state in optimizer.state.values() for value in state.values())
    return flops, sum(value.nbytes for value in states if isinstance(value, Tensor))


def bytes_of(modules: Sequence[nn.Module], *, only_trained: bool = False) -> int:
    """Return the bytes of the parameters and, unless only trained parameters count, of the buffers."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    if only_trained:
        return sum(parameter.nbytes for parameter in parameters if parameter.requires_grad)
    return sum(
        tensor.nbytes for tensor in (*parameters, *(buffer for module in modules for buffer in module.buffers()))
    )


def number_of(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())

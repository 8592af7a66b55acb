import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import (
    DetailDiscriminator,
    DiscriminatorConfig,
    DiscriminatorObjective,
    TokenizerLossWeights,
    TokenizerObjective,
    VideoDiscriminator,
)
from magvit2_pytorch.tokenizer.adversarial import AdversarialLoss
from magvit2_pytorch.tokenizer.losses import weighted_sum

WEIGHTS = TokenizerLossWeights(perceptual=0.3, adversarial=0.7)
DISCRIMINATORS = (
    DiscriminatorConfig(width=4),
    DiscriminatorConfig(width=4, frame_stride=2, weight=0.5),
    DiscriminatorConfig(width=4, sees="details"),
)


class RandomFeatures(nn.Module):
    """Stands in for a perceptual network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(3, 8, 3).requires_grad_(False)

    def forward(self, reconstruction: Tensor, video: Tensor) -> Tensor:
        return (self.features(reconstruction) - self.features(video)).square().mean()


def objectives(
    *, loss: AdversarialLoss = "non_saturating", checkpointing: bool = False
) -> tuple[TokenizerObjective, DiscriminatorObjective]:
    torch.manual_seed(3)
    tokenizer = VideoTokenizer(
        image_size=16,
        init_dim=16,
        layers=("residual", ("compress_space", 16), "compress_time"),
        codebook_size=2**6,
        loss_weights=WEIGHTS,
        gradient_checkpointing=checkpointing,
    )
    objective = TokenizerObjective(tokenizer, RandomFeatures(), adaptive_weight=True)
    return objective.double(), DiscriminatorObjective(DISCRIMINATORS, loss=loss).double()


def a_video(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 5, 16, 16, dtype=torch.float64) * 2 - 1


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_the_kept_gradients_are_those_of_the_whole_graph(loss: AdversarialLoss) -> None:
    objective, discriminators = objectives(loss=loss)
    video = a_video()
    result = objective(video, discriminators, phase=1)
    factors = [config.weight * result.adaptive_weight for config in DISCRIMINATORS]
    weighted_sum(result.losses, WEIGHTS, adversarial_factors=factors).backward()
    kept = gradients(objective)
    objective.zero_grad()

    reconstruction = objective.tokenizer.autoencode(video).reconstruction
    by_hand = {"perceptual": objective.perceptual(reconstruction, video)}  # type: ignore[misc]
    for index, discriminator in enumerate(discriminators.discriminators):
        logits = discriminator(reconstruction, 1)
        by_hand[f"adversarial_{index}"] = -logits.sigmoid().log().mean() if loss == "non_saturating" else -logits.mean()
    own = {name: value for name, value in result.losses.items() if name not in by_hand}
    assert list(result.losses) == [*own, *by_hand]
    for name, value in by_hand.items():
        torch.testing.assert_close(result.losses[name], value)
    again = objective(video, None).losses | by_hand
    weighted_sum(again, WEIGHTS, adversarial_factors=factors).backward()

    theirs = gradients(objective)
    assert kept.keys() == theirs.keys() == dict(objective.tokenizer.named_parameters(prefix="tokenizer")).keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(gradient, theirs[name])


def test_the_perceptual_loss_sees_every_frame_in_turn() -> None:
    objective, _ = objectives()
    objective.perceptual_stride = 2
    objective.perceptual = nn.Module()
    seen = []
    objective.perceptual.forward = lambda ours, video: seen.append(video) or ours.sum()  # type: ignore[assignment]
    video = a_video()

    for phase in range(3):
        objective(video, phase=phase)

    assert all(torch.equal(a, b) for a, b in zip(seen, [video[:, :, 0::2], video[:, :, 1::2], seen[0]], strict=True))


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_the_tokenizer_pays_every_discriminator(loss: AdversarialLoss) -> None:
    objective, discriminators = objectives(loss=loss)
    video = a_video()
    before = objective(video, discriminators).losses

    for index in range(len(DISCRIMINATORS)):
        name = f"adversarial_{index}"
        (gradient,) = torch.autograd.grad(
            objective(video, discriminators).losses[name], objective.tokenizer.last_weight
        )
        assert gradient.norm() > 0
        judge = discriminators.discriminators[index]
        assert isinstance(judge, VideoDiscriminator | DetailDiscriminator)
        last = judge.judge if isinstance(judge, DetailDiscriminator) else judge.judge[-1]
        assert isinstance(last, nn.Linear | nn.Conv3d)
        with torch.no_grad():
            last.get_parameter("bias").add_(1.0)
        after = objective(video, discriminators).losses
        assert [key for key in before if after[key] != before[key]] == [name]  # it alone judges otherwise
        before = after


def test_no_gradient_stays_in_networks_that_are_not_trained_here() -> None:
    objective, discriminators = objectives()

    result = objective(a_video(), discriminators)
    weighted_sum(result.losses, WEIGHTS, adversarial_factors=(1.0,) * len(DISCRIMINATORS)).backward()

    assert not gradients(discriminators)
    assert not gradients(objective.perceptual)  # type: ignore[arg-type]
    assert not result.reconstruction.requires_grad


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_adaptive_weight_compares_the_gradients_at_the_last_layer(checkpointing: bool) -> None:
    objective, discriminators = objectives(checkpointing=checkpointing)
    last = objective.tokenizer.last_weight
    result = objective(a_video(), discriminators)
    losses = result.losses

    pixels = WEIGHTS.reconstruction * losses["reconstruction"] + WEIGHTS.perceptual * losses["perceptual"]
    adversarial = losses["adversarial_0"] + 0.5 * losses["adversarial_1"] + losses["adversarial_2"]
    (of_pixels,) = torch.autograd.grad(pixels, last, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last, retain_graph=True)

    torch.testing.assert_close(result.adaptive_weight, of_pixels.norm() / (of_adversarial.norm() + 1e-6))


def test_without_gradients_the_losses_are_the_same() -> None:
    objective, discriminators = objectives()
    video = a_video()

    with torch.no_grad():
        without = objective(video, discriminators)

    assert without.losses == objective(video, discriminators).losses


def test_without_other_networks_it_has_the_tokenizers_own_losses() -> None:
    objective, _ = objectives()
    video = a_video()

    result = TokenizerObjective(objective.tokenizer)(video)

    assert result.losses == objective.tokenizer(video, return_loss=True)[1]
    assert result.adaptive_weight == 1


def test_the_entropies_take_another_sharpness() -> None:
    objective, _ = objectives()
    video = a_video()
    entropies = ("sample_entropy", "codebook_entropy")

    soft, hard = (objective(video, inverse_temperature=t).losses for t in (0.5, 4.0))

    assert {name for name in soft if soft[name] != hard[name]} == {*entropies}
    assert soft["sample_entropy"] > hard["sample_entropy"]


@pytest.mark.parametrize(
    ("losses", "factors"),
    [
        ({"reconstruction": 1.0, "sample_entropy": 1.0}, ()),
        ({"reconstruction": 1.0, "commitment": 1.0, "sample_entropy": 1.0, "codebook_entropy": 1.0, "style": 1.0}, ()),
        ({"reconstruction": 1.0, "commitment": 1.0, "sample_entropy": 1.0, "codebook_entropy": 1.0}, (1.0,)),
        (
            dict.fromkeys(["reconstruction", "commitment", "sample_entropy", "codebook_entropy", "adversarial_0"], 1.0),
            (),
        ),
    ],
)
def test_losses_and_weights_that_do_not_match_are_refused(losses: dict[str, float], factors: tuple[float, ...]) -> None:
    given: dict[str, Any] = {name: torch.tensor(value) for name, value in losses.items()}

    with pytest.raises(ValueError, match="do not match the weights"):
        weighted_sum(given, WEIGHTS, adversarial_factors=factors)


def test_the_total_is_the_weighted_sum() -> None:
    names = ["reconstruction", "commitment", "sample_entropy", "codebook_entropy", "perceptual"]
    losses = {name: torch.rand(()) for name in [*names, "adversarial_0", "adversarial_1"]}

    total = weighted_sum(losses, WEIGHTS, adversarial_factors=(2.0, 3.0))

    expected = sum(getattr(WEIGHTS, name) * losses[name] for name in names)
    expected += 0.7 * (2.0 * losses["adversarial_0"] + 3.0 * losses["adversarial_1"])
    torch.testing.assert_close(total, expected)


def two_steps(joined: Tensor, rank: int = 0, world_size: int = 1) -> list[dict[str, Tensor]]:
    """Every loss and every gradient of two adversarial steps, of one process that holds its share of the batch."""
    objective, discriminators = objectives()
    modules: list[Any] = [objective, discriminators]
    if world_size > 1:
        modules = [DistributedDataParallel(module) for module in modules]
    optimizers = [torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.01) for m in modules]
    found = []
    for step, batch in enumerate(joined):
        video = batch.chunk(world_size)[rank]
        for module in modules:
            module.zero_grad()
        result = modules[0](video, discriminators, phase=step)
        factors = [config.weight * result.adaptive_weight for config in DISCRIMINATORS]
        weighted_sum(result.losses, WEIGHTS, adversarial_factors=factors).backward()
        theirs = modules[1](video, result.reconstruction, with_r1=step == 1, phase=step)
        torch.stack(list(theirs.values())).sum().backward()
        found.append(
            {f"loss {name}": loss.detach() for name, loss in (result.losses | theirs).items()}
            | {"adaptive weight": result.adaptive_weight}
            | {f"tokenizer {name}": gradient.clone() for name, gradient in gradients(objective).items()}
            | {f"discriminators {name}": gradient.clone() for name, gradient in gradients(discriminators).items()}
            | {f"average {name}": buffer.clone() for name, buffer in discriminators.named_buffers()}
        )
        for optimizer in optimizers:
            optimizer.step()
    return found


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    joined = torch.load(f"{folder}/videos.pt", weights_only=True)
    torch.save(two_steps(joined, rank, world_size=2), f"{folder}/result{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo can abort a process that comes to its end in the usual way


def test_two_processes_have_every_loss_and_gradient_of_the_joined_batch(tmp_path: Path) -> None:
    joined = torch.stack([a_video(4), a_video(4)])
    torch.save(joined, tmp_path / "videos.pt")

    torch.multiprocessing.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined]

    first, second = (torch.load(tmp_path / f"result{rank}.pt", weights_only=True) for rank in range(2))
    for expected, ours, theirs in zip(two_steps(joined), first, second, strict=True):
        assert expected.keys() == ours.keys() == theirs.keys()
        for name, value in expected.items():
            mean = (ours[name] + theirs[name]) / 2 if value.is_floating_point() else ours[name]
            torch.testing.assert_close(mean, value, rtol=1e-9, atol=1e-11, msg=lambda text, n=name: f"{n}: {text}")
            if not name.startswith("loss"):  # a process logs the losses of its own clips
                torch.testing.assert_close(ours[name], theirs[name])

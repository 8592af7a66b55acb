import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective, iterative_decode
from magvit2_pytorch.maskgit.factorization import split_codes
from magvit2_pytorch.maskgit.losses import MaskGitLossWeights, cross_entropies, weighted_sum
from magvit2_pytorch.maskgit.objective import Chance, copied_together

TASKS = ("central_inpainting", "class_generation", "class_frame_prediction")
WEIGHTS = MaskGitLossWeights()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def conditioned(config: MaskGitConfig, build: Callable[[MaskGitConfig], MaskGit]) -> MaskGit:
    """With everything that a transformer can be conditioned on, and a critic."""
    return build(replace(config, tasks=TASKS, dim_context=6, critic=True))


def a_batch(config: MaskGitConfig, size: int = 6) -> dict[str, Tensor]:
    """What an objective takes, of all kinds: a third of the places have condition codes, and every other is right."""
    codes = torch.randint(config.codebook_size, (size, *config.grid))
    chance = torch.rand(codes.shape)
    return {
        "codes": codes,
        "labels": torch.randint(config.num_labels, (size,)),
        "tasks": torch.arange(size) % len(TASKS),
        "condition_codes": torch.where(chance < 1 / 3, codes ^ (chance < 1 / 6), config.mask_id),
        "context": torch.randn(size, 4, 6),
        "context_padding": torch.arange(4) >= torch.arange(size)[:, None] % 5,
    }


class Watched:
    """An objective that remembers what its model was shown, and what it answered."""

    def __init__(self, maskgit: MaskGit, **settings: Any) -> None:
        self.objective = MaskGitObjective(maskgit, **settings).train()
        self.codes: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.given: list[dict[str, Any]] = []
        self.logits: list[tuple[Tensor, ...]] = []
        maskgit.register_forward_hook(self.remember, with_kwargs=True)

    def remember(
        self, _: torch.nn.Module, arguments: tuple[Tensor, Tensor], given: dict[str, Any], logits: tuple[Tensor, ...]
    ) -> None:
        self.codes.append(arguments[0])
        self.labels.append(arguments[1])
        self.given.append(given)
        self.logits.append(logits)


def test_the_model_is_not_shown_what_it_has_to_predict(maskgit: MaskGit, config: MaskGitConfig) -> None:
    watched = Watched(maskgit)
    codes, labels = torch.randint(config.codebook_size, (8, *config.grid)), torch.zeros(8, dtype=torch.long)

    watched.objective(codes, labels, generator())
    is_hidden = watched.codes[0] == config.mask_id
    watched.objective(torch.where(is_hidden, codes ^ 1, codes), labels, generator())

    assert is_hidden.flatten(1).any(dim=1).all()
    assert not is_hidden.all()
    assert torch.equal(watched.codes[0], watched.codes[1])
    assert torch.equal(watched.codes[0][~is_hidden], codes[~is_hidden])


def test_hidden_places_with_a_condition_code_show_it_and_the_three_parts_are_counted_apart(
    conditioned: MaskGit, config: MaskGitConfig
) -> None:
    batch = a_batch(config, 64)
    codes, condition = batch["codes"], batch["condition_codes"]
    watched = Watched(conditioned, label_smoothing=0.1, condition_dropout=0.0)

    losses = watched.objective(generator=generator(), **batch)

    shown = watched.codes[0]
    without = Watched(conditioned)
    without.objective(codes, batch["labels"], generator())
    is_hidden, has_condition = without.codes[0] == config.mask_id, condition != config.mask_id
    assert torch.equal(shown, torch.where(is_hidden, condition, codes))
    entropies = cross_entropies(watched.logits[0], split_codes(codes.flatten(1), config.vocab_sizes), 0.1)
    surprise = entropies.view_as(codes)
    parts = {
        "masked_code": is_hidden & ~has_condition,
        "refined_code": is_hidden & has_condition,
        "reconstructed_code": ~is_hidden,
    }
    for name, places in parts.items():
        torch.testing.assert_close(losses[name], surprise[places].mean())


def test_plain_generation_has_nothing_to_refine(maskgit: MaskGit, config: MaskGitConfig) -> None:
    losses = MaskGitObjective(maskgit)(torch.zeros(2, *config.grid, dtype=torch.long), torch.tensor([0, 1]))

    assert losses["refined_code"] == 0
    assert losses.keys() == {"masked_code", "refined_code", "reconstructed_code", "accuracy"}


def test_an_undecided_model_is_surprised_by_every_bit(config: MaskGitConfig) -> None:
    objective = MaskGitObjective(MaskGit(replace(config, critic=True)))
    for parameter in objective.parameters():
        torch.nn.init.zeros_(parameter)

    losses = objective(torch.zeros(2, *config.grid, dtype=torch.long), torch.tensor([0, 1]), generator())

    torch.testing.assert_close(losses["masked_code"], torch.tensor(math.log(config.codebook_size)))
    torch.testing.assert_close(losses["reconstructed_code"], torch.tensor(math.log(config.codebook_size)))
    torch.testing.assert_close(losses["critic"], torch.tensor(math.log(2)))


def test_a_step_is_a_function_of_its_generator(conditioned: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(conditioned, label_dropout=0.5, condition_dropout=0.5, context_dropout=0.5).train()
    batch = a_batch(config)

    torch.manual_seed(1)
    losses = objective(generator=generator(3), **batch)
    torch.manual_seed(2)
    again = objective(generator=generator(3), **batch)

    assert all(torch.equal(losses[name], again[name]) for name in losses)
    assert not torch.equal(losses["masked_code"], objective(generator=generator(4), **batch)["masked_code"])


def test_each_condition_is_dropped_as_often_as_asked_for_and_only_in_training(
    build: Callable[[MaskGitConfig], MaskGit],
) -> None:
    config = MaskGitConfig(codebook_size=2, grid=(1, 1, 2), num_labels=3, width=12, depth=1, num_heads=2, split=1)
    config = replace(config, tasks=TASKS, dim_context=2)
    rates = {"label_dropout": 0.1, "condition_dropout": 0.2, "context_dropout": 0.3}
    watched = Watched(build(config), **rates)
    batch = {
        "codes": torch.zeros(6000, 1, 1, 2, dtype=torch.long),
        "labels": torch.arange(6000) % 3,
        "tasks": torch.full((6000,), TASKS.index("class_frame_prediction")),
        "condition_codes": torch.ones(6000, 1, 1, 2, dtype=torch.long),
        "context": torch.randn(6000, 2, 2),
        "context_padding": torch.tensor([False, True]).expand(6000, 2),
    }

    watched.objective(generator=generator(), **batch)
    watched.objective.eval()(generator=generator(), **batch)

    (labels, as_given), (given, all_given) = watched.labels, watched.given
    is_dropped = {
        "label_dropout": labels == config.null_label,
        "condition_dropout": given["tasks"] == config.null_task,
        "context_dropout": given["context_padding"].all(dim=1),
    }
    for name, rate in rates.items():
        assert abs(is_dropped[name].float().mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / 6000)
    both = (is_dropped["label_dropout"] & is_dropped["condition_dropout"]).float().mean()
    assert abs(both - 0.02) < 4 * math.sqrt(0.02 * 0.98 / 6000)
    assert torch.equal(labels[~is_dropped["label_dropout"]], batch["labels"][~is_dropped["label_dropout"]])
    assert torch.equal((watched.codes[0] == 1).flatten(1).any(dim=1), ~is_dropped["condition_dropout"])
    assert torch.equal((watched.codes[0] == config.mask_id).flatten(1).any(dim=1), is_dropped["condition_dropout"])
    assert torch.equal(given["context_padding"][~is_dropped["context_dropout"]].any(dim=0), torch.tensor([False, True]))

    assert torch.equal(as_given, batch["labels"])
    assert torch.equal(all_given["tasks"], batch["tasks"])
    assert torch.equal(all_given["context_padding"], batch["context_padding"])


def test_a_task_without_a_label_is_not_told_it_even_where_its_condition_is_dropped(
    conditioned: MaskGit, config: MaskGitConfig
) -> None:
    batch = a_batch(config)

    for condition_dropout in (0.0, 1.0):
        watched = Watched(conditioned, label_dropout=0.0, condition_dropout=condition_dropout)
        watched.objective(generator=generator(), **batch)
        is_told = torch.tensor([False, True, True, False, True, True])
        assert torch.equal(watched.labels[0], torch.where(is_told, batch["labels"], config.null_label))


@pytest.mark.parametrize(
    ("dropout", "null"),
    [("label_dropout", "label.weight"), ("condition_dropout", "task.weight"), ("context_dropout", "context.null")],
)
def test_the_null_branch_is_trained_where_something_is_dropped_and_only_there(
    conditioned: MaskGit, config: MaskGitConfig, dropout: str, null: str
) -> None:
    batch = a_batch(config) | {"tasks": torch.full((6,), 1), "context_padding": torch.zeros(6, 4, dtype=torch.bool)}
    vectors = conditioned.get_parameter(null)

    def change(probability: float) -> tuple[Tensor, Tensor]:
        """Of the null vector and of the others, by one step."""
        rates: dict[str, Any] = {"label_dropout": 0.0, "condition_dropout": 0.0, "context_dropout": 0.0} | {
            dropout: probability
        }
        objective = MaskGitObjective(conditioned, **rates).train()
        optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
        before = vectors.detach().clone()
        optimizer.zero_grad()
        weighted_sum(objective(generator=generator(), **batch), WEIGHTS).backward()
        optimizer.step()
        moved = (vectors.detach() - before).abs()
        return (moved[-1].max(), moved[:-1].max()) if null != "context.null" else (moved.max(), moved.new_tensor(0))

    null_moved, others_moved = change(1.0)
    assert null_moved > 1e-5
    assert others_moved == 0
    null_moved, others_moved = change(0.0)
    assert null_moved == 0
    assert others_moved > 1e-5 or null == "context.null"


def test_every_weight_takes_part_in_every_step(maskgit: MaskGit, conditioned: MaskGit, config: MaskGitConfig) -> None:
    batch = a_batch(config, 2)
    plain = {name: batch[name] for name in ("codes", "labels")}

    for model, given in ((maskgit, plain), (conditioned, plain), (conditioned, batch)):
        objective = MaskGitObjective(model).train()
        objective.zero_grad()
        weighted_sum(objective(generator=generator(), **given), WEIGHTS).backward()
        assert [name for name, weight in objective.named_parameters() if weight.grad is None] == []


def test_the_critic_judges_what_was_drawn_beside_what_was_shown(
    conditioned: MaskGit, config: MaskGitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = a_batch(config, 64)
    judged: list[tuple[Tensor, Tensor, dict[str, Any]]] = []
    verdicts = torch.randn(16, math.prod(config.grid), requires_grad=True)

    def criticize(codes: Tensor, labels: Tensor, **given: Any) -> Tensor:
        judged.append((codes, labels, given))
        return verdicts

    monkeypatch.setattr(conditioned, "criticize", criticize)
    watched = Watched(conditioned, condition_dropout=0.0)
    losses = watched.objective(generator=generator(), **batch)

    (completed, labels, given), codes = judged[0], batch["codes"][::4]
    is_shown = (watched.codes[0][::4] == codes) & (batch["condition_codes"][::4] != codes)
    assert is_shown.any()
    assert torch.equal(completed[is_shown], codes[is_shown])
    assert completed.max() < config.mask_id
    assert torch.equal(labels, watched.labels[0][::4])
    assert given.keys() == watched.given[0].keys()
    assert all(torch.equal(value, watched.given[0][name][::4]) for name, value in given.items())
    is_real = (completed == codes).flatten(1)
    assert is_real.any()
    assert not is_real.all()
    expected = torch.where(is_real, verdicts.sigmoid(), 1 - verdicts.sigmoid()).log().mean()
    torch.testing.assert_close(losses["critic"], -expected)


def test_what_the_critic_judges_is_drawn_from_the_prediction(config: MaskGitConfig) -> None:
    config = replace(config, split=1, critic=True)
    maskgit = MaskGit(config)
    table = maskgit.get_submodule("embeddings.0")
    for parameter in maskgit.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(table.get_parameter("bias")[:2], 30.0)
    torch.nn.init.ones_(maskgit.get_parameter("critic.bias"))
    codes = torch.zeros(500, *config.grid, dtype=torch.long)

    losses = MaskGitObjective(maskgit, schedule=torch.ones_like)(codes, codes[:, 0, 0, 0], generator())

    real, drawn = math.log1p(math.exp(-1)), math.log1p(math.exp(1))  # half of what is drawn is as in the data
    assert abs(losses["critic"] - (real + drawn) / 2) < 4 * (drawn - real) * math.sqrt(0.25 / (codes.numel() / 4))


def test_the_critics_loss_reaches_the_shared_layers(conditioned: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(conditioned).train()

    objective(generator=generator(), **a_batch(config))["critic"].backward()

    assert conditioned.get_parameter("critic.weight").grad is not None
    shared = [weight.grad for name, weight in conditioned.named_parameters() if name.startswith("encoder.")]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in shared)


def test_four_grids_are_learned_by_heart() -> None:
    config = MaskGitConfig(codebook_size=2**9, grid=(2, 3, 3), num_labels=4, width=64, depth=2, num_heads=2)
    maskgit = MaskGit(config)
    objective = MaskGitObjective(maskgit, label_dropout=0.0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    grids, labels = torch.randint(config.codebook_size, (4, *config.grid)), torch.arange(4)

    for step in range(150):
        losses = objective(grids.repeat(2, 1, 1, 1), labels.repeat(2), generator(step))
        optimizer.zero_grad()
        weighted_sum(losses, WEIGHTS).backward()
        optimizer.step()
    maskgit.eval()

    decoded = iterative_decode(
        lambda codes, _: maskgit(codes, labels),
        torch.full_like(grids, config.mask_id),
        mask_id=config.mask_id,
        vocab_sizes=config.vocab_sizes,
        num_steps=4,
        temperature=0.1,
        generators=generator(),
    )
    assert torch.equal(decoded, grids)


def a_step(config: MaskGitConfig, joined: dict[str, Tensor], rank: int = 0, world_size: int = 1) -> dict[str, Tensor]:
    """Every loss and every gradient of one step, of a process that holds its share of the batch."""
    torch.manual_seed(5)
    objective: Any = MaskGitObjective(MaskGit(config).double(), label_dropout=0.5, condition_dropout=0.5)
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    module = DistributedDataParallel(objective) if world_size > 1 else objective
    losses = module(generator=generator(3), **{name: value.chunk(world_size)[rank] for name, value in joined.items()})
    weighted_sum(losses, WEIGHTS).backward()
    gradients = {f"gradient {name}": weight.grad for name, weight in objective.named_parameters()}
    return {name: loss.detach() for name, loss in losses.items()} | gradients


def one_of_two(rank: int, folder: str, config: MaskGitConfig) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    joined = torch.load(f"{folder}/batch.pt", weights_only=True)
    torch.save(a_step(config, joined, rank, world_size=2), f"{folder}/result{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo can abort a process that comes to its end in the usual way


def test_two_processes_have_every_loss_and_gradient_of_the_joined_batch(tmp_path: Path, config: MaskGitConfig) -> None:
    config = replace(config, tasks=TASKS, dim_context=6, critic=True, depth=1)
    joined = a_batch(config, 4)
    joined["condition_codes"][2:] = config.mask_id  # all that there is to refine, and to judge, is in one process
    joined["context"] = joined["context"].double()
    torch.save(joined, tmp_path / "batch.pt")

    torch.multiprocessing.spawn(one_of_two, args=(str(tmp_path), config), nprocs=2)  # type: ignore[attr-defined]

    ours, theirs = (torch.load(tmp_path / f"result{rank}.pt", weights_only=True) for rank in range(2))
    expected = a_step(config, joined)
    assert expected.keys() == ours.keys() == theirs.keys()
    assert theirs["refined_code"] == theirs["critic"] == 0
    for name, value in expected.items():
        mean = (ours[name] + theirs[name]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


def test_what_cannot_be_trained_on_is_refused(conditioned: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(conditioned).train()
    batch = a_batch(config, 2)

    for changed, message in (
        ({"codes": torch.full_like(batch["codes"], 128)}, r"codes must be in \[0, 127\], got values from 128 to 128"),
        ({"labels": torch.tensor([1, 4])}, r"labels must be in \[0, 3\], got values from 1 to 4"),
        ({"tasks": torch.tensor([1, 4])}, r"tasks must be in \[0, 3\], got values from 1 to 4"),
        ({"condition_codes": batch["codes"] - 128}, r"condition_codes must be in \[0, 128\], got"),
    ):
        with pytest.raises(ValueError, match=message):
            objective(**batch | changed)


@pytest.mark.usefixtures("as_users_call")
def test_codes_of_wrong_type_or_shape_are_refused(maskgit: MaskGit, config: MaskGitConfig) -> None:
    objective, codes, labels = MaskGitObjective(maskgit), torch.zeros(2, *config.grid).long(), torch.tensor([0, 1])

    with pytest.raises(ValueError, match="codes must be integers"):
        objective(codes.float(), labels)
    with pytest.raises(ValueError, match=r"condition_codes must have the shape of codes, \(2, 3, 2, 4\), got"):
        objective(codes, labels, condition_codes=codes[:, :1])


@pytest.mark.parametrize("setting", ["label_smoothing", "label_dropout", "condition_dropout", "context_dropout"])
def test_a_share_outside_zero_and_one_is_refused(maskgit: MaskGit, setting: str) -> None:
    for value in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"{setting} must be in \[0, 1\], got {value}"):
            MaskGitObjective(maskgit, **dict[str, Any]({setting: value}))


def test_a_training_pass_reads_nothing_from_the_device(conditioned: MaskGit, config: MaskGitConfig) -> None:
    """The meta device has no values, so that reading one is an error."""
    objective = MaskGitObjective(conditioned).train().to("meta")
    batch = {name: value.to("meta") for name, value in a_batch(config).items()}

    losses = objective(generator=generator(), **batch)
    weighted_sum(losses, WEIGHTS).backward()

    assert all(loss.is_meta for loss in losses.values())


def test_random_numbers_are_copied_to_the_device_together() -> None:
    parts = [torch.rand(3, 5) < 0.5, torch.rand(3, 1) < 0.5, torch.randint(2**31, (3, 8))]

    assert all(torch.equal(*pair) for pair in zip(copied_together(parts, torch.device("cpu")), parts, strict=True))
    with profile() as steps:
        copied_together(parts, torch.device("meta"))
    assert [step.name for step in steps.events() or ()].count("aten::to") <= 1 + len(parts)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 9])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_one_of_four_rows_of_the_global_batch_is_judged(batch_size: int, rank: int) -> None:
    chance = Chance(batch_size, None)
    chance.rows = slice(rank * batch_size, (rank + 1) * batch_size)

    rows, is_counted = chance.one_in(4)

    wanted = [row for row in range(batch_size) if (rank * batch_size + row) % 4 == 0]
    assert torch.arange(batch_size)[rows].tolist() == (wanted or [0])
    assert is_counted == bool(wanted)


def test_weights_that_are_not_finite_give_losses_that_are_not(conditioned: MaskGit, config: MaskGitConfig) -> None:
    with torch.no_grad():
        conditioned.mask_vector.fill_(math.nan)

    losses = MaskGitObjective(conditioned).train()(generator=generator(), **a_batch(config))

    assert losses["masked_code"].isnan()


def test_losses_need_no_float64(conditioned: MaskGit, config: MaskGitConfig) -> None:
    """Apple's GPUs do not have it."""
    seen = set()

    class Types(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            seen.update(value.dtype for value in tree_leaves(result) if isinstance(value, Tensor))
            return result

    with Types():
        MaskGitObjective(conditioned).train()(generator=generator(), **a_batch(config))

    assert torch.float32 in seen
    assert torch.float64 not in seen

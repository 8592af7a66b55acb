import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig

CHANNELS = 6


@pytest.fixture
def codes(config: MaskGitConfig) -> Tensor:
    return torch.randint(config.codebook_size + 1, (3, *config.grid))


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2])


def test_each_embedding_matters_and_their_order_does_not(conditioned: MaskGit, codes: Tensor, labels: Tensor) -> None:
    context = torch.randn(3, 4, CHANNELS)
    before = conditioned(codes, labels, context=context)[0]

    for place in range(4):
        changed = context.clone()
        changed[:, place] = torch.randn(3, CHANNELS)
        assert (conditioned(codes, labels, context=changed)[0] - before).abs().amax(dim=-1).min() > 1e-3
    torch.testing.assert_close(conditioned(codes, labels, context=context.flip(1))[0], before)


def test_padding_does_not_matter_whatever_it_holds(conditioned: MaskGit, codes: Tensor, labels: Tensor) -> None:
    context = torch.randn(3, 5, CHANNELS)
    is_padding = torch.arange(5) >= torch.tensor([[5], [2], [3]])
    rubbish = context.masked_fill(is_padding[..., None], float("nan"))

    together = conditioned(codes, labels, context=rubbish, context_padding=is_padding)

    for row, length in enumerate((5, 2, 3)):
        alone = conditioned(codes[[row]], labels[[row]], context=context[[row], :length])
        for group, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(group[[row]], expected)


@pytest.mark.parametrize("num_embeddings", [0, 3])
def test_a_row_of_padding_is_a_row_without_context(
    conditioned: MaskGit, codes: Tensor, labels: Tensor, num_embeddings: int
) -> None:
    context = torch.randn(3, num_embeddings, CHANNELS)
    nothing = torch.ones(3, num_embeddings, dtype=torch.bool)

    torch.testing.assert_close(
        conditioned(codes, labels, context=context, context_padding=nothing)[0], conditioned(codes, labels)[0]
    )


def test_the_null_context_is_seen_where_there_is_no_other_and_only_there(
    conditioned: MaskGit, codes: Tensor, labels: Tensor
) -> None:
    assert conditioned.context is not None
    is_padding = torch.tensor([[False, False], [True, True], [False, True]])
    context = torch.randn(3, 2, CHANNELS)
    before = conditioned(codes, labels, context=context, context_padding=is_padding)[0]

    torch.nn.init.normal_(conditioned.context.null)
    after = conditioned(codes, labels, context=context, context_padding=is_padding)[0]

    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] - before[1]).abs().amax(dim=-1).min() > 1e-3


@pytest.mark.parametrize("given", [False, True])
def test_every_weight_is_in_use_with_and_without_context(
    conditioned: MaskGit, codes: Tensor, labels: Tensor, given: bool
) -> None:
    context = torch.randn(3, 2, CHANNELS) if given else None
    tasks = torch.tensor([0, 1, 2])

    logits = conditioned.train()(codes, labels, tasks=tasks, context=context)
    verdict = conditioned.criticize(codes, labels, tasks=tasks, context=context)
    (torch.cat(logits, dim=-1).square().mean() + verdict.square().mean()).backward()

    assert all(parameter.grad is not None for parameter in conditioned.parameters())


def test_every_condition_and_its_null_are_learned_from_the_start(config: MaskGitConfig, conditioned: MaskGit) -> None:
    """Of a fresh model, whose layers do nothing before the first step: after two steps all vectors have moved."""
    fresh = MaskGit(conditioned.config).train()
    labels, tasks = torch.arange(12) % 4, torch.arange(12) % 3
    codes = torch.randint(config.codebook_size + 1, (12, *config.grid))
    is_padding = (torch.arange(12) % 2 == 0)[:, None].expand(12, 2)
    assert fresh.task is not None
    assert fresh.context is not None
    vectors = {
        "label": fresh.label.weight,
        "task": fresh.task.weight,
        "null context": fresh.context.null[None],
        "registers": fresh.registers,
    }
    before = {name: weight.detach().clone() for name, weight in vectors.items() if weight is not None}
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1)

    for _ in range(2):
        context = torch.randn(12, 2, CHANNELS)
        logits = fresh(codes, labels, tasks=tasks, context=context, context_padding=is_padding)
        optimizer.zero_grad()
        logits[0].log_softmax(dim=-1)[..., 0].mean().backward()
        optimizer.step()

    moved = {name: (vectors[name] - old).abs().amax(dim=-1) for name, old in before.items()}
    assert moved.keys() == vectors.keys()
    assert {name: bool((by > 0).all()) for name, by in moved.items()} == dict.fromkeys(vectors, True)


def test_embeddings_of_any_size_are_taken(conditioned: MaskGit, codes: Tensor, labels: Tensor) -> None:
    context = torch.randn(3, 2, CHANNELS)

    small, large = (conditioned(codes, labels, context=context * scale)[0] for scale in (1, 1000))

    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-3)


def test_a_model_in_half_precision_takes_embeddings_in_single(
    conditioned: MaskGit, codes: Tensor, labels: Tensor
) -> None:
    assert conditioned.bfloat16()(codes, labels, context=torch.randn(3, 2, CHANNELS))[0].dtype == torch.bfloat16


@pytest.mark.usefixtures("as_users_call")
def test_a_context_that_does_not_fit_is_refused(
    maskgit: MaskGit, conditioned: MaskGit, codes: Tensor, labels: Tensor
) -> None:
    context, is_padding = torch.randn(3, 2, CHANNELS), torch.zeros(3, 2, dtype=torch.bool)

    with pytest.raises(ValueError, match="takes no context"):
        maskgit(codes, labels, context=context)
    with pytest.raises(ValueError, match=r"context must have shape \(b, m, 6\), .* 3 grids, got \(3, 2, 5\)"):
        conditioned(codes, labels, context=context[..., :5])
    with pytest.raises(ValueError, match=r"context must have .* got \(2, 2, 6\)"):
        conditioned(codes, labels, context=context[:2])
    with pytest.raises(ValueError, match=r"context_padding must have .*\(3, 2\), got \(3, 3\)"):
        conditioned(codes, labels, context=context, context_padding=torch.zeros(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="context_padding requires context"):
        conditioned(codes, labels, context_padding=is_padding)

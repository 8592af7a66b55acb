import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig

Build = Callable[[MaskGitConfig], MaskGit]


def random_codes(config: MaskGitConfig, batch_size: int = 2, grid: tuple[int, int, int] | None = None) -> Tensor:
    return torch.randint(config.codebook_size, (batch_size, *(grid or config.grid)))


def test_a_hidden_place_is_predicted_from_every_visible_one(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes = random_codes(config, 1)
    codes[0, 1, 1, 1] = config.mask_id
    labels = torch.tensor([0])
    hidden = codes.flatten().eq(config.mask_id).nonzero().item()
    before = maskgit(codes, labels)

    for place in range(codes.numel()):
        if place == hidden:
            continue
        changed = codes.clone()
        changed.view(-1)[place] ^= config.codebook_size - 1
        after = maskgit(changed, labels)

        assert all(not torch.allclose(a[0, hidden], b[0, hidden]) for a, b in zip(before, after, strict=True))


def test_each_bit_of_a_visible_code_matters(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes = random_codes(config, 1)
    codes[0, -1, -1, -1] = config.mask_id
    labels = torch.tensor([0])

    for bit in range(len(config.digits)):
        changed = codes.clone()
        changed[0, 0, 0, 0] ^= 2**bit

        assert not torch.allclose(maskgit(codes, labels)[0][0, -1], maskgit(changed, labels)[0][0, -1])


def test_what_is_learned_of_a_code_carries_over_to_codes_that_share_its_bits(config: MaskGitConfig) -> None:
    fresh = MaskGit(config)
    codes, labels = torch.full((1, *config.grid), config.mask_id), torch.tensor([0])
    before = fresh(codes, labels)[0][0].mean(dim=0)

    (-before[0b0110]).backward()
    torch.optim.SGD(fresh.embeddings[0].parameters(), lr=0.01).step()
    change = fresh(codes, labels)[0][0].mean(dim=0) - before

    assert change.argmax() == 0b0110
    assert change[0b0111] > 0 > change[0b1001]


def test_the_label_matters_and_so_does_having_none(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes = torch.full((config.num_labels + 1, *config.grid), config.mask_id)

    logits = maskgit(codes, torch.arange(config.num_labels + 1))[0].flatten(1)

    assert torch.cdist(logits, logits).fill_diagonal_(1).min() > 0.1


def test_the_places_of_a_wholly_hidden_grid_are_told_apart(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes = torch.full((1, *config.grid), config.mask_id)

    logits = maskgit(codes, torch.tensor([1]))[0][0]

    assert torch.cdist(logits, logits).fill_diagonal_(1).min() > 0.01


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_where_a_code_lies_matters_along_each_axis(maskgit: MaskGit, config: MaskGitConfig, axis: int) -> None:
    codes, labels = torch.full((1, 3, 3, 3), config.mask_id), torch.tensor([0])
    codes[0, 1, 1, 1] = 5

    logits = maskgit(codes, labels)[0].reshape(3, 3, 3, -1)
    moved = maskgit(codes.roll(1, dims=axis), labels)[0].reshape(3, 3, 3, -1)

    assert not torch.allclose(logits[0, 0, 0], moved[0, 0, 0])


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 2, 4), (5, 4, 4), (2, 7, 3)])
def test_any_grid_runs(maskgit: MaskGit, config: MaskGitConfig, grid: tuple[int, int, int]) -> None:
    logits = maskgit(random_codes(config, 2, grid), torch.tensor([0, 1]))

    assert [group.shape for group in logits] == [(2, math.prod(grid), size) for size in config.vocab_sizes]
    assert all(group.isfinite().all() for group in logits)


def test_a_batch_of_two_is_two_batches_of_one(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes, labels = random_codes(config), torch.tensor([0, config.null_label])
    codes[:, 1:] = config.mask_id

    together = maskgit(codes, labels)

    for sample in range(2):
        alone = maskgit(codes[sample : sample + 1], labels[sample : sample + 1])
        for group, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(group[0], expected[sample])


def test_a_fresh_model_is_nearly_undecided(config: MaskGitConfig) -> None:
    fresh = [MaskGit(replace(config, width=256, num_heads=8)) for _ in range(8)]
    codes, labels = torch.full((1, *config.grid), config.mask_id), torch.tensor([0])

    for group, size in enumerate(config.vocab_sizes):
        logits = torch.stack([model(codes, labels)[group] for model in fresh])
        assert torch.distributions.Categorical(logits=logits).entropy().mean() > 0.85 * math.log(size)


def test_a_head_and_its_embedding_are_one(maskgit: MaskGit, config: MaskGitConfig, tmp_path: Path) -> None:
    maskgit.save_pretrained(tmp_path)
    loaded = MaskGit.from_pretrained(tmp_path)
    labels = torch.tensor([0])
    hidden = torch.full((1, *config.grid), config.mask_id)
    visible = hidden.clone()
    visible[0, 0, 0, 0] = 0

    for model in (maskgit, loaded):
        tables = [name for name, weight in model.state_dict().items() if weight.shape == (2**4, config.width)]
        assert tables == ["embeddings.0.own"]

        head, seen = model(hidden, labels)[0], model(visible, labels)[1]
        with torch.no_grad():
            model.get_parameter(tables[0])[0] += torch.randn(config.width)
        assert not torch.allclose(model(hidden, labels)[0][..., 0], head[..., 0])
        assert torch.equal(model(hidden, labels)[0][..., 1:], head[..., 1:])
        assert not torch.allclose(model(visible, labels)[1], seen)


def test_a_saved_model_comes_back_bit_for_bit(maskgit: MaskGit, config: MaskGitConfig, tmp_path: Path) -> None:
    maskgit.save_pretrained(tmp_path)
    loaded = MaskGit.from_pretrained(tmp_path)
    codes, labels = random_codes(config), torch.tensor([0, 2])

    assert loaded.config == config
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded(codes, labels), maskgit(codes, labels), strict=True))


def test_a_model_in_half_precision_differs_by_rounding(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes, labels = random_codes(config), torch.tensor([0, 1])

    exact = maskgit(codes, labels)
    rounded = maskgit.bfloat16()(codes, labels)

    for group, expected in zip(rounded, exact, strict=True):
        assert group.dtype == torch.bfloat16
        assert (group - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_a_large_model_runs_on_the_meta_device() -> None:
    config = MaskGitConfig(codebook_size=2**18, grid=(5, 16, 16), num_labels=101, width=1024, depth=24, num_heads=16)
    with torch.device("meta"):
        model = MaskGit(config).eval()
        logits = model(torch.zeros(1, *config.grid, dtype=torch.long), torch.zeros(1, dtype=torch.long))

    assert [group.shape for group in logits] == [(1, 1280, 512)] * 2
    assert model.num_parameters > 300e6


@pytest.mark.usefixtures("as_users_call")
def test_an_exported_model_takes_any_batch_size(conditioned: MaskGit, config: MaskGitConfig) -> None:
    def inputs(batch_size: int) -> dict[str, Tensor]:
        codes = torch.randint(config.codebook_size, (batch_size, *config.grid))
        return {"codes": codes, "labels": torch.zeros(batch_size).long(), "context": torch.randn(batch_size, 3, 6)}

    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(conditioned, (), inputs(3), dynamic_shapes=dict.fromkeys(inputs(3), batch))

    given = inputs(7)
    for found, expected in zip(exported.module()(**given), conditioned(**given), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("code", [-1, 2**7 + 1])
def test_codes_out_of_range_are_refused(maskgit: MaskGit, config: MaskGitConfig, code: int) -> None:
    codes = random_codes(config)
    codes[1, 0, 0, 0] = code

    with pytest.raises(ValueError, match=rf"codes must be in \[0, 128\], got values from .*{code}"):
        maskgit(codes, torch.tensor([0, 0]))


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range_are_refused(maskgit: MaskGit, config: MaskGitConfig, label: int) -> None:
    with pytest.raises(ValueError, match=rf"labels must be in \[0, 3\], got values from .*{label}"):
        maskgit(random_codes(config), torch.tensor([0, label]))


@pytest.mark.usefixtures("as_users_call")
def test_what_are_no_codes_is_refused(maskgit: MaskGit, config: MaskGitConfig) -> None:
    codes, labels = random_codes(config), torch.tensor([0, 0])

    with pytest.raises(ValueError, match=r"codes must be integers, got torch\.float32"):
        maskgit(codes.float(), labels)
    for model in (maskgit, maskgit.train()):  # in training values are not read, but types are checked
        with pytest.raises(ValueError, match=r"codes must be integers, got torch\.bool"):
            model(codes > 0, labels)
        with pytest.raises(ValueError, match=r"labels must be integers, got torch\.float32"):
            model(codes, labels.float())
    with pytest.raises(ValueError, match=r"one label for each grid, got .* labels of shape \(1,\)"):
        maskgit(codes, labels[:1])
    with pytest.raises(ValueError, match=r"codes must have shape \(b, t, h, w\)"):
        maskgit(codes.flatten(1), labels)


@pytest.mark.parametrize("split", [(5, 2), (1, 6), (2, 4, 1), 1])
def test_uneven_sub_codes_are_seen_and_predicted(
    config: MaskGitConfig, tmp_path: Path, split: int | tuple[int, ...]
) -> None:
    model = MaskGit(replace(config, split=split)).eval()
    codes, labels = random_codes(config), torch.tensor([0, 1])
    logits = model(codes, labels)

    model.save_pretrained(tmp_path)
    loaded = MaskGit.from_pretrained(tmp_path)

    assert [group.shape[-1] for group in logits] == list(model.config.vocab_sizes)
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(loaded(codes, labels), logits, strict=True))


def test_codes_of_levels_that_are_no_powers_of_two_are_seen_and_predicted(
    config: MaskGitConfig, tmp_path: Path
) -> None:
    model = MaskGit(replace(config, codebook_size=7 * 5 * 3, levels=(7, 5, 3), split=2)).eval()
    codes, labels = torch.randint(7 * 5 * 3, (2, *config.grid)), torch.tensor([0, 1])

    logits = model(codes, labels)
    model.save_pretrained(tmp_path)

    assert [group.shape[-1] for group in logits] == [3 * 5, 7]
    assert MaskGit.load_config(tmp_path) == model.config
    for other in ((codes + 1) % 105, (codes + 7) % 105):  # another lowest digit; another higher one
        assert not torch.allclose(model(other, labels)[0], logits[0])


def test_nothing_comes_out_of_registers_and_every_place_reads_them(config: MaskGitConfig, build: Build) -> None:
    model = build(replace(config, num_registers=3, critic=True))
    codes, labels = random_codes(config), torch.tensor([0, 1])
    before = model(codes, labels)[0]

    assert before.shape[1] == model.criticize(codes, labels).shape[1] == math.prod(config.grid)

    assert model.registers is not None
    torch.nn.init.normal_(model.registers[-1])
    assert (model(codes, labels)[0] - before).abs().amax(dim=-1).min() > 1e-3


def test_logits_stand_at_the_place_that_they_are_for(config: MaskGitConfig) -> None:
    fresh = MaskGit(config).eval()  # its layers do nothing yet, so no place sees another
    codes, labels = random_codes(config, 1), torch.tensor([0])
    changed = codes.clone()
    changed[0, 1, 0, 2] ^= config.codebook_size - 1

    differs = (fresh(codes, labels)[0] != fresh(changed, labels)[0]).any(dim=-1).reshape(config.grid)

    assert differs.nonzero().tolist() == [[1, 0, 2]]


def test_dropout_is_for_training_alone(config: MaskGitConfig, build: Build) -> None:
    model = build(replace(config, dropout=0.5))
    codes, labels = random_codes(config), torch.tensor([0, 1])

    assert torch.equal(model(codes, labels)[0], model(codes, labels)[0])
    model.train()
    assert not torch.allclose(model(codes, labels)[0], model(codes, labels)[0])


def test_a_clip_of_one_frame_and_a_longer_one_mean_the_same_by_their_places(
    maskgit: MaskGit, config: MaskGitConfig
) -> None:
    """The first places of a larger grid are embedded as those of a smaller one, whatever lies beyond."""
    seen: list[Tensor] = []
    maskgit.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    codes, labels = random_codes(config, 1, (2, 3, 5)), torch.tensor([0])

    maskgit(codes, labels)
    maskgit(codes[:, :1, :2, :4], labels)

    large, small = (x[0, config.num_registers :] for x in seen)
    torch.testing.assert_close(large.reshape(2, 3, 5, -1)[:1, :2, :4], small.reshape(1, 2, 4, -1))


def test_tasks_are_told_apart_from_each_other_and_from_none(conditioned: MaskGit, config: MaskGitConfig) -> None:
    codes, labels = random_codes(config, 1).expand(3, -1, -1, -1), torch.zeros(3, dtype=torch.long)
    tasks = torch.arange(conditioned.config.null_task + 1)

    logits = conditioned(codes, labels, tasks=tasks)[0]

    assert torch.cdist(logits.flatten(1), logits.flatten(1)).fill_diagonal_(1).min() > 0.1
    torch.testing.assert_close(conditioned(codes[:1], labels[:1])[0], logits[-1:])


def test_the_critic_judges_each_code_by_the_others_and_by_what_is_asked_for(
    conditioned: MaskGit, config: MaskGitConfig
) -> None:
    codes, labels, tasks = random_codes(config, 1), torch.tensor([0]), torch.tensor([0])
    context = torch.randn(1, 2, 6)
    before = conditioned.criticize(codes, labels, tasks=tasks, context=context)
    changed = codes.clone()
    changed[0, -1, -1, -1] ^= 1

    assert before.shape == (1, math.prod(config.grid))
    for after in (
        conditioned.criticize(changed, labels, tasks=tasks, context=context),
        conditioned.criticize(codes, labels + 1, tasks=tasks, context=context),
        conditioned.criticize(codes, labels, tasks=tasks + 1, context=context),
        conditioned.criticize(codes, labels, tasks=tasks, context=context + 1 / torch.arange(1, 7)),
    ):
        assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("task", [-1, 3])
def test_tasks_out_of_range_are_refused(conditioned: MaskGit, config: MaskGitConfig, task: int) -> None:
    with pytest.raises(ValueError, match=rf"tasks must be in \[0, 2\], got values from .*{task}"):
        conditioned(random_codes(config), torch.tensor([0, 0]), tasks=torch.tensor([1, task]))


@pytest.mark.usefixtures("as_users_call")
def test_what_a_model_was_not_made_for_is_refused(
    maskgit: MaskGit, conditioned: MaskGit, config: MaskGitConfig
) -> None:
    codes, labels = random_codes(config), torch.tensor([0, 0])

    with pytest.raises(ValueError, match=r"tasks must be in \[0, 0\]"):
        maskgit(codes, labels, tasks=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="one task for each grid"):
        conditioned(codes, labels, tasks=torch.tensor([0]))
    with pytest.raises(ValueError, match="no critic"):
        maskgit.criticize(codes, labels)

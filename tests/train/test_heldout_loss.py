import math
from collections.abc import Sequence

import pytest
import torch
from accelerate import Accelerator

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig
from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train.codes import Encoder
from magvit2_pytorch.train.data import load_data
from magvit2_pytorch.train.heldout_loss import HeldoutLoss, heldout_masks, joined, overfitting_message
from magvit2_pytorch.train.metrics_file import Record
from magvit2_pytorch.train.task_mix import WeightedTask, conditions_of
from magvit2_pytorch.train.tokenizer import TokenizerRun

MIX = (WeightedTask(name="frame_prediction"), WeightedTask(name="class_frame_prediction"))


def measured(run: TokenizerRun, mix: Sequence[WeightedTask], batch_size: int = 3) -> tuple[HeldoutLoss, MaskGit]:
    """The held-out loss of a run, and a transformer for its codes."""
    data = load_data(run.data, progress=False)
    tokenizer = VideoTokenizer.from_config(run.model).eval()
    config = MaskGitConfig(
        codebook_size=2**6,
        grid=tokenizer.code_shape(5, 16, 16),
        num_labels=2,
        tasks=tuple(task.name for task in mix),
        width=32,
        depth=1,
        num_heads=2,
    )
    encoder = Encoder(tokenizer, data, conditions_of(mix), "no")
    clips = data.train.every_window().spread(7)
    loss = HeldoutLoss(Accelerator(cpu=True), clips, encoder, mask_id=config.mask_id, mix=mix, batch_size=batch_size)
    return loss, MaskGit(config).eval()


@pytest.mark.parametrize("mix", [(), MIX])
def test_a_transformer_that_knows_nothing_has_the_entropy_of_the_codebook(
    tokenizer_run: TokenizerRun, mix: Sequence[WeightedTask]
) -> None:
    loss, maskgit = measured(tokenizer_run, mix)
    for parameter in maskgit.parameters():
        torch.nn.init.zeros_(parameter)

    scores = joined([loss.part(maskgit)])

    assert scores.keys() == {"masked_code", "accuracy", *(["refined_code"] if mix else [])}
    for name in scores.keys() - {"accuracy"}:
        assert scores[name] == pytest.approx(math.log(2**6), rel=1e-5)


@pytest.mark.parametrize("mix", [(), MIX])
def test_the_loss_is_a_function_of_the_weights_alone(tokenizer_run: TokenizerRun, mix: Sequence[WeightedTask]) -> None:
    torch.manual_seed(1)
    loss, maskgit = measured(tokenizer_run, mix)
    state = torch.get_rng_state()

    first = joined([loss.part(maskgit)])

    assert torch.equal(torch.get_rng_state(), state)
    assert joined([loss.part(maskgit)]) == first
    torch.manual_seed(1)
    other, same = measured(tokenizer_run, mix, batch_size=7)
    assert joined([other.part(same)]) == pytest.approx(first, rel=1e-5)
    with torch.no_grad():
        for parameter in same.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert joined([other.part(same)])["masked_code"] != pytest.approx(first["masked_code"], rel=1e-3)


def test_every_clip_is_hidden_at_ratios_spread_over_the_schedule() -> None:
    masks = heldout_masks(range(3), 1000)

    assert torch.equal(heldout_masks(range(2, 3), 1000)[:, 0], masks[:, 2])
    assert not torch.equal(masks[:, 0], masks[:, 1])
    expected = [math.cos((number + 0.5) / 4 * math.pi / 2) for number in range(4)]
    for hidden, ratio in zip(masks, expected, strict=True):
        assert hidden.sum(dim=1).tolist() == [math.ceil(1000 * ratio)] * 3


def records(heldout: Sequence[float], training: Sequence[float]) -> list[Record]:
    """Two lines of training losses before each evaluation."""
    lines: list[Record] = []
    for index, (after, loss) in enumerate(zip(heldout, training, strict=True)):
        for shift in (-0.25, 0.25):
            lines.append({"step": 10 * index + 1, "train/masked_code": loss + shift})
        lines.append({"step": 10 * index + 2, "heldout/masked_code": after, "heldout/accuracy": 0.5})
    return lines


def test_a_held_out_loss_that_rises_three_times_while_the_training_loss_falls_is_overfitting() -> None:
    message = overfitting_message(records([4, 3, 3.1, 3.2, 3.3], [4, 3, 2.75, 2.875, 2.5]), "train")

    assert message is not None
    assert "has risen in 3 evaluations in a row, from 3.000 to 3.300, " in message
    assert "while the training loss fell from 3.000 to 2.500" in message


@pytest.mark.parametrize(
    ("heldout", "training"),
    [
        ([3, 3.1, 3.2], [4, 3, 2]),  # only two rises
        ([3, 3.1, 3.05, 3.2], [4, 3, 2, 1]),  # not in a row
        ([3, 3.1, 3.2, 3.2], [4, 3, 2, 1]),
        ([3, 3.1, 3.2, 3.3], [4, 3, 2, 4]),  # the training loss has not fallen
        ([3, 3.1, 3.2, 3.3, 3.0], [5, 4, 3, 2, 1]),  # it has fallen since
        ([], []),
    ],
)
def test_other_curves_are_not_overfitting(heldout: Sequence[float], training: Sequence[float]) -> None:
    assert overfitting_message(records(heldout, training), "train") is None


def test_losses_that_are_not_numbers_are_left_out() -> None:
    lines = records([3, 3.1, 3.2, 3.3], [4, 3, 2, 1])
    lines[0]["train/masked_code"] = None

    assert overfitting_message(lines, "train") is not None
    assert overfitting_message([line for line in lines if "heldout/masked_code" in line], "train") is None

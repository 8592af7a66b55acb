import torch
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.maskgit.sub_code_heads import Logits, PredictedLogits, logits_given
from magvit2_pytorch.pipelines.fill.prediction import Conditions, guided_prediction


def for_the_same_code(logits: Logits) -> list[Tensor]:
    """The logits of each sub-code if the earlier ones are 0."""
    zeros = torch.zeros(logits[0].shape[:2], dtype=torch.long)  # type: ignore[union-attr]
    return [logits_given(group, [zeros] * index) for index, group in enumerate(logits)]


def test_guidance_takes_one_forward_pass(versatile: VideoGenerationPipeline) -> None:
    asked: list[dict[str, Tensor]] = []
    forward = versatile.maskgit.forward

    def remembering(codes: Tensor, labels: Tensor, **told: Tensor) -> PredictedLogits:
        asked.append({"codes": codes, "labels": labels, **told})
        return forward(codes, labels, **told)

    versatile.maskgit.forward = remembering  # type: ignore[method-assign]
    codes, context = torch.randint(129, (2, 3, 4, 4)), torch.randn(2, 5, 6)
    conditions = Conditions(torch.tensor([1, 2]), torch.tensor([0, 3]), context)

    predict = guided_prediction(versatile.maskgit, conditions, lambda progress: 3.0)
    predict(codes, 0.5)

    (told,) = asked
    assert torch.equal(told["codes"], torch.cat([codes, codes]))
    assert told["labels"].tolist() == [1, 2, 3, 3]  # 3 is the null label
    assert told["tasks"].tolist() == [0, 3, 0, 3]
    assert torch.equal(told["context"], torch.cat([context, context]))
    assert told["context_padding"].all(dim=1).tolist() == [False, False, True, True]
    assert not told["context_padding"][:2].any()


def test_guidance_extrapolates_the_predictions(versatile: VideoGenerationPipeline) -> None:
    codes, tasks = torch.randint(129, (2, 3, 4, 4)), torch.tensor([0, 3])
    labels, context = torch.tensor([1, 2]), torch.randn(2, 5, 6)
    with torch.no_grad():
        conditional = for_the_same_code(versatile.maskgit(codes, labels, tasks=tasks, context=context))
        unconditional = for_the_same_code(versatile.maskgit(codes, torch.full_like(labels, 3), tasks=tasks))

        for scale in (0.0, 1.0, 2.5):
            predict = guided_prediction(versatile.maskgit, Conditions(labels, tasks, context), lambda _, s=scale: s)
            guided_logits = for_the_same_code(predict(codes, 0.5))
            for guided, cond, uncond in zip(guided_logits, conditional, unconditional, strict=True):
                torch.testing.assert_close(guided, uncond + scale * (cond - uncond), atol=1e-4, rtol=1e-4)


def test_the_scale_depends_on_progress(versatile: VideoGenerationPipeline) -> None:
    codes, conditions = torch.randint(129, (1, 3, 4, 4)), Conditions(torch.tensor([1]), torch.tensor([3]))

    def at(scale: float) -> list[Tensor]:
        return for_the_same_code(guided_prediction(versatile.maskgit, conditions, lambda _: scale)(codes, 0.25))

    rising = guided_prediction(versatile.maskgit, conditions, lambda progress: 1 + 8 * progress)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(for_the_same_code(rising(codes, 0.25)), at(3.0), strict=True))
        assert not torch.equal(for_the_same_code(rising(codes, 0.5))[0], at(3.0)[0])


def test_without_label_and_context_the_batch_is_not_doubled(versatile: VideoGenerationPipeline) -> None:
    batch_sizes: list[int] = []
    forward = versatile.maskgit.forward

    def remembering(codes: Tensor, labels: Tensor, **told: Tensor) -> PredictedLogits:
        batch_sizes.append(len(codes))
        return forward(codes, labels, **told)

    versatile.maskgit.forward = remembering  # type: ignore[method-assign]
    codes = torch.randint(129, (2, 3, 4, 4))
    for labels, scale in (([3, 3], 5.0), ([1, 2], 1.0), ([1, 3], 5.0)):
        guided_prediction(
            versatile.maskgit, Conditions(torch.tensor(labels), torch.tensor([3, 3])), lambda _, s=scale: s
        )(codes, 0.5)

    assert batch_sizes == [2, 2, 4]


def test_shorter_clips_are_padded_with_hidden_codes(
    versatile: VideoGenerationPipeline,
) -> None:
    mask_id = versatile.maskgit.config.mask_id
    codes, conditions = torch.randint(129, (2, 2, 4, 4)), Conditions(torch.tensor([1, 2]), torch.tensor([0, 3]))
    whole = torch.cat([codes, torch.full((2, 1, 4, 4), mask_id)], dim=1)

    with torch.no_grad():
        shown = guided_prediction(versatile.maskgit, conditions, lambda _: 2.0)(codes, 0.5)
        expected = guided_prediction(versatile.maskgit, conditions, lambda _: 2.0)(whole, 0.5)

    for group, of_whole in zip(*map(for_the_same_code, (shown, expected)), strict=True):
        assert torch.equal(group, of_whole[:, : 2 * 4 * 4])

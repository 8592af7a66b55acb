from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.maskgit import MaskGitConfig
from magvit2_pytorch.tokenizer.pixels import to_unit_range


def test_videos_are_the_decoded_codes(pipeline: VideoGenerationPipeline) -> None:
    output = pipeline.generate(labels=["left", 2], seed=1, progress=False)

    assert output.labels == ("left", "up")
    assert output.videos.shape == (2, 3, 5, 16, 16)
    assert output.codes.shape == (2, 3, 4, 4)
    assert int(output.codes.max()) < pipeline.tokenizer.codebook_size
    assert 0 <= output.videos.min() <= output.videos.max() <= 1
    with torch.no_grad():
        assert torch.equal(output.videos, to_unit_range(pipeline.tokenizer.decode(output.codes)))


def test_results_depend_on_the_seed(pipeline: VideoGenerationPipeline) -> None:
    first, again, other = (pipeline.generate(labels="left", seed=seed, progress=False).codes for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_seed_torch_seeds(pipeline: VideoGenerationPipeline) -> None:
    torch.manual_seed(5)
    first, other = (pipeline.generate(progress=False).codes for _ in range(2))
    torch.manual_seed(5)

    assert torch.equal(pipeline.generate(progress=False).codes, first)
    assert not torch.equal(first, other)


def test_videos_of_a_batch_are_independent(pipeline: VideoGenerationPipeline) -> None:
    both = pipeline.generate(labels=["left", "up"], seed=3, progress=False)

    assert torch.equal(pipeline.generate(labels="left", seed=3, progress=False).codes, both.codes[:1])


def test_one_frame_is_an_image(pipeline: VideoGenerationPipeline) -> None:
    image = pipeline.generate(num_frames=1, seed=0, progress=False)
    video = pipeline.generate(num_frames=4, seed=0, progress=False)

    assert (image.videos.shape, image.codes.shape) == ((1, 3, 1, 16, 16), (1, 1, 4, 4))
    assert (video.videos.shape, video.codes.shape) == ((1, 3, 4, 16, 16), (1, 3, 4, 4))


@pytest.mark.parametrize("num_frames", [6, 7, 8, 9, 14, 21])
def test_any_number_of_frames(pipeline: VideoGenerationPipeline, num_frames: int) -> None:
    output = pipeline.generate(num_frames, ["left", "up"], num_steps=2, seed=1, progress=False)

    assert output.videos.shape == (2, 3, num_frames, 16, 16)
    assert output.codes.shape == (2, *pipeline.tokenizer.code_shape(num_frames, 16, 16))
    assert 0 <= output.videos.min() <= output.videos.max() <= 1


def test_a_longer_video_starts_like_a_shorter_one(pipeline: VideoGenerationPipeline) -> None:
    short, long = (pipeline.generate(number, "up", num_steps=3, seed=2, progress=False) for number in (5, 13))

    assert torch.equal(long.codes[:, :3], short.codes)


def test_without_labels_the_seed_draws_one(pipeline: VideoGenerationPipeline) -> None:
    drawn = {pipeline.generate(num_frames=1, num_steps=1, seed=seed, progress=False).labels for seed in range(20)}

    assert drawn == {("left",), ("right",), ("up",)}


def test_several_videos_per_label(pipeline: VideoGenerationPipeline) -> None:
    output = pipeline.generate(labels=["up", 0], num_videos_per_label=2, num_steps=2, seed=1, progress=False)

    assert output.labels == ("up", "up", "left", "left")
    assert len(output.codes.flatten(1).unique(dim=0)) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.3},
        {"top_k": 1},
        {"top_p": 0.1},
        {"order": "random"},
        {"order": "halton"},
        {"choice_temperature": 0.0},
        {"schedule": "cubic"},
        {"guidance_scale": 4.0},
        {"guidance_scale": 9.0, "guidance_schedule": "linear"},
        {"guidance_scale": 9.0, "guidance_schedule": "cosine"},
        {"num_steps": 5},
    ],
    ids=str,
)
def test_every_decoding_option_has_an_effect(pipeline: VideoGenerationPipeline, change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"labels": 0, "num_steps": 4, "seed": 1, "progress": False}
    constant = {name: value for name, value in change.items() if name != "guidance_schedule"}
    usual = pipeline.generate(**(plain | (constant if "guidance_schedule" in change else {})))

    assert not torch.equal(pipeline.generate(**(plain | change)).codes, usual.codes)


@pytest.mark.parametrize("output_type", ["np", "pil"])
def test_output_types(pipeline: VideoGenerationPipeline, tmp_path: Path, output_type: str) -> None:
    plain = pipeline.generate(labels=[0, 1], num_steps=2, seed=1, progress=False)
    output = pipeline.generate(labels=[0, 1], num_steps=2, seed=1, output_type=output_type, progress=False)

    if output_type == "np":
        assert isinstance(output.videos, np.ndarray)
        assert torch.equal(torch.from_numpy(output.videos).permute(0, 4, 1, 2, 3), plain.videos)
    else:
        assert [[frame.size for frame in video] for video in output.videos] == [[(16, 16)] * 5] * 2
    plain.save(tmp_path / "plain.png")
    output.save(tmp_path / "other.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_the_callback_is_called_for_all_passes_of_all_windows(pipeline: VideoGenerationPipeline) -> None:
    passes: list[tuple[int, torch.Tensor]] = []

    output = pipeline.generate(
        9, 1, num_steps=3, seed=1, callback=lambda step, codes: passes.append((step, codes)), progress=False
    )

    num_hidden = [int((codes == pipeline.maskgit.config.mask_id).sum()) for _, codes in passes]
    assert [step for step, _ in passes] == list(range(9))
    assert num_hidden == sorted(num_hidden, reverse=True)
    assert num_hidden[2::3] == [2 * 16, 16, 0]
    assert torch.equal(passes[-1][1], output.codes)
    for step, codes in passes:
        is_there = codes != pipeline.maskgit.config.mask_id
        assert torch.equal(codes[is_there], output.codes[is_there])
        assert output.record is not None
        assert torch.equal(is_there, output.record.settled_after <= step + 1)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": "down"}, "label 'down'.*left, right, up"),
        ({"labels": 3}, "label.* 3"),
        ({"labels": -1}, "label.* -1"),
        ({"labels": []}, "at least one"),
        ({"num_frames": 0}, "num_frames must be an integer >= 1, got 0"),
        ({"num_frames": True}, "num_frames must be an integer >= 1, got True"),
        ({"num_frames": 5.0}, "num_frames must be an integer, got 5.0"),
        ({"num_steps": 0}, "num_steps.*got 0"),
        ({"temperature": 0.0}, "temperature.*got 0"),
        ({"choice_temperature": -1.0}, "choice_temperature.*got -1"),
        ({"guidance_scale": -1.0}, "guidance_scale.*got -1"),
        ({"top_k": 0}, "top_k must be an integer >= 1, got 0"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"seed": -1}, "seed.*got -1"),
        ({"seed": [1, 2]}, "one for each of 1 samples, got a list of 2"),
        ({"seed": 1, "generators": torch.Generator()}, "not both"),
        ({"num_videos_per_label": 0}, "num_videos_per_label must be an integer >= 1, got 0"),
        ({"overlap": 0}, "overlap must be an integer >= 1, got 0"),
        ({"order": "confidense"}, "unknown order 'confidense': did you mean 'confidence'"),
        ({"schedule": "sine"}, "unknown schedule 'sine': did you mean 'cosine'"),
        ({"guidance_schedule": "x"}, "unknown guidance_schedule 'x': must be one of constant, linear, cosine"),
        ({"output_type": "numpy"}, "unknown output_type 'numpy': must be one of pt, np, pil"),
        ({"order": "critic"}, "requires a model that was trained with a critic"),
        ({"task": "frame_predicton"}, "did you mean 'frame_prediction'"),
        ({"task": "frame_prediction"}, r"task must be one that .* trained on \(none\), got 'frame_prediction'"),
        ({"context": torch.rand(1, 2, 6)}, "takes no context"),
        ({"context_padding": torch.zeros(1, 2) > 0}, "context_padding requires context"),
        (
            {"labels": [0, 1], "frames": torch.rand(3, 3, 1, 16, 16)},
            "labels has batch size 2, but frames has batch size 3; pass 1 or 3 labels",
        ),
        (
            {"labels": [0, 1, 2], "last_frames": torch.rand(2, 3, 1, 16, 16)},
            "last_frames has batch size 2, but labels has batch size 3; pass 1 or 3 clips as last_frames",
        ),
        ({"frames": torch.rand(3, 5, 16, 16)}, r"greater than the number of given frames \(5 in frames\), got 5"),
    ],
)
def test_wrong_arguments_are_refused(pipeline: VideoGenerationPipeline, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pipeline.generate(**arguments, progress=False)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task": "central_outpainting"}, r"trained on \(frame_prediction, .*\), got 'central_outpainting'"),
        ({"task": "frame_prediction", "labels": 0}, "does not use labels"),
        ({"context": torch.rand(2, 7)}, r"embeddings of 6 channels, got shape \(2, 7\)"),
        ({"context": torch.rand(6)}, r"\(m, e\) or \(b, m, e\), got torch.float32 of shape \(6,\)"),
        ({"context": "a cat"}, "got str"),
        ({"context": torch.rand(2, 6), "context_padding": torch.zeros(2)}, r"boolean tensor of shape \(2,\)"),
        ({"context": torch.rand(3, 2, 6), "labels": [0, 1]}, "labels has batch size 2, but context has batch size 3"),
    ],
)
def test_options_that_need_another_training_are_refused(
    versatile: VideoGenerationPipeline, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        versatile.generate(**arguments, progress=False)


def test_a_saved_pipeline_is_loaded_unchanged(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "pipeline")

    loaded = VideoGenerationPipeline.from_pretrained(tmp_path / "pipeline")

    ours, theirs = (one.generate(labels=[0, 1], seed=7, progress=False) for one in (pipeline, loaded))
    assert torch.equal(ours.videos, theirs.videos)
    assert (loaded.labels, loaded.num_frames) == (pipeline.labels, 5)
    parts = {path.relative_to(tmp_path / "pipeline").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    files = ("config.json", "model.safetensors", "README.md")
    halves = {f"{half}/{file}" for half in ("tokenizer", "maskgit") for file in files}
    assert parts == {"model_index.json", "README.md"} | halves


def test_to_moves_both_models(pipeline: VideoGenerationPipeline) -> None:
    moved = pipeline.to("cpu", torch.bfloat16)

    assert {parameter.dtype for half in (moved.tokenizer, moved.maskgit) for parameter in half.parameters()} == {
        torch.bfloat16
    }
    assert moved.generate(seed=0, progress=False).videos.dtype == torch.float32


def test_models_that_do_not_match_are_refused(pipeline: VideoGenerationPipeline) -> None:
    other = VideoTokenizer(image_size=16, init_dim=16, layers=("residual",), codebook_size=2**6)
    with pytest.raises(ValueError, match="same codebook_size, got 64 and 128"):
        VideoGenerationPipeline(other, pipeline.maskgit, labels=pipeline.labels, num_frames=5)
    with pytest.raises(ValueError, match="labels must have 3 names, got 1"):
        VideoGenerationPipeline(pipeline.tokenizer, pipeline.maskgit, labels=["left"], num_frames=5)


def test_other_folders_are_refused(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        VideoGenerationPipeline.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        VideoGenerationPipeline.from_pretrained(tmp_path)

    pipeline.save_pretrained(tmp_path)
    write_json(tmp_path / "model_index.json", {**read_json(tmp_path / "model_index.json"), "_format": 99})
    with pytest.raises(ValueError, match="format version from 1 to 3, got _format = 99; upgrade"):
        VideoGenerationPipeline.from_pretrained(tmp_path)


def test_truncated_model_weights_are_refused(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / "maskgit" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(ValueError, match=r"model\.safetensors"):
        VideoGenerationPipeline.from_pretrained(tmp_path)


def test_weights_of_another_transformer_are_refused(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    config = MaskGitConfig(codebook_size=2**7, grid=(3, 4, 4), num_labels=3, width=64, depth=2, num_heads=2)
    MaskGit(config).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "maskgit" / "model.safetensors")

    with pytest.raises(ValueError, match="weights of this MaskGit"):
        VideoGenerationPipeline.from_pretrained(tmp_path)


def test_results_can_be_modified_and_trained_on(pipeline: VideoGenerationPipeline) -> None:
    output = pipeline.generate(labels="left", seed=0, progress=False)
    videos = [
        output.videos,
        pipeline.tokenization.reconstruct(output.videos, progress=False),
        pipeline.tokenization.detokenize(pipeline.tokenization.tokenize(output.videos, progress=False), progress=False),
    ]

    for video in videos:
        video[:, :, 0] = 0.5
        layer = torch.nn.Conv3d(3, 1, 1)
        layer(video).sum().backward()
        assert layer.weight.grad is not None
    output.codes[:] = 0


def test_all_pipelines_have_the_same_to(pipeline: VideoGenerationPipeline) -> None:
    for one in (pipeline, pipeline.tokenization):
        for move in ({"dtype": torch.float64}, {"device": "cpu", "dtype": torch.float32}):
            assert one.to(**move) is one
            assert {parameter.dtype for model in one.models() for parameter in model.parameters()} == {move["dtype"]}
        one.to("cpu").to(torch.bfloat16)
        assert {parameter.dtype for model in one.models() for parameter in model.parameters()} == {torch.bfloat16}
        assert one.device == torch.device("cpu")

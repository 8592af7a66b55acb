from pathlib import Path
from typing import Any

import pytest
import torch

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.maskgit import MaskGitConfig
from magvit2_pytorch.pretrained import read_json, write_json
from magvit2_pytorch.tokenizer.pixels import to_unit_range


def test_the_videos_are_what_the_tokenizer_makes_of_the_codes(pipeline: VideoGenerationPipeline) -> None:
    output = pipeline.generate(labels=["left", 2], seed=1, progress=False)

    assert output.labels == ("left", "up")
    assert output.videos.shape == (2, 3, 5, 16, 16)
    assert output.codes.shape == (2, 3, 4, 4)
    assert int(output.codes.max()) < pipeline.tokenizer.codebook_size
    assert 0 <= output.videos.min() <= output.videos.max() <= 1
    with torch.no_grad():
        assert torch.equal(output.videos, to_unit_range(pipeline.tokenizer.decode(output.codes)))


def test_one_seed_gives_one_result_and_another_another(pipeline: VideoGenerationPipeline) -> None:
    first, again, other = (pipeline.generate(labels="left", seed=seed, progress=False).codes for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_seed_torchs_own_decides(pipeline: VideoGenerationPipeline) -> None:
    torch.manual_seed(5)
    first, other = (pipeline.generate(progress=False).codes for _ in range(2))
    torch.manual_seed(5)

    assert torch.equal(pipeline.generate(progress=False).codes, first)
    assert not torch.equal(first, other)


def test_a_video_does_not_depend_on_those_beside_it(pipeline: VideoGenerationPipeline) -> None:
    both = pipeline.generate(labels=["left", "up"], seed=3, progress=False)

    assert torch.equal(pipeline.generate(labels="left", seed=3, progress=False).codes, both.codes[:1])


def test_guidance_follows_the_label_more(pipeline: VideoGenerationPipeline) -> None:
    asked = []
    forward = pipeline.maskgit.forward

    def remembering(codes: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        asked.append(labels.tolist())
        return forward(codes, labels)

    pipeline.maskgit.forward = remembering  # type: ignore[method-assign]
    pipeline.generate(labels=[1, 2], num_steps=2, guidance_scale=1.0, seed=0, progress=False)
    pipeline.generate(labels=[1, 2], num_steps=2, guidance_scale=3.0, seed=0, progress=False)

    assert asked == [[1, 2]] * 2 + [[1, 2, 3, 3]] * 2  # 3 is the null label


def test_one_frame_is_an_image_and_other_numbers_are_cut(pipeline: VideoGenerationPipeline) -> None:
    image = pipeline.generate(num_frames=1, seed=0, progress=False)
    video = pipeline.generate(num_frames=4, seed=0, progress=False)

    assert (image.videos.shape, image.codes.shape) == ((1, 3, 1, 16, 16), (1, 1, 4, 4))
    assert (video.videos.shape, video.codes.shape) == ((1, 3, 4, 16, 16), (1, 3, 4, 4))


def test_without_labels_one_is_drawn_by_the_seed(pipeline: VideoGenerationPipeline) -> None:
    drawn = {pipeline.generate(num_frames=1, num_steps=1, seed=seed, progress=False).labels for seed in range(20)}

    assert drawn == {("left",), ("right",), ("up",)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": "down"}, "'down'.*0 'left', 1 'right', 2 'up'"),
        ({"labels": 3}, "no label 3"),
        ({"labels": -1}, "no label -1"),
        ({"labels": []}, "at least one"),
        ({"num_frames": 0}, "1 to the 5.*got 0"),
        ({"num_frames": 6}, "1 to the 5.*got 6"),
        ({"num_steps": 0}, "num_steps.*got 0"),
        ({"temperature": 0.0}, "temperature.*got 0"),
        ({"choice_temperature": -1.0}, "choice_temperature.*got -1"),
        ({"guidance_scale": -1.0}, "guidance_scale.*got -1"),
        ({"seed": -1}, "seed.*got -1"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    pipeline: VideoGenerationPipeline, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        pipeline.generate(**arguments, progress=False)


def test_a_saved_pipeline_comes_back_whole(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "pipeline")

    loaded = VideoGenerationPipeline.from_pretrained(tmp_path / "pipeline")

    ours, theirs = (one.generate(labels=[0, 1], seed=7, progress=False) for one in (pipeline, loaded))
    assert torch.equal(ours.videos, theirs.videos)
    assert (loaded.labels, loaded.num_frames) == (pipeline.labels, 5)
    parts = {path.relative_to(tmp_path / "pipeline").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    files = ("config.json", "model.safetensors", "README.md")
    halves = {f"{half}/{file}" for half in ("tokenizer", "maskgit") for file in files}
    assert parts == {"model_index.json", "README.md"} | halves


def test_to_moves_both_halves(pipeline: VideoGenerationPipeline) -> None:
    moved = pipeline.to("cpu", torch.bfloat16)

    assert {parameter.dtype for half in (moved.tokenizer, moved.maskgit) for parameter in half.parameters()} == {
        torch.bfloat16
    }
    assert moved.generate(seed=0, progress=False).videos.dtype == torch.float32


def test_halves_that_do_not_belong_together_are_refused(pipeline: VideoGenerationPipeline) -> None:
    other = VideoTokenizer(image_size=16, init_dim=16, layers=("residual",), codebook_size=2**6)
    with pytest.raises(ValueError, match=r"64 codes.*128"):
        VideoGenerationPipeline(other, pipeline.maskgit, labels=pipeline.labels, num_frames=5)
    with pytest.raises(ValueError, match="3 labels, got 1"):
        VideoGenerationPipeline(pipeline.tokenizer, pipeline.maskgit, labels=["left"], num_frames=5)


def test_a_folder_that_is_no_pipeline_is_refused_in_words(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        VideoGenerationPipeline.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        VideoGenerationPipeline.from_pretrained(tmp_path)

    pipeline.save_pretrained(tmp_path)
    write_json(tmp_path / "model_index.json", {**read_json(tmp_path / "model_index.json"), "_format": 99})
    with pytest.raises(ValueError, match="format version 99"):
        VideoGenerationPipeline.from_pretrained(tmp_path)


def test_a_truncated_file_of_weights_is_refused_in_words(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / "maskgit" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(ValueError, match=r"model\.safetensors"):
        VideoGenerationPipeline.from_pretrained(tmp_path)


def test_another_transformers_weights_are_refused(pipeline: VideoGenerationPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    config = MaskGitConfig(codebook_size=2**7, grid=(3, 4, 4), num_labels=3, width=64, depth=2, num_heads=2)
    MaskGit(config).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "maskgit" / "model.safetensors")

    with pytest.raises(ValueError, match="weights of this MaskGit"):
        VideoGenerationPipeline.from_pretrained(tmp_path)

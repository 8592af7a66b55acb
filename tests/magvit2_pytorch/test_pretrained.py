from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.pretrained import FORMAT_VERSION, read_json, write_json

FORMAT_1 = Path(__file__).parent / "format_1"


@pytest.fixture
def expected() -> dict[str, Tensor]:
    """What the release that wrote the files of format version 1 computed with them."""
    return safetensors.torch.load_file(FORMAT_1 / "expected.safetensors")


@pytest.mark.parametrize(
    ("name", "folder"), [("tokenizer", "pipeline/tokenizer"), ("folding_tokenizer", "folding_tokenizer")]
)
def test_a_tokenizer_of_format_1_gives_the_same_codes_and_pixels(
    expected: dict[str, Tensor], name: str, folder: str
) -> None:
    tokenizer = VideoTokenizer.from_pretrained(FORMAT_1 / folder)
    video, codes = expected[f"{name}.video"], expected[f"{name}.codes"]

    with torch.no_grad():
        assert torch.equal(tokenizer.encode(video), codes)
        torch.testing.assert_close(tokenizer.video_to_latents(video), expected[f"{name}.latents"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            tokenizer.decode(codes, *video.shape[2:]), expected[f"{name}.reconstruction"], rtol=1e-5, atol=1e-6
        )


def test_a_pipeline_of_format_1_holds_the_same_halves(expected: dict[str, Tensor]) -> None:
    pipeline = VideoGenerationPipeline.from_pretrained(FORMAT_1 / "pipeline")

    assert (pipeline.labels, pipeline.num_frames) == (("left", "right"), 5)
    with torch.no_grad():
        assert torch.equal(pipeline.tokenizer.encode(expected["tokenizer.video"]), expected["tokenizer.codes"])
        logits = pipeline.maskgit(expected["maskgit.codes"], expected["maskgit.labels"])
    for group, of_group in enumerate(logits):
        torch.testing.assert_close(of_group, expected[f"maskgit.logits_{group}"], rtol=1e-5, atol=1e-5)


def test_what_was_loaded_from_format_1_is_saved_in_todays(tmp_path: Path) -> None:
    MaskGit.from_pretrained(FORMAT_1 / "pipeline", subfolder="maskgit").save_pretrained(tmp_path)

    assert read_json(FORMAT_1 / "pipeline" / "maskgit" / "config.json")["_format"] == 1
    assert read_json(tmp_path / "config.json")["_format"] == FORMAT_VERSION
    MaskGit.from_pretrained(tmp_path)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
def test_a_format_that_is_not_known_is_refused_by_name(tmp_path: Path, version: object) -> None:
    MaskGit.from_pretrained(FORMAT_1 / "pipeline" / "maskgit").save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "_format": version})

    with pytest.raises(ValueError, match=rf"config\.json has format version {version}.*1 to {FORMAT_VERSION}; upgrade"):
        MaskGit.from_pretrained(tmp_path)

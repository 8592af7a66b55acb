"""The verbs of `magvit2`, on a tiny pipeline with random weights and on files of 16 x 16 pixels."""

import functools
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from magvit2_pytorch import VideoGenerationPipeline, cli, pipelines
from magvit2_pytorch.cli_options import SamplingOptions
from magvit2_pytorch.files import write_json
from magvit2_pytorch.pipelines import VideoCodes
from magvit2_pytorch.pipelines.media.decoding import probe
from magvit2_pytorch.pipelines.media.video_files import read_video
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.weights import MAKERS

ROOT = Path(__file__).parents[2]
Magvit2 = Callable[..., str]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, pipeline: VideoGenerationPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has models with the names of the default ones. They take precedence over the package's."""
    pipeline.save_pretrained(tmp_path / "arcade64")
    pipeline.tokenizer.save_pretrained(tmp_path / "general64")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `generate` was asked for last."""
    arguments: dict[str, Any] = {}
    generate = VideoGenerationPipeline.generate

    def remembering(self: VideoGenerationPipeline, *positional: Any, **given: Any) -> Any:
        assert not positional
        arguments.clear()
        arguments.update(given)
        return generate(self, **given)

    monkeypatch.setattr(VideoGenerationPipeline, "generate", remembering)
    return arguments


@pytest.fixture
def film(tmp_path: Path, write_video, noise) -> torch.Tensor:
    """The frames of `film.mkv`, which is as large as what the model was trained on: 16 x 16 pixels, 25 a second."""
    frames = noise(9, height=16, width=16)
    write_video(tmp_path / "film.mkv", frames)
    return torch.from_numpy(frames).permute(3, 0, 1, 2) / 255


def test_options_of_drawing_are_those_of_generate_with_the_same_defaults() -> None:
    parameters = inspect.signature(VideoGenerationPipeline.generate).parameters
    options = SamplingOptions()
    of_pixels = {"num_frames", "frames", "last_frames", "video", "mask", "task"}
    for_programs = {"context", "context_padding", "generators", "output_type", "callback", "progress"}

    assert set(vars(options)) == set(parameters) - of_pixels - for_programs - {"self"}
    for name, value in vars(options).items():
        assert (value or None) == (parameters[name].default or None), name


def test_options_reach_generate(magvit2: Magvit2, asked: dict[str, Any]) -> None:
    said = magvit2(
        *("generate", "arcade64", "--labels", "up", "0", "--num-frames", 3, "--num-steps", 2, "--seed", 7),
        *("--order", "halton", "--top-k", 5, "--schedule", "linear", "--output", "made/a.gif"),
        *("--decoding", "made/b.gif"),
    )

    assert said == "made/a.gif: 3 frames, up, left\n"
    assert asked["labels"] == ("up", "0")
    expected = {"num_frames": 3, "num_steps": 2, "seed": 7, "order": "halton", "top_k": 5, "schedule": "linear"}
    assert expected.items() <= asked.items()
    assert read_video("made/a.gif").shape[1] == 3
    assert read_video("made/b.gif").shape[1] > 2


def test_a_video_is_continued_from_its_end(magvit2: Magvit2, asked: dict[str, Any], film: torch.Tensor) -> None:
    said = magvit2("predict", "film.mkv", "--given", 3, "--frames", 5, "--output", "a.gif", "--min-width", 0)

    assert said == "a.gif: 8 frames\n"
    assert asked["num_frames"] == 8
    assert torch.equal(asked["frames"], film[:, -3:])
    assert asked["labels"] is None
    shown = read_video("a.gif")
    assert shown.shape == (3, 8, 16, 16)
    assert (shown[:, :3] - film[:, -3:]).abs().mean() < 0.06
    assert probe(Path("a.gif")).fps == 25


def test_a_clip_is_made_full_where_no_number_is_given(
    magvit2: Magvit2, asked: dict[str, Any], film: torch.Tensor
) -> None:
    magvit2("predict", "film.mkv", "--given", 2, "--max-frames", 4, "--fps", 10, "--output", "a.gif")

    assert asked["num_frames"] == 5
    assert torch.equal(asked["frames"], film[:, 2:4])
    assert probe(Path("a.gif")).fps == 10


def test_what_lies_between_two_files_is_made(magvit2: Magvit2, asked: dict[str, Any], film: torch.Tensor) -> None:
    pixels = (film[:, 3].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save("last.png")

    magvit2("interpolate", "film.mkv", "last.png", "--given", 2, "--frames", 3, "--output", "a.gif")

    assert asked["num_frames"] == 6
    assert torch.equal(asked["frames"], film[:, -2:])
    torch.testing.assert_close(asked["last_frames"], film[:, 3:4])


@pytest.mark.parametrize("shape", ["box", "picture", "video"])
def test_a_part_is_filled_in(
    magvit2: Magvit2, asked: dict[str, Any], film: torch.Tensor, write_video, shape: str
) -> None:
    mask = np.zeros((5, 16, 16, 3), dtype=np.uint8)
    mask[:, 2:6, 4:12] = 255
    Image.fromarray(mask[0]).save("mask.png")
    write_video(Path("mask.mkv"), mask)
    given = {
        "box": ("--box", 2, 4, 4, 8),
        "picture": ("--mask", "mask.png"),
        "video": ("--mask", "mask.mkv"),
    }

    magvit2("inpaint", "film.mkv", *given[shape], "--max-frames", 5, "--output", "a.gif", "--min-width", 0)

    assert torch.equal(asked["video"], film[:, :5])
    assert torch.equal(asked["mask"], torch.from_numpy(mask[..., 0] > 0))
    kept = read_video("a.gif")[:, :, 8:]
    assert (kept - film[:, :5, 8:]).abs().mean() < 0.06


def test_what_lies_around_a_box_is_made(magvit2: Magvit2, asked: dict[str, Any], film: torch.Tensor) -> None:
    magvit2("outpaint", "film.mkv", "--box", 4, 4, 8, 8, "--output", "a.gif", "--max-frames", 5)

    known = ~asked["mask"]
    assert known.sum() == 5 * 8 * 8
    assert known[:, 4:12, 4:12].all()


def test_a_video_is_widened_and_fitted(magvit2: Magvit2, asked: dict[str, Any], film: torch.Tensor) -> None:
    magvit2("outpaint", "film.mkv", "--margins", 8, 8, 16, 0, "--output", "a.gif", "--max-frames", 5)

    known = ~asked["mask"]  # 32 x 32 pixels became 16 x 16
    assert known[:, 4:12, 8:].all()
    assert known.sum() == 5 * 8 * 8
    smaller = torch.nn.functional.avg_pool2d(film[:, :5], 2)
    rounding = 0.501 / 255
    torch.testing.assert_close(asked["video"][:, :, 4:12, 8:], smaller, atol=rounding, rtol=0)


def test_the_result_is_shown_beside_what_was_given(magvit2: Magvit2, film: torch.Tensor) -> None:
    magvit2(
        *("inpaint", "film.mkv", "--box", 0, 0, 16, 8, "--side-by-side", "--max-frames", 5, "--output", "a.gif"),
        *("--min-width", 0, "--labels", "left", "up"),
    )

    shown = read_video("a.gif")
    assert shown.shape[3] == 16 + 2 + 16  # two rows, with captions
    given = shown[:, :, 20:36, :16]
    assert (given[..., :8] - 0.5).abs().max() < 0.05
    assert (given[..., 8:] - film[:, :5, :, 8:]).abs().mean() < 0.06


def test_frames_keep_their_size_where_that_is_wanted(
    magvit2: Magvit2, asked: dict[str, Any], write_video, noise
) -> None:
    write_video(Path("large.mkv"), noise(5, height=24, width=20))

    magvit2("predict", "large.mkv", "--given", 1, "--own-size", "--output", "a.gif")
    assert asked["frames"].shape == (3, 1, 24, 20)
    magvit2("predict", "large.mkv", "--given", 1, "--output", "a.gif")
    assert asked["frames"].shape == (3, 1, 16, 16)


def test_a_film_goes_through_codes_and_back(
    magvit2: Magvit2, pipeline: VideoGenerationPipeline, film: torch.Tensor
) -> None:
    tokenized = magvit2("tokenize", "film.mkv", "--output", "film.safetensors")
    described = magvit2("info", "film.safetensors")
    decoded = magvit2("detokenize", "film.safetensors", "--output", "back.gif")
    beside = magvit2("reconstruct", "film.mkv", "--side-by-side", "--output", "both.gif")

    assert tokenized == "film.safetensors: 9 frames of 16 x 16 pixels as 5 x 4 x 4 codes, 0.2431 bits per pixel\n"
    assert re.search(r"^codes +5 x 4 x 4$", described, re.MULTILINE)
    assert re.search(r"^frames per second +25$", described, re.MULTILINE)
    assert decoded == "back.gif: 9 frames, 25 per second\n"
    assert re.fullmatch(r"both\.gif: 9 frames, PSNR \d+\.\d\d dB\n", beside)
    codes = pipeline.tokenization.tokenize(film, progress=False).codes
    assert torch.equal(VideoCodes.load("film.safetensors").codes, codes)
    assert read_video("back.gif").shape == (3, 9, 16, 16)
    assert read_video("both.gif").shape == (3, 9, 36, 34)


def test_a_tokenizer_by_itself_is_enough_to_tokenize(
    magvit2: Magvit2, pipeline: VideoGenerationPipeline, film: torch.Tensor
) -> None:
    pipeline.tokenizer.save_pretrained("alone")

    magvit2("tokenize", "film.mkv", "--output", "a.safetensors", "--model", "alone")
    magvit2("tokenize", "film.mkv", "--output", "b.safetensors")

    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_info_says_what_a_folder_is(magvit2: Magvit2, pipeline: VideoGenerationPipeline) -> None:
    folder = Path("arcade64")
    write_json("run/config.json", {"num_steps": 40, "seed": 3, "data": {"path": "clips"}})
    write_json("run/inputs.json", {})
    Path("run/checkpoints/step-00000020").mkdir(parents=True)
    facts = pipeline.tokenizer.card_facts()

    assert re.search(r"^labels +left, right, up$", magvit2("info"), re.MULTILINE)
    of_tokenizer = magvit2("info", str(folder / "tokenizer"))
    assert all(
        re.search(rf"^{re.escape(name)} +{re.escape(fact)}$", of_tokenizer, re.M) for name, fact in facts.items()
    )
    assert re.search(r"^class +MaskGit$", magvit2("info", str(folder / "maskgit")), re.MULTILINE)
    assert re.search(r"^steps saved +20 of 40$", of_run := magvit2("info", "run"), re.MULTILINE)
    assert re.search(r'^data.path +"clips"$', of_run, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "class_name", "name"),
    [
        ("generate", "VideoGenerationPipeline", "arcade64"),
        ("predict film.mkv", "VideoGenerationPipeline", "arcade64"),
        ("reconstruct film.mkv", "TokenizationPipeline", "general64"),
        ("tokenize film.mkv", "TokenizationPipeline", "general64"),
        ("detokenize film.safetensors", "TokenizationPipeline", "general64"),
    ],
)
def test_the_default_models_are_those_of_the_package(
    magvit2: Magvit2, film: torch.Tensor, monkeypatch: pytest.MonkeyPatch, arguments: str, class_name: str, name: str
) -> None:
    loaded = []

    def from_pretrained(folder: Path, **options: Any) -> None:
        loaded.append(str(folder))
        raise ValueError("loaded")

    monkeypatch.setattr(getattr(pipelines, class_name), "from_pretrained", from_pretrained)

    with pytest.raises(SystemExit, match="loaded"):
        magvit2(*arguments.split())

    assert loaded == [name]
    assert name in MAKERS


def test_info_shows_facts_about_the_training(magvit2: Magvit2) -> None:
    for name in ("arcade64", "general64"):
        write_json(Path(name, "training.json"), {"trained on": "bars that move"})

        assert re.search(r"^trained on +bars that move$", magvit2("info", name), re.MULTILINE)

    write_json("general64/training.json", {"trained on": 3})
    with pytest.raises(SystemExit, match=r"training\.json: trained on must be a string, got 3"):
        magvit2("info", "general64")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("generate nowhere", "there is no folder nowhere"),
        ("generate --output a.avi", "a.avi must end in one of"),
        ("generate --decoding a.txt", "a.txt must end in one of"),
        (
            "generate --decoding same.gif --output same.gif",
            "same.gif must differ from the inputs",
        ),
        ("generate --output text.mp4/a.gif", "text.mp4/a.gif cannot be written: "),
        ("generate --fps 0", "fps must be from 0.01 to 1000, got 0"),
        ("generate --labels down", "unknown label 'down'"),
        ("generate --order best", "unknown order 'best'"),
        ("generate --device toaster", "device 'toaster' is not available"),
        ("predict missing.mp4", "there is no file missing.mp4"),
        ("predict text.mp4", "text.mp4 cannot be read as a video or an image"),
        ("predict small.png --output ./small.png", "small.png must differ from the inputs"),
        ("interpolate film.mkv small.png --output small.png", "small.png must differ from the inputs"),
        ("inpaint film.mkv --mask black.png --output black.png", "black.png must differ from the inputs"),
        ("reconstruct small.png --output small.png", "small.png must differ from the inputs"),
        ("tokenize empty", "empty is a folder"),
        ("reconstruct film.mkv --fps 0", "fps must be from 0.01 to 1000, got 0"),
        ("predict film.mkv --given 5", "the number of new frames must be at least 1, got 0 (5 frames are given"),
        ("predict film.mkv --given 0", "the number of frames must be at least 1, got 0"),
        ("predict film.mkv --given 1 --output a.gif --fps 60 --num-steps 0", "fps must be at most 50 for .gif, got 60"),
        ("interpolate film.mkv missing.png", "there is no file missing.png"),
        ("inpaint film.mkv", "exactly one of mask, box must be given, got none"),
        ("inpaint film.mkv --box 0 0 1 1 --mask a.png", "exactly one of mask, box must be given, got mask and box"),
        ("inpaint film.mkv --box 9 0 8 16", "must lie within the video's 16 x 16 pixels, got (9, 0, 8, 16)"),
        ("inpaint film.mkv --mask small.png", "a mask must have the size of the video, 16 x 16 pixels, got 8 x 8"),
        ("inpaint film.mkv --mask black.png", "at least one pixel must be hidden"),
        ("inpaint film.mkv --mask short.mkv", "as many as the video, got 3 in short.mkv"),
        ("outpaint film.mkv --margins 0 0 0 0", "and not all 0, got (0, 0, 0, 0)"),
        ("outpaint film.mkv --margins -1 0 0 0", "margins (above, below, left, right) must be at least 0"),
        ("reconstruct film.mkv --output a.png", "a.png can contain only one frame"),
        ("reconstruct film.mkv --model nowhere", "there is no folder nowhere"),
        ("reconstruct film.mkv --max-frames 0", "max_frames must be positive, got 0"),
        ("tokenize film.mkv --output a.npy", "a file of codes must end in .safetensors, got a.npy"),
        ("detokenize film.mkv", "film.mkv is not a complete file of codes"),
        ("detokenize other.safetensors", "the codes "),
        ("info empty", "empty contains no pipeline, no model and no training run"),
        ("info film.mkv", "film.mkv is neither a file of codes (.safetensors) nor a folder"),
        ("generate halved", "halved/maskgit contains no config.json: it is not a saved MaskGit"),
        ("generate film.mkv", "film.mkv is a file; pass the folder that contains it"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_no_file(
    magvit2: Magvit2, film: torch.Tensor, write_video, arguments: str, said: str
) -> None:
    Path("text.mp4").write_text("no video")
    Path("empty").mkdir()
    shutil.copytree("arcade64", "halved", ignore=shutil.ignore_patterns("maskgit"))
    Image.new("RGB", (8, 8), "white").save("small.png")
    Image.new("RGB", (16, 16)).save("black.png")
    write_video(Path("short.mkv"), np.full((3, 16, 16, 3), 255, dtype=np.uint8))
    magvit2("tokenize", "film.mkv", "--output", "other.safetensors")
    other = Path("other.safetensors").read_bytes()
    fingerprint = VideoCodes.load("other.safetensors").info.tokenizer.encode()
    Path("other.safetensors").write_bytes(other.replace(fingerprint, fingerprint[::-1]))
    before = sorted(Path().iterdir())

    with pytest.raises(SystemExit) as ended:
        magvit2(*arguments.split())

    message = str(ended.value.code)
    assert message.startswith("magvit2: ")
    assert said in message
    assert "\n" not in message
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("verb", cli.COMMANDS, ids=lambda verb: verb.__name__)
def test_the_help_of_every_verb_has_an_example_that_is_right(verb: Callable[..., None]) -> None:
    parsed = []

    @functools.wraps(verb)
    def recording(*positional: Any, **given: Any) -> None:
        parsed.append((positional, given))

    examples = re.findall(r"`magvit2 ([a-z]+)( [^`]*)?`", verb.__doc__ or "")

    assert examples
    for name, arguments in examples:
        assert name == verb.__name__
        tyro.extras.subcommand_cli_from_dict({name: recording, "other": recording}, args=[name, *arguments.split()])
    assert len(parsed) == len(examples)


@pytest.mark.parametrize(
    ("arguments", "said"), [(["predict", "--help"], "magvit2 predict film.mp4"), (["train"], "{tokenizer,maskgit}")]
)
def test_help_needs_no_torch(arguments: list[str], said: str) -> None:
    code = (
        f"import sys\nfrom magvit2_pytorch import cli\nsys.argv[1:] = {arguments}\n"
        "try:\n    cli.main()\nfinally:\n    assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )

    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert said in result.stdout


@pytest.mark.parametrize("stage", [tokenizer, maskgit], ids=["tokenizer", "maskgit"])
def test_a_stage_reads_its_own_arguments(magvit2: Magvit2, monkeypatch: pytest.MonkeyPatch, stage: ModuleType) -> None:
    name = stage.__name__.rpartition(".")[2]
    read = []
    monkeypatch.setattr(stage, "run_command", lambda train, presets, description: read.append((train, *sys.argv)))

    magvit2("train", name, "base", "--help", "--data.path", "a b", "--no-such-option")

    assert read == [(stage.train, f"magvit2 train {name}", "base", "--help", "--data.path", "a b", "--no-such-option")]


def test_a_stage_that_does_not_exist_is_refused_with_those_that_do(
    magvit2: Magvit2, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        magvit2("train", "tokeniser", "--num-steps", 3)

    assert "('tokenizer', 'maskgit')" in " ".join(capsys.readouterr().err.split())

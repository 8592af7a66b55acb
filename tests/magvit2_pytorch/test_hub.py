import shutil
from pathlib import Path
from typing import Any

import pytest

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer, hub
from magvit2_pytorch.pipelines import TokenizationPipeline

FORMAT_1 = Path(__file__).parent / "format_1"


def test_a_file_in_the_place_of_a_folder_is_told_so() -> None:
    with pytest.raises(FileNotFoundError, match=r"model_index\.json is a file; pass the folder that contains it"):
        VideoGenerationPipeline.from_pretrained(FORMAT_1 / "pipeline" / "model_index.json")


@pytest.mark.parametrize("part", ["tokenizer", "maskgit"])
def test_a_missing_part_of_a_folder_is_not_looked_for_on_the_hub(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FORMAT_1 / "pipeline", tmp_path / "saved", ignore=shutil.ignore_patterns(part))
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda *names, **_: asked.append(names) or tmp_path)

    with pytest.raises(FileNotFoundError, match=f"saved/{part} contains no config.json"):
        VideoGenerationPipeline.from_pretrained("saved")  # so that saved/tokenizer would do as owner/name

    assert not asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Hub was asked for. Every repository contains the pipeline of format 1."""
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(FORMAT_1 / "pipeline")

    monkeypatch.setattr(hub, "snapshot_download", download)
    return asked


@pytest.mark.parametrize(
    "loaded", [VideoTokenizer, MaskGit, VideoGenerationPipeline, TokenizationPipeline], ids=lambda one: one.__name__
)
def test_options_reach_the_hub(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    options = {"revision": "v1", "token": "secret", "local_files_only": True}

    loaded.from_pretrained("me/small", cache_dir="~/cache", **options)

    assert asked == options | {"name": "me/small", "cache_dir": Path("/home/me/cache")}


def test_an_option_that_does_not_exist_is_refused_for_folders_too(asked: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="unknown option 'tokn': did you mean 'token'"):
        hub.fetch(FORMAT_1, tokn="secret")  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "/nowhere/at/all", "~/nowhere", "./a/b"])
def test_what_can_be_no_repository_is_not_asked_for(asked: dict[str, Any], name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        hub.fetch(name)

    assert not asked


@pytest.fixture
def weights_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package contains the pipeline of format 1 as `games`, and the current folder is empty."""
    shutil.copytree(FORMAT_1 / "pipeline", tmp_path / "weights" / "games")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(hub, "WEIGHTS_DIR", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.mark.parametrize("loaded", [VideoTokenizer, MaskGit, VideoGenerationPipeline, TokenizationPipeline])
def test_weights_in_the_package_load_by_name_without_the_hub(
    weights_dir: Path, asked: dict[str, Any], loaded: Any
) -> None:
    loaded.from_pretrained("games")

    assert not asked


def test_a_folder_takes_precedence_over_weights_in_the_package(weights_dir: Path) -> None:
    Path("games").mkdir()

    assert hub.fetch("games") == Path("games")


@pytest.mark.parametrize("name", ["game", "games/maskgit/..", "../weights/games2"])
def test_other_names_are_refused_with_those_of_the_package(weights_dir: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"a name of weights in the package \(games\) or a Hub repository"):
        hub.fetch(name)

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import magvit2_pytorch

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tokenizer", "maskgit", "pipelines", "train")


def python(code: str, folder: Path) -> str:
    """What a fresh Python prints that is started in `folder`."""
    finished = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@pytest.mark.parametrize("name", magvit2_pytorch.__all__)
def test_each_public_class_is_found_by_its_name(name: str) -> None:
    assert getattr(magvit2_pytorch, name).__name__ == name


def test_a_misspelled_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="VideoTokeniser"):
        magvit2_pytorch.VideoTokeniser  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_long_import_path_gives_the_same_tokenizer() -> None:
    from magvit2_pytorch.magvit2_pytorch import VideoTokenizer

    assert VideoTokenizer is magvit2_pytorch.VideoTokenizer


def test_the_public_classes_load_neither_training_nor_its_libraries() -> None:
    loaded = python("import sys; from magvit2_pytorch import *; print(*sys.modules)", ROOT).split()

    assert "magvit2_pytorch.pipelines" in loaded
    assert not {"accelerate", "datasets", "magvit2_pytorch.train"} & set(loaded)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The face beside a project file and empty sub-packages."""
    shutil.copytree(ROOT / "magvit2_pytorch", tmp_path / "magvit2_pytorch")
    (tmp_path / "pyproject.toml").touch()
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_clone_finds_the_folders_beside_it(clone: Path, folder: str) -> None:
    code = f"import magvit2_pytorch.{folder} as found; print(found.__file__)"

    assert python(code, clone) == str(clone / folder / "__init__.py")


@pytest.mark.parametrize("missing", ["pyproject.toml", "tokenizer", "train"])
def test_folders_of_others_are_left_alone(clone: Path, missing: str) -> None:
    (clone / missing).rename(clone / "something_else")

    assert python("import magvit2_pytorch; print(len(magvit2_pytorch.__path__))", clone) == "1"

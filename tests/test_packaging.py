import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from magvit2_pytorch.hub import WEIGHTS_DIR

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOLDERS = ("tokenizer", "maskgit", "pipelines", "train")
PATCHED = {  # file and code that depend on a private part of the library
    "x-transformers": ("maskgit/attention.py", "layer[0][0] = "),  # layers of its encoder are replaced by index
    "vector-quantize-pytorch": ("tokenizer/quantizer.py", "del self.lfq.codebook"),  # its buffers are replaced
    "accelerate": ("tests/train/conftest.py", "_reset_state()"),  # its global state is cleared between tests
    "huggingface_hub": ("magvit2_pytorch/hub.py", "HTTPError"),  # error class of its HTTP client
}


def folders_with_code() -> set[str]:
    """Return the paths, relative to the root, of all folders with Python files."""
    files = (file for folder in ("magvit2_pytorch", *FOLDERS) for file in (ROOT / folder).rglob("*.py"))
    return {file.parent.relative_to(ROOT).as_posix() for file in files}


def pinned() -> dict[str, str]:
    """Return the version of each distribution in constraints.txt."""
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def installed_with(requirements: Iterable[str], *, leave_out: str | None = None) -> set[str]:
    """Return the names of `requirements` and their dependencies, without those that only `leave_out` depends on."""
    waiting, done = [Requirement(line) for line in requirements], set[tuple[str, str]]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for other, extra in done if other == name}:
            done.add((name, extra))
            inner = [Requirement(line) for line in importlib.metadata.requires(name) or [] if name != leave_out]
            waiting += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in done}


def test_every_folder_with_code_is_a_package() -> None:
    import_names = {
        folder if folder == "magvit2_pytorch" else f"magvit2_pytorch.{folder.replace('/', '.')}": folder
        for folder in folders_with_code()
    }

    assert SETUPTOOLS["package-dir"] == import_names
    assert set(SETUPTOOLS["packages"]) == set(import_names)


def test_the_links_show_every_folder_and_every_file_of_the_face() -> None:
    links = ROOT / ".links" / "magvit2_pytorch"
    face = {file.name: file for file in (ROOT / "magvit2_pytorch").iterdir() if file.suffix in (".py", ".typed")}

    assert {link.name: link.resolve() for link in links.iterdir()} == face | {name: ROOT / name for name in FOLDERS}


def test_no_file_in_train_hides_a_library() -> None:
    libraries = {
        name
        for name, distributions in importlib.metadata.packages_distributions().items()
        if {canonicalize_name(distribution) for distribution in distributions} & pinned().keys()
    }
    in_train = {path.stem for path in (ROOT / "train").iterdir() if path.is_dir() or path.suffix == ".py"}

    assert {"torch", "datasets", "tqdm"} <= libraries
    assert not in_train & (libraries | sys.stdlib_module_names)


def test_constraints_pin_everything_that_is_installed_and_nothing_else() -> None:
    project = PYPROJECT["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]

    assert installed_with(requirements, leave_out="torch") <= pinned().keys()  # its builds have different dependencies
    assert pinned().keys() <= installed_with(requirements)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools leaves a build folder next to the sources and reuses its files."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("magvit2_pytorch", *FOLDERS):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, source)
    return next(built.glob("*.whl"))


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_wheel_holds_all_sources_and_data(wheel: Path) -> None:
    expected = {
        "magvit2_pytorch/py.typed",
        "magvit2_pytorch/train/data/clips/NOTICE",
        "magvit2_pytorch/train/data/clips/heldout.csv",
        *(f"magvit2_pytorch/train/data/clips/{clip.name}" for clip in (ROOT / "train/data/clips").glob("*.mp4")),
        *(path.relative_to(ROOT).as_posix() for path in WEIGHTS_DIR.rglob("*") if path.is_file()),
    }
    for import_name, folder in SETUPTOOLS["package-dir"].items():
        expected |= {f"{import_name.replace('.', '/')}/{file.name}" for file in (ROOT / folder).glob("*.py")}

    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert len([name for name in expected if name.endswith(".mp4")]) == 4
    assert len([name for name in expected if name.endswith(".safetensors")]) == 3
    assert names == expected


def test_the_weights_in_the_wheel_are_small(wheel: Path) -> None:
    sizes = [file.compress_size for file in zipfile.ZipFile(wheel).filelist if "/weights/" in file.filename]

    assert sum(sizes) <= 16 * 10**6


IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys
import magvit2_pytorch
assert len(magvit2_pytorch.__path__) == 1, magvit2_pytorch.__path__
for name in magvit2_pytorch.__all__:
    getattr(magvit2_pytorch, name)
for module in pkgutil.walk_packages(magvit2_pytorch.__path__, "magvit2_pytorch."):
    print(importlib.import_module(module.name).__file__)
"""


def test_the_installed_wheel_imports_from_where_it_is_and_warns_of_nothing(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, wheel)

    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert finished.returncode == 0, finished.stderr
    files = [Path(line) for line in finished.stdout.splitlines()]
    assert len(files) == sum(len(list((ROOT / folder).glob("*.py"))) for folder in folders_with_code()) - 1
    assert all(file.is_relative_to(site) for file in files)


def test_the_installed_wheel_takes_the_first_steps_of_the_demo_preset(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, wheel)

    finished = subprocess.run(
        [sys.executable, "-m", "magvit2_pytorch.train.tokenizer", "demo", "--num-steps", "2", "--no-progress"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path), "MAGVIT2_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )

    assert finished.returncode == 0, finished.stderr
    assert "step 2, held out: psnr" in finished.stderr
    assert (tmp_path / "outputs" / "tokenizer" / "tokenizer" / "model.safetensors").is_file()


WITHOUT_NETWORK = """
import socket, sys
def refuse(*arguments):
    raise OSError("there is no network")
socket.socket.connect = socket.getaddrinfo = refuse
sys.argv[0] = "magvit2"
from magvit2_pytorch.cli import main
main()
"""


def test_the_installed_wheel_generates_without_network(wheel: Path, tmp_path: Path) -> None:
    site, film = tmp_path / "site", ROOT / "train" / "data" / "clips" / "sintel.mp4"
    pip("install", "--no-deps", "--target", site, wheel)

    def magvit2(*arguments: str | Path) -> str:
        finished = subprocess.run(
            [sys.executable, "-c", WITHOUT_NETWORK, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    for name in ("a.gif", "b.gif"):
        said = magvit2("generate", "--seed", "3", "--output", name)
        assert re.fullmatch(rf"{re.escape(name)}: 17 frames, \w+\n", said)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert "17 frames" in magvit2("predict", film, "--max-frames", "5", "--output", "c.gif")
    assert "PSNR" in magvit2("reconstruct", film, "--max-frames", "17", "--output", "d.gif")


@pytest.mark.parametrize("library", PATCHED)
def test_a_library_with_private_parts_in_use_has_an_upper_bound(library: str) -> None:
    file, code = PATCHED[library]
    requirements = {one.name: one.specifier for one in map(Requirement, PYPROJECT["project"]["dependencies"])}

    assert code in (ROOT / file).read_text(), f"{file} has changed: update PATCHED, or lift the upper bound"
    assert any(specifier.operator == "<" for specifier in requirements[library]), "there is no upper bound"

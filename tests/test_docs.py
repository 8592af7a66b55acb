"""README and `docs/`: examples run, commands and options exist, links resolve."""

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.cli import COMMANDS
from magvit2_pytorch.tokenizer.layer_kinds import CONDITIONED, LAYER_KINDS
from magvit2_pytorch.tokenizer.presets import PRESETS as MODEL_PRESETS
from magvit2_pytorch.train.command_line import parse_run
from magvit2_pytorch.train.tokenizer import PRESETS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("tokenizer.md", "generation.md", "troubleshooting.md")
PACKAGE_FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
ALL_PAGES = (*ROOT.glob("*.md"), *DOCS.glob("*.md"))
NOT_RUN = re.compile(r"<!-- not run: (\w+) needs [^\n]* -->\n```python\n.*?```", re.DOTALL)
SHAPE = re.compile(r"^( *(\w+) = .*)  # (\d+(?: x \d+)*)$")
SCRIPT = "train/tokenizer.py"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def script(text: str) -> str:
    """The Python of a page, each line where it is in the page; the shapes in its comments are claims."""
    lines = []
    is_code = False
    for line in NOT_RUN.sub(lambda block: "\n" * block[0].count("\n"), text).splitlines():
        if line.startswith("```"):
            is_code = line == "```python"
            line = ""
        if shape := SHAPE.match(line):
            sizes = ", ".join(shape[3].split(" x "))
            line = f"{shape[1]}; assert {shape[2]}.shape == ({sizes},), {shape[2]}.shape"
        lines.append(line if is_code else "")
    return "\n".join(lines)


@pytest.mark.parametrize("name", PAGES)
def test_every_example_runs_and_gives_the_shapes_it_names(name: str, workplace: Path) -> None:
    (workplace / name).write_text(script(page(name)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    # As users run it: torch.compile cannot see through the type checks of the test run.
    result = subprocess.run([sys.executable, name], cwd=workplace, env=environment, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


def test_only_what_needs_the_network_or_torchvision_is_not_run() -> None:
    assert [name for text in map(page, PAGES) for name in NOT_RUN.findall(text)] == ["LPIPS", "push_to_hub"]


def commands(text: str) -> list[list[str]]:
    """The arguments of each training of a tokenizer that a page shows."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if SCRIPT in line]
    return [line[line.index(SCRIPT) + 1 :] for line in words]


@pytest.mark.parametrize(
    "arguments", [pytest.param(words, id=" ".join(words) or "bare") for name in PAGES for words in commands(page(name))]
)
def test_every_command_shown_is_one_that_training_takes(arguments: list[str]) -> None:
    parse_run(PRESETS, description="", arguments=arguments)


def of_magvit2(text: str) -> list[list[str]]:
    """The arguments of each `magvit2` that a page shows."""
    lines = "\n".join(blocks(text, "(?:sh|bash)")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and Path(line[0]).name == "magvit2"]


@pytest.mark.parametrize("path", [DOCS / "generation.md", ROOT / "README.md"], ids=lambda path: path.name)
def test_every_magvit2_shown_runs_and_writes_the_file_it_names(
    path: Path, workplace: Path, magvit2: Callable[..., str]
) -> None:
    shown = of_magvit2(path.read_text())

    for arguments in shown:
        printed = magvit2(*arguments)

        if "--output" in arguments:
            output = arguments[arguments.index("--output") + 1]
            assert Path(output).is_file()
            assert printed.startswith(f"{output}: ")
    assert shown


def test_the_page_of_generation_shows_every_verb_and_names_every_argument() -> None:
    text = page("generation.md")
    arguments = set(inspect.signature(VideoGenerationPipeline.generate).parameters) - {"self"}

    shown = {verb.__name__ for verb in COMMANDS} - {"demo", "plot", "train"}
    assert {words[0] for words in of_magvit2(text)} == shown
    assert {name for name in arguments if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("name", PAGES)
def test_every_option_named_is_one_that_a_command_shows(name: str) -> None:
    all_pages = [page(page_name) for page_name in PAGES]
    shown = {word for text in all_pages for words in commands(text) + of_magvit2(text) for word in words} | {"--help"}
    outside_of_examples = re.sub(r"```.*?```", "", page(name), flags=re.DOTALL)

    named = set(re.findall(r"--[a-z][a-z0-9.-]*[a-z0-9]", outside_of_examples))

    assert {name for name in named if not any(word == name or word.startswith(f"{name}.") for word in shown)} == set()


def test_the_page_has_every_layer_kind_preset_and_method() -> None:
    text = page("tokenizer.md")
    inherited = {*dir(nn.Module), "config_class", "upgrade_config", "card_tags", "card_example", "part"}
    inherited |= {"check_weights", "num_layers"}  # for loading
    methods = {name for name in dir(VideoTokenizer) if not name.startswith("_")} - inherited
    kinds = {name for name in LAYER_KINDS if not name.startswith(CONDITIONED)}

    assert {name for name in methods if not re.search(rf"\b{name}\b", text)} == set()
    assert {name for name in kinds if not re.search(rf'^\| `\(?"{name}"', text, re.MULTILINE)} == set()
    assert {name for name in MODEL_PRESETS if f"| `{name}` |" not in text} == set()


@pytest.mark.parametrize("path", ALL_PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for name, anchor in re.findall(r"\]\(((?!http)[^)#]*)(?:#([^)]*))?\)", path.read_text()):
        target = path.parent / (name or path.name)
        assert target.exists()
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []

        assert not anchor or anchor in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}


@pytest.mark.parametrize("path", ALL_PAGES, ids=lambda path: path.name)
def test_prose_is_wrapped_at_120_columns(path: Path) -> None:
    prose = (line for line in path.read_text().splitlines() if not line.startswith(("|", "    ")))

    assert [line for line in prose if len(line) > 120] == []


@pytest.mark.parametrize("folder", PACKAGE_FOLDERS)
def test_the_page_of_architecture_lists_every_module(folder: str) -> None:
    section = re.search(rf"^### `{folder}/`$(.*?)^##", page("architecture.md"), re.MULTILINE | re.DOTALL)
    assert section
    first_cells = re.findall(r"^\| (`.*?`) \|", section[1], re.MULTILINE)

    modules = re.findall(r"`(\w+)`", " ".join(first_cells))

    assert sorted(modules) == sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")

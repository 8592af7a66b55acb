import re
import shlex
from pathlib import Path

import torch

from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.command_line import parse_run

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_example_of_the_readme_runs(workplace: Path) -> None:
    names: dict[str, object] = {}

    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(example, names)

    reconstruction = names["reconstruction"]
    assert isinstance(reconstruction, torch.Tensor)
    assert reconstruction.shape == (1, 3, 17, 64, 64)
    assert (workplace / "samples.mp4").is_file()


def test_training_takes_what_the_readme_shows() -> None:
    presets = {"train/tokenizer.py": tokenizer.PRESETS, "train/maskgit.py": maskgit.PRESETS}
    lines = [shlex.split(line, comments=True) for line in README.splitlines() if "accelerate launch train/" in line]

    for words in lines:
        script = next(word for word in words if word in presets)
        parse_run(presets[script], description="", arguments=words[words.index(script) + 1 :])
    assert len(lines) >= 2

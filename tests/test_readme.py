import re
from pathlib import Path

import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_readmes_tokenizer_example_runs() -> None:
    _, example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}

    exec(example, names)

    reconstruction = names["reconstruction"]
    assert isinstance(reconstruction, torch.Tensor)
    assert reconstruction.shape == (1, 3, 17, 64, 64)

import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from magvit2_pytorch import MaskGit, VideoTokenizer
from magvit2_pytorch.model_card import as_markdown, model_card
from magvit2_pytorch.pretrained import FORMAT_VERSION

FORMAT_1 = Path(__file__).parent / "format_1"


@pytest.fixture
def maskgit() -> MaskGit:
    return MaskGit.from_pretrained(FORMAT_1 / "pipeline" / "maskgit")


def test_a_model_card_tells_what_was_saved_and_its_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = VideoTokenizer.from_pretrained(FORMAT_1 / "pipeline" / "tokenizer")
    tokenizer.save_pretrained(tmp_path / "path" / "to" / "mine", license="mit")

    card = (tmp_path / "path" / "to" / "mine" / "README.md").read_text()

    text = ModelCard(card).text
    assert ModelCard(card).data.to_dict() == {
        "library_name": "magvit2-pytorch",
        "license": "mit",
        "tags": ["magvit2", "video", "video-tokenizer"],
    }
    facts = dict(re.findall(r"^\| (\w.*?) \| (.*?) \|$", text, re.MULTILINE))
    assert facts["parameters"] == f"{sum(parameter.numel() for parameter in tokenizer.parameters()):,}"
    assert facts["strides (time, height, width)"] == "2 x 2 x 2"
    assert facts["codes of 9 such frames"] == "5 x 4 x 4"
    assert (facts["codebook size"], facts["quantizer"]) == ("256", "lfq")
    assert facts["video"].endswith("in \\[-1, 1]")
    assert facts["format version"] == str(FORMAT_VERSION)

    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"video": torch.zeros(1, 3, 1, 8, 8)}
    monkeypatch.chdir(tmp_path)
    exec(example, names)
    assert names["codes"].shape == (1, 1, 4, 4)


def test_a_model_card_names_no_license_that_nobody_gave(maskgit: MaskGit, tmp_path: Path) -> None:
    maskgit.save_pretrained(tmp_path)

    assert "license" not in (tmp_path / "README.md").read_text()


def test_a_model_card_is_written_anew_until_somebody_edits_it(maskgit: MaskGit, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    maskgit.save_pretrained(tmp_path, license="mit")
    maskgit.save_pretrained(tmp_path, license="apache-2.0")
    assert "apache-2.0" in card.read_text()

    earlier = re.sub(rb"<!-- .* \(digest", b"<!-- Written by magvit2-pytorch (digest", card.read_bytes())
    card.write_bytes(earlier)
    maskgit.save_pretrained(tmp_path, license="apache-2.0")
    assert card.read_bytes() != earlier

    for edit in (
        card.read_bytes().replace(b"# MaskGit", b"# My MaskGit"),
        card.read_bytes() + b"More.\n",
        b"Mine.\n",
        b"",
        b"\xff",
    ):
        card.write_bytes(edit)
        maskgit.save_pretrained(tmp_path, license="mit")
        assert card.read_bytes() == edit


def test_names_of_labels_are_shown_literally() -> None:
    hostile = "a|b\n# c <script>d</script> [e](http://f) ![g](h) `i` \x1b[31m \u202ej &lt; $k$ https://l www.m"
    card = ModelCard(
        model_card("Model", "It.", example="x", facts={hostile: "value", "labels": hostile}, tags=(), license=None)
    )

    rows = [line for line in card.text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)  # two cells
    assert card.text.isprintable() is False  # it has several lines
    assert all(line.isprintable() for line in card.text.splitlines())
    for syntax in ("<", "[", "`", "&lt", "$"):
        assert re.search(rf"(?<!\\){re.escape(syntax)}", rows[2]) is None
    assert "://" not in card.text
    assert "www." not in card.text


def test_a_long_property_is_cut() -> None:
    assert len(as_markdown("a" * 10**6)) == 10_000


def test_a_link_in_the_place_of_a_card_is_replaced(maskgit: MaskGit, tmp_path: Path) -> None:
    (tmp_path / "README.md").symlink_to("/dev/zero")

    maskgit.save_pretrained(tmp_path)

    assert (tmp_path / "README.md").read_text().startswith("---")
    assert not (tmp_path / "README.md").is_symlink()

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard, RepoUrl
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    OfflineModeIsEnabled,
)
from torch import Tensor

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer, pretrained
from magvit2_pytorch import hub as hub_module
from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.pretrained import FORMAT_VERSION

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


@pytest.mark.parametrize("version", [1, 2])
def test_a_transformer_of_an_older_format_keeps_its_sub_codes_and_is_given_nothing_new(
    tmp_path: Path, version: int
) -> None:
    shutil.copytree(FORMAT_1 / "pipeline" / "maskgit", tmp_path, dirs_exist_ok=True)
    written = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**written, "_format": version, "num_groups": 3})

    config = MaskGit.load_config(tmp_path)

    assert (config.split, config.group_bits) == (3, (3, 3, 2))
    assert (config.num_registers, config.qk_norm, config.tasks, config.dim_context) == (0, False, (), None)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
def test_a_format_that_is_not_known_is_refused_by_name(tmp_path: Path, version: object) -> None:
    MaskGit.from_pretrained(FORMAT_1 / "pipeline" / "maskgit").save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "_format": version})

    with pytest.raises(ValueError, match=rf"config\.json has format version {version}.*1 to {FORMAT_VERSION}; upgrade"):
        MaskGit.from_pretrained(tmp_path)


@pytest.fixture
def maskgit() -> MaskGit:
    return MaskGit.from_pretrained(FORMAT_1 / "pipeline" / "maskgit")


def test_weights_of_another_width_are_refused_in_few_words(tmp_path: Path) -> None:
    for width in (8, 16):
        VideoTokenizer(image_size=8, init_dim=width, layers=("residual",) * 3, codebook_size=4).save_pretrained(
            tmp_path / str(width)
        )
    shutil.copy(tmp_path / "16" / "model.safetensors", tmp_path / "8")

    with pytest.raises(
        ValueError, match=r"does not contain the weights of this VideoTokenizer: .*size mismatch for"
    ) as no:
        VideoTokenizer.from_pretrained(tmp_path / "8")

    assert re.search(r"\(and \d+ more\)$", str(no.value))
    assert len(str(no.value)) < 900


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
    monkeypatch.setattr(hub_module, "snapshot_download", lambda *names, **_: asked.append(names) or tmp_path)

    with pytest.raises(FileNotFoundError, match=f"saved/{part} contains no config.json"):
        VideoGenerationPipeline.from_pretrained("saved")  # so that saved/tokenizer would do as owner/name

    assert not asked


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


class FakeHub:
    """Stands in for `huggingface_hub.HfApi`: repositories as folders, one for each branch."""

    def __init__(self, root: Path, refusal: Exception | None = None) -> None:
        self.root = root
        self.refusal = refusal
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, token: str | None) -> "FakeHub":
        self.calls.append(("HfApi", {"token": token}))
        return self

    def create_repo(self, repo_id: str, **options: Any) -> RepoUrl:
        self.calls.append(("create_repo", options))
        if self.refusal:
            raise self.refusal
        return RepoUrl(f"https://huggingface.co/{repo_id if '/' in repo_id else f'me/{repo_id}'}")

    def create_branch(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_branch", options))

    def file_exists(self, repo_id: str, name: str, *, revision: str | None) -> bool:
        return (self.folder(repo_id, revision) / name).is_file()

    def hf_hub_download(self, repo_id: str, name: str, *, revision: str | None) -> str:
        return str(self.folder(repo_id, revision) / name)

    def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str | None, commit_message: str) -> None:
        self.calls.append(("upload_folder", {"commit_message": commit_message}))
        shutil.copytree(folder_path, self.folder(repo_id, revision), dirs_exist_ok=True)

    def folder(self, repo_id: str, revision: str | None) -> Path:
        return self.root / (revision or "main") / repo_id


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(pretrained, "HfApi", fake)
    return fake


def test_what_is_pushed_is_what_is_loaded(hub: FakeHub, maskgit: MaskGit) -> None:
    address = maskgit.push_to_hub("me/small", private=True, token="secret", license="mit", commit_message="First")

    assert address == "https://huggingface.co/me/small"
    assert hub.calls == [
        ("HfApi", {"token": "secret"}),
        ("create_repo", {"private": True, "exist_ok": True}),
        ("upload_folder", {"commit_message": "First"}),
    ]
    folder = hub.folder("me/small", None)
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert 'MaskGit.from_pretrained("me/small")' in (folder / "README.md").read_text()
    assert "license: mit" in (folder / "README.md").read_text()
    loaded = MaskGit.from_pretrained(folder)
    assert all(torch.equal(ours, loaded.state_dict()[name]) for name, ours in maskgit.state_dict().items())


def test_a_branch_is_made_and_a_bare_name_gets_its_owner(hub: FakeHub, maskgit: MaskGit) -> None:
    maskgit.push_to_hub("small", branch="trial")

    assert ("create_branch", {"branch": "trial", "exist_ok": True}) in hub.calls
    card = hub.folder("me/small", "trial") / "README.md"
    assert 'MaskGit.from_pretrained("me/small")' in card.read_text()


def test_a_pipeline_is_pushed_whole_and_cards_edited_on_the_hub_stay(hub: FakeHub) -> None:
    pipeline = VideoGenerationPipeline.from_pretrained(FORMAT_1 / "pipeline")
    pipeline.push_to_hub("me/pipeline")
    folder = hub.folder("me/pipeline", None)
    assert 'VideoGenerationPipeline.from_pretrained("me/pipeline")' in (folder / "README.md").read_text()
    assert hub.calls[-1] == ("upload_folder", {"commit_message": "Upload a VideoGenerationPipeline"})

    (folder / "maskgit" / "README.md").write_text("Mine.")
    pipeline.push_to_hub("me/pipeline", license="mit")

    assert (folder / "maskgit" / "README.md").read_text() == "Mine."
    assert "license: mit" in (folder / "README.md").read_text()
    assert VideoGenerationPipeline.from_pretrained(folder).labels == pipeline.labels


def answer(status: int) -> HfHubHTTPError:
    """What huggingface_hub raises where the Hub answers with this status."""
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return HfHubHTTPError(f"{status} from the Hub", response=cast(Any, response))


@pytest.mark.parametrize(
    ("refusal", "kind", "said"),
    [
        (answer(401), PermissionError, "me/small requires an access token.*hf auth login.*401"),
        (answer(403), PermissionError, "me/small requires an access token.*hf auth login.*403"),
        (answer(500), ConnectionError, "me/small failed: 500"),
        (HTTPError("no route to host"), ConnectionError, "me/small failed: no route"),
        (OfflineModeIsEnabled("offline mode"), ConnectionError, "me/small failed: offline"),
        (HFValidationError("bad name"), ValueError, "repo_id must be owner/name, got 'me/small': bad name"),
    ],
)
def test_an_upload_that_fails_says_why(
    hub: FakeHub, maskgit: MaskGit, refusal: Exception, kind: type[Exception], said: str
) -> None:
    hub.refusal = refusal

    with pytest.raises(kind, match=said):
        maskgit.push_to_hub("me/small")


def test_a_name_that_no_repository_can_have_is_refused_without_asking_the_hub(maskgit: MaskGit) -> None:
    with pytest.raises(ValueError, match=r"owner/name, got 'me/two/three'"):
        maskgit.push_to_hub("me/two/three")

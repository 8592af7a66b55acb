import json
import pickle
import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from huggingface_hub import RepoUrl
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    OfflineModeIsEnabled,
)
from torch import Tensor

from magvit2_pytorch import MaskGit, VideoGenerationPipeline, VideoTokenizer, pretrained
from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.pipelines import TokenizationPipeline
from magvit2_pytorch.pretrained import FORMAT_VERSION

FORMATS = Path(__file__).parent
FORMAT_1 = FORMATS / "format_1"


def expected_of(version: int) -> dict[str, Tensor]:
    """Outputs of the release that wrote the files of a format version."""
    return safetensors.torch.load_file(FORMATS / f"format_{version}" / "expected.safetensors")


@pytest.mark.parametrize(
    ("version", "name", "folder"),
    [
        (1, "tokenizer", "pipeline/tokenizer"),
        (1, "folding_tokenizer", "folding_tokenizer"),
        (2, "tokenizer", "pipeline/tokenizer"),
        (3, "tokenizer", "pipeline/tokenizer"),
    ],
)
def test_a_tokenizer_of_each_format_gives_the_same_codes_and_pixels(version: int, name: str, folder: str) -> None:
    expected = expected_of(version)
    tokenizer = VideoTokenizer.from_pretrained(FORMATS / f"format_{version}" / folder)
    video, codes, cond = expected[f"{name}.video"], expected[f"{name}.codes"], expected.get(f"{name}.cond")

    with torch.no_grad():
        assert torch.equal(tokenizer.encode(video, cond), codes)
        latents = tokenizer.video_to_latents(video, cond)
        reconstruction = tokenizer.decode(codes, *video.shape[2:], cond=cond)
    torch.testing.assert_close(latents, expected[f"{name}.latents"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(reconstruction, expected[f"{name}.reconstruction"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_pipeline_of_each_format_has_the_same_models(version: int) -> None:
    expected = expected_of(version)
    pipeline = VideoGenerationPipeline.from_pretrained(FORMATS / f"format_{version}" / "pipeline")
    given = {name: expected[f"maskgit.{name}"] for name in ("tasks", "context") if f"maskgit.{name}" in expected}
    codes, labels = expected["maskgit.codes"], expected["maskgit.labels"]

    assert (pipeline.labels, pipeline.num_frames) == (("left", "right"), 5)
    with torch.no_grad():
        video, cond = expected["tokenizer.video"], expected.get("tokenizer.cond")
        assert torch.equal(pipeline.tokenizer.encode(video, cond), expected["tokenizer.codes"])
        for group, logits in enumerate(pipeline.maskgit(codes, labels, **given)):
            torch.testing.assert_close(logits, expected[f"maskgit.logits_{group}"], rtol=1e-5, atol=1e-5)
        if (judgement := expected.get("maskgit.judgement")) is not None:
            of_critic = pipeline.maskgit.criticize(codes, labels, **given)
            torch.testing.assert_close(of_critic, judgement, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_model_of_each_format_is_saved_in_the_newest(tmp_path: Path, version: int) -> None:
    folder = FORMATS / f"format_{version}" / "pipeline" / "maskgit"
    MaskGit.from_pretrained(folder).save_pretrained(tmp_path)

    assert read_json(folder / "config.json")["_format"] == version
    assert read_json(tmp_path / "config.json")["_format"] == FORMAT_VERSION
    MaskGit.from_pretrained(tmp_path)


@pytest.mark.parametrize(("version", "split", "bits"), [(1, 2, (4, 4)), (2, 3, (3, 3, 2))])
def test_a_transformer_of_an_older_format_keeps_its_sub_codes_and_is_given_nothing_new(
    version: int, split: int, bits: tuple[int, ...]
) -> None:
    config = MaskGit.load_config(FORMATS / f"format_{version}" / "pipeline" / "maskgit")

    assert (config.split, config.vocab_sizes) == (split, tuple(2**number for number in bits))
    assert (config.num_registers, config.qk_norm, config.tasks, config.dim_context) == (0, False, (), None)


@pytest.mark.parametrize(
    ("version", "got"),
    [(FORMAT_VERSION + 1, f"{FORMAT_VERSION + 1}; upgrade"), (0, "0$"), ("1", "'1'$"), (None, "None$")],
)
def test_a_format_that_is_not_known_is_refused_by_name(tmp_path: Path, version: object, got: str) -> None:
    MaskGit.from_pretrained(FORMAT_1 / "pipeline" / "maskgit").save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "_format": version})

    with pytest.raises(
        ValueError, match=rf"config\.json must .* format version from 1 to {FORMAT_VERSION}, got _format = {got}"
    ):
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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Folder of a pipeline that a test may damage."""
    shutil.copytree(FORMATS / "format_3" / "pipeline", tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("model", [VideoTokenizer, MaskGit])
def test_a_model_is_found_in_the_folder_of_a_pipeline(saved: Path, model: type[VideoTokenizer] | type[MaskGit]) -> None:
    found, there = model.from_pretrained(saved), model.from_pretrained(saved / model.part)

    assert found.config == there.config == model.from_pretrained(saved, subfolder=model.part).config


@pytest.mark.parametrize(
    "loaded", [VideoTokenizer, MaskGit, VideoGenerationPipeline, TokenizationPipeline], ids=lambda one: one.__name__
)
def test_type_and_device_are_chosen_when_loading(saved: Path, loaded: Any) -> None:
    one = loaded.from_pretrained(saved, dtype=torch.bfloat16, device="cpu")

    models = [one] if isinstance(one, torch.nn.Module) else one.models()
    assert {parameter.dtype for model in models for parameter in model.parameters()} == {torch.bfloat16}
    assert not any(model.training for model in models)
    with pytest.raises(TypeError, match="unknown option 'torch_dtyp'"):
        loaded.from_pretrained(saved, torch_dtyp=torch.bfloat16)


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("tokenizer", {"init_dim": 8000}, "size mismatch for"),
        ("tokenizer", {"layers": ["cond_residual"] * 900}, "at most 256 blocks"),
        ("tokenizer", {"layers": ["compress_space"] * 100_000}, "bytes, at most 262,144 are allowed"),
        ("tokenizer", {"layers": [["consecutive_residual", 10**6]]}, "consecutive_residual"),
        ("maskgit", {"depth": 1_000_000}, "describes 1000000 layers, at most 256 can be loaded"),
        ("maskgit", {"width": 2**16}, "size mismatch for"),
        ("maskgit", {"num_labels": 10**12}, "size mismatch for"),
        ("maskgit", {"num_labels": 10**18}, "calculation overflowed"),
    ],
)
def test_a_model_larger_than_its_weights_is_never_built(
    saved: Path, monkeypatch: pytest.MonkeyPatch, part: str, changes: dict[str, Any], said: str
) -> None:
    model = {"tokenizer": VideoTokenizer, "maskgit": MaskGit}[part]
    edit(saved / part / "config.json", **changes)
    built: list[str] = []
    from_config = model.from_config
    monkeypatch.setattr(
        model, "from_config", lambda config: built.append(torch.get_default_device().type) or from_config(config)
    )

    with pytest.raises(ValueError, match=said) as no:
        model.from_pretrained(saved / part)

    assert set(built) <= {"meta"}
    assert len(str(no.value)) < 1000


def rewritten(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change tensors of a safetensors file."""
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


WEIGHT = "mask_vector"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights[WEIGHT].fill_(float("nan")), "mask_vector contains NaN or infinity"),
        (lambda weights: weights[WEIGHT][-1:].fill_(float("-inf")), "mask_vector contains NaN or infinity"),
        (lambda weights: weights.update({WEIGHT: weights[WEIGHT].int()}), "mask_vector has type I32"),
        (lambda weights: weights.update({WEIGHT: weights[WEIGHT].bool()}), "mask_vector has type BOOL"),
        (lambda weights: weights.update({WEIGHT: weights[WEIGHT].to(torch.float8_e4m3fn)}), "mask_vector has type F8"),
        (lambda weights: weights.pop(WEIGHT), 'Missing key.*"mask_vector"'),
        (lambda weights: weights.update({"\x1b[31m\n": torch.ones(1)}), r"Unexpected key.*\\x1b\[31m"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_by_name(
    saved: Path, change: Callable[[dict[str, Tensor]], Any], said: str
) -> None:
    rewritten(saved / "maskgit" / "model.safetensors", change)

    with pytest.raises(ValueError, match=said) as no:
        MaskGit.from_pretrained(saved)

    assert str(no.value).isprintable()


def test_weights_may_have_another_floating_point_type_and_constants_their_values_only(saved: Path) -> None:
    weights = saved / "tokenizer" / "model.safetensors"
    rewritten(
        weights, lambda tensors: tensors.update({n: t.half() for n, t in tensors.items() if t.is_floating_point()})
    )
    assert VideoTokenizer.from_pretrained(saved).dtype == torch.float32

    rewritten(weights, lambda tensors: tensors["quantizer.lfq.mask"].add_(1))
    with pytest.raises(ValueError, match=r"quantizer\.lfq\.mask is a constant"):
        VideoTokenizer.from_pretrained(saved)


class Payload:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


CANARY = Path(tempfile.gettempdir()) / "magvit2-canary"


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Payload(CANARY)),
        b"",
        b"1234567",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 10**6) + b"[" * 10**6,
        struct.pack("<Q", 2) + b"{}",
    ],
    ids=["pickle", "empty", "short", "header beyond the file", "nested", "no tensors"],
)
def test_a_file_that_holds_no_weights_is_refused_and_runs_nothing(saved: Path, content: bytes) -> None:
    (saved / "tokenizer" / "model.safetensors").write_bytes(content)

    with pytest.raises(ValueError, match="does not contain the weights of this VideoTokenizer"):
        VideoTokenizer.from_pretrained(saved)

    assert not CANARY.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": [1, 2]}, r"labels\[0\] must be str, got 1"),
        ({"labels": ["a", "a"]}, "labels must differ, got 'a' twice"),
        ({"labels": ["a\ud800", "b"]}, "not valid Unicode"),
        ({"labels": ["a"]}, "labels must have 2 names, got 1"),
        ({"num_frames": True}, "num_frames must be int, got True"),
        ({"num_frames": 0}, "num_frames must be an integer from 1 to"),
        ({"num_frames": 10**12}, "num_frames must be an integer from 1 to"),
        ({"num_frames": 10**7}, "too large"),
        ({"label": []}, "unknown field 'label' of PipelineIndex: did you mean 'labels'"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_an_index_that_cannot_be_used_is_refused(saved: Path, changes: dict[str, Any], said: str) -> None:
    edit(saved / "model_index.json", **changes)

    with pytest.raises(ValueError, match=said):
        VideoGenerationPipeline.from_pretrained(saved)


def test_a_window_that_would_fill_the_memory_is_refused(saved: Path) -> None:
    edit(saved / "maskgit" / "config.json", grid=[10**9, 1, 1])

    with pytest.raises(ValueError, match="too large"):
        VideoGenerationPipeline.from_pretrained(saved)


def test_nothing_is_written_through_links(saved: Path, tmp_path: Path) -> None:
    pipeline = VideoGenerationPipeline.from_pretrained(saved)
    elsewhere = tmp_path / "elsewhere"
    (saved / "maskgit").rename(elsewhere)
    (saved / "maskgit").symlink_to(elsewhere)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}

    with pytest.raises(ValueError, match="maskgit is a symbolic link to another folder"):
        pipeline.save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before

    (saved / "maskgit").unlink()
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text("theirs")
        (saved / "tokenizer" / name).unlink(missing_ok=True)
        (saved / "tokenizer" / name).symlink_to(tmp_path / name)
    (saved / "tokenizer" / "README.md").unlink()
    (saved / "tokenizer" / "README.md").symlink_to(tmp_path / "missing")  # exists neither there nor here
    pipeline.save_pretrained(saved)

    assert {(tmp_path / name).read_text() for name in ("config.json", "model.safetensors")} == {"theirs"}
    assert not (tmp_path / "missing").exists()
    assert not any(path.is_symlink() for path in saved.rglob("*"))
    VideoGenerationPipeline.from_pretrained(saved)


def test_labels_that_cannot_be_written_are_refused_before_anything_is(saved: Path, tmp_path: Path) -> None:
    pipeline = VideoGenerationPipeline.from_pretrained(saved)
    pipeline.labels = ("a\udcff", "b")

    with pytest.raises(ValueError, match=r"udcff' is not valid Unicode"):
        pipeline.save_pretrained(tmp_path / "new")

    assert not (tmp_path / "new").exists()


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

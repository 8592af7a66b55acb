from dataclasses import replace

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from magvit2_pytorch.train import tokenizer, trackers
from magvit2_pytorch.train.command_line import parse_run
from magvit2_pytorch.train.session import create_accelerator
from magvit2_pytorch.train.tokenizer import PRESETS, TokenizerRun


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("wanbd",), "unknown tracker 'wanbd': did you mean 'wandb'"),
        (("all",), "unknown tracker 'all'"),
        (("none", "tensorboard"), "trackers must be none or names of trackers, got none tensorboard"),
    ],
)
def test_an_unknown_tracker_is_refused(tokenizer_run: TokenizerRun, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(tokenizer_run, trackers=names)


def test_a_tracker_whose_package_is_missing_is_refused_before_anything_is_written(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard"])
    run = replace(tokenizer_run, trackers=("tensorboard", "comet_ml"))

    with pytest.raises(ValueError, match=r"the tracker comet_ml needs .*: run `pip install comet-ml`, .*--trackers"):
        tokenizer.train(run)

    assert not run.output_dir.exists()


def test_trackers_are_options_of_the_command_line() -> None:
    def parsed(*arguments: str) -> tuple[str, ...]:
        return parse_run(PRESETS, description="", arguments=["demo", *arguments]).trackers

    assert parsed() == ("tensorboard",)
    assert parsed("--trackers", "wandb", "tensorboard", "wandb") == ("wandb", "tensorboard")
    assert parsed("--trackers", "none") == ()


class Recorder(GeneralTracker):
    """Stands in for a tracker whose package is not installed."""

    name = "wandb"
    requires_logging_directory = False

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self.settings: dict[str, object] = {}
        self.logged: list[tuple[int | None, set[str]]] = []
        self.is_finished = False

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict[str, object]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: object) -> None:
        self.logged.append((step, set(values)))

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """The trackers that accelerate has made for the name wandb."""
    made: list[Recorder] = []

    def make(run_name: str) -> Recorder:
        made.append(Recorder(run_name))
        return made[-1]

    make.requires_logging_directory = False  # type: ignore[attr-defined]
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD, LoggerType.WANDB])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", make)
    return made


def test_another_tracker_gets_the_settings_and_the_values_of_the_file(
    tokenizer_run: TokenizerRun, recorders: list[Recorder]
) -> None:
    tokenizer.train(replace(tokenizer_run, trackers=("wandb",)))

    (recorder,) = recorders
    assert recorder.run_name == "magvit2-pytorch"
    assert recorder.settings["optimizer.learning_rate"] == 1e-3
    assert all(isinstance(value, int | float | str) for value in recorder.settings.values())
    assert [step for step, _ in recorder.logged] == [2, 4, 4, 6, 6]
    assert recorder.logged[0][1] >= {"loss/reconstruction", "optimizer/gradient_norm", "speed/clips_per_second"}
    assert "heldout/psnr" in recorder.logged[2][1]
    assert recorder.is_finished
    assert not (tokenizer_run.output_dir / "tensorboard").exists()


def test_a_run_can_be_resumed_with_other_trackers(tokenizer_run: TokenizerRun, recorders: list[Recorder]) -> None:
    assert tokenizer.train(replace(tokenizer_run, stop_after=3, trackers=("none",))) is None
    assert not (tokenizer_run.output_dir / "tensorboard").exists()

    assert tokenizer.train(replace(tokenizer_run, trackers=("tensorboard", "wandb"))) is not None

    assert list((tokenizer_run.output_dir / "tensorboard").glob("events*"))
    assert [step for step, _ in recorders[0].logged] == [4, 4, 6, 6]


def test_without_trackers_accelerate_has_none(tokenizer_run: TokenizerRun) -> None:
    assert create_accelerator(replace(tokenizer_run, trackers=())).log_with == []

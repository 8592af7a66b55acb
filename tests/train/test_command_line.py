from pathlib import Path

import pytest

from magvit2_pytorch.pretrained import config_to_dict, write_json
from magvit2_pytorch.tokenizer import TokenizerConfig
from magvit2_pytorch.train.command_line import format_layers, parse_layers, parse_run
from magvit2_pytorch.train.maskgit import PRESETS as MASKGIT_PRESETS
from magvit2_pytorch.train.tokenizer import PRESETS, TokenizerRun


def parsed(*arguments: str) -> TokenizerRun:
    return parse_run(PRESETS, description="A test.", arguments=arguments)


def test_without_arguments_it_is_the_demo_preset() -> None:
    assert parsed() == PRESETS["demo"]
    assert parse_run(MASKGIT_PRESETS, description="A test.", arguments=[]) == MASKGIT_PRESETS["demo"]


def test_a_preset_and_options_that_change_it() -> None:
    run = parsed(
        *("shapes", "--num-steps", "7", "--optimizer.learning-rate", "0.5", "--output-dir", "elsewhere"),
        *("--model.layers", "residual,compress_space:96,attend_time", "--data.resolution", "32", "--resume"),
    )

    assert (run.num_steps, run.optimizer.learning_rate, run.output_dir) == (7, 0.5, Path("elsewhere"))
    assert run.model.layers == ("residual", ("compress_space", 96), "attend_time")
    assert (run.data.path, run.data.resolution, run.model.image_size, run.resume) == ("shapes", 32, 32, True)


def test_the_config_of_a_run_can_be_given_back(tmp_path: Path) -> None:
    run = parsed("--num-steps", "7", "--model.layers", "residual,compress_space:96", "--stop-after", "3")
    write_json(tmp_path / "config.json", config_to_dict(run))

    again = parsed("--config", str(tmp_path / "config.json"), "--seed", "5")

    assert (again.num_steps, again.model, again.seed) == (7, run.model, 5)
    assert again.stop_after is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--num-stepz", "3"), "--num-steps"),
        (("--model.codebook-sise", "8"), "--model.codebook-size"),
        (("--model.layers", "residual compress_space 128"), "residual,compress_space:128"),
        (("--model.layers", "residul"), "unknownlayerkind'residul'"),
    ],
)
def test_a_misspelled_option_stops_and_names_what_was_meant(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((SystemExit, ValueError)) as stop:
        parsed(*arguments)

    printed = capsys.readouterr()
    everything = printed.out + printed.err + str(stop.value)
    assert said in "".join(character for character in everything if character not in " \n│")


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match="no preset 'dmeo', allowed are demo, shapes, base"):
        parsed("dmeo")


def test_help_names_the_presets_and_explains_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")

    printed = capsys.readouterr().out
    for text in ("demo, shapes, base", "--config", "KIND[:WIDTH]", "Optimizer steps."):
        assert text in printed


def test_layers_have_one_written_form() -> None:
    layers = TokenizerConfig().layers

    assert parse_layers(format_layers(layers)) == layers
    for text in ("residual,", "residual compress_space", "residual:", ""):
        with pytest.raises(ValueError, match="layers are written like"):
            parse_layers(text)

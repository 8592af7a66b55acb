from dataclasses import replace
from pathlib import Path

import pytest

from magvit2_pytorch.configs import config_to_dict
from magvit2_pytorch.files import write_json
from magvit2_pytorch.tokenizer import DiscriminatorConfig, TokenizerConfig
from magvit2_pytorch.tokenizer.presets import PRESETS as MODEL_PRESETS
from magvit2_pytorch.train.codes import CodesConfig
from magvit2_pytorch.train.command_line import (
    format_discriminators,
    format_layers,
    format_tasks,
    parse_discriminators,
    parse_layers,
    parse_run,
    parse_tasks,
)
from magvit2_pytorch.train.maskgit import PRESETS as MASKGIT_PRESETS
from magvit2_pytorch.train.task_mix import ALL_TASKS, WeightedTask
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
    assert (run.data.path, run.data.resolution, run.model.image_size) == ("shapes", 32, 32)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ("--output-dir=~/runs", "--tokenizer", "~/tokenizer")

    run = parse_run(MASKGIT_PRESETS, description="A test.", arguments=arguments)

    assert (run.output_dir, run.tokenizer) == (tmp_path / "runs", tmp_path / "tokenizer")


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


def test_an_unknown_preset_is_refused_and_the_allowed_ones_are_named() -> None:
    with pytest.raises(SystemExit, match=r"unknown preset 'dmeo': did you mean 'demo'\? Allowed: demo, shapes, "):
        parsed("dmeo")


def test_help_names_the_presets_and_explains_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")

    printed = capsys.readouterr().out
    for text in (
        "demo, shapes, shapes-tasks, laptop, arcade, general, arcade64, general64, base, magvit2-small, magvit2",
        "--config",
        "KIND[:ARGUMENT...]",
        "Number of optimizer steps.",
    ):
        assert text in printed


def test_layers_have_one_written_form() -> None:
    for config in (TokenizerConfig(), *MODEL_PRESETS.values()):
        for layers in (config.layers, config.decoder_layers or ()):
            assert not layers or parse_layers(format_layers(layers)) == layers
    assert parse_layers("compress:2x1x1:64, local_attend_time:4") == (
        ("compress", (2, 1, 1), 64),
        ("local_attend_time", 4),
    )
    for text in ("residual,", "residual compress_space", "residual:", "compress:2x", "compress:2x2x2:", ""):
        with pytest.raises(ValueError, match="layers must have the form"):
            parse_layers(text)


def test_the_decoders_layers_and_the_levels_can_be_given(tmp_path: Path) -> None:
    run = parsed(
        *("--model.decoder-layers", "residual,compress:1x2x2:96,adaptive_norm,compress:1x2x2:192"),
        *("--model.quantizer", "fsq", "--model.fsq-levels", "8", "5", "--model.codebook-size", "40"),
    )
    write_json(tmp_path / "config.json", config_to_dict(run))

    assert run.model.decoder_layers == (
        *("residual", ("compress", (1, 2, 2), 96), "adaptive_norm"),
        ("compress", (1, 2, 2), 192),
    )
    assert run.model.fsq_levels == (8, 5)
    assert parsed("--config", str(tmp_path / "config.json")) == run


def test_discriminators_have_one_written_form() -> None:
    discriminators = (
        DiscriminatorConfig(),
        DiscriminatorConfig(frame_stride=2, width=16),
        DiscriminatorConfig(frame_stride=4, width=16, patch_size=2),
        DiscriminatorConfig(frame_stride=4, width=8, patch_size=2, weight=0.25),
        DiscriminatorConfig(frame_stride=3, width=8, sees="details"),
    )

    assert parse_discriminators("1,2:16,4:16:2,4:8:2:.25,details:3:8") == discriminators
    for given in (discriminators, ()):
        assert parse_discriminators(format_discriminators(given)) == given
    for text in ("1,", "1:", "one", "1 2", "1:16:1:heavy", "details:", "pixels:1", ""):
        with pytest.raises(ValueError, match="discriminators must have the form"):
            parse_discriminators(text)


def test_the_adversary_can_be_given_and_given_back(tmp_path: Path) -> None:
    run = parsed(
        *("--adversarial.discriminators", "1:16,4:16", "--adversarial.loss", "hinge", "--adversarial.adaptive-weight"),
        *("--adversarial.optimizer.learning-rate", "2e-4", "--adversarial.start-step", "7"),
        *("--annealing.entropy-factor", "3", "--annealing.inverse-temperature", "0.5"),
    )
    write_json(tmp_path / "config.json", config_to_dict(run))

    again = parsed("--config", str(tmp_path / "config.json"))

    assert again == run
    assert [one.frame_stride for one in run.adversarial.discriminators] == [1, 4]
    assert (run.adversarial.loss, run.adversarial.optimizer.learning_rate) == ("hinge", 2e-4)
    assert parsed("--config", str(tmp_path / "config.json"), "--adversarial.discriminators", "none").adversarial == (
        replace(run.adversarial, discriminators=())
    )


def test_an_adversary_that_would_never_start_is_refused() -> None:
    with pytest.raises((SystemExit, ValueError), match=r"start_step must be less than num_steps, got 7 and 7|2"):
        parsed("--num-steps", "7", "--adversarial.discriminators", "1:16", "--adversarial.start-step", "7")


def test_tasks_have_one_written_form() -> None:
    mix = (WeightedTask(name="class_generation", weight=2.0), WeightedTask(name="frame_prediction"))

    assert parse_tasks("class_generation:2, frame_prediction") == mix
    assert parse_tasks("all") == ALL_TASKS
    assert parse_tasks("none") == ()
    for given in (mix, ALL_TASKS, (), ALL_TASKS[:3], (replace(mix[0], weight=1e-7),)):
        assert parse_tasks(format_tasks(given)) == given
    for text in ("", "class_generation:", "class_generation:two", "class_generation 2", "class_generation,"):
        with pytest.raises(ValueError, match=r"tasks must have the form TASK\[:WEIGHT\]"):
            parse_tasks(text)
    with pytest.raises(ValueError, match=r"did you mean 'class_generation'.* Allowed: frame_prediction, "):
        parse_tasks("class_generatoin:2")
    with pytest.raises(ValueError, match="each task must appear at most once, got class_generation 2 times"):
        parse_tasks("class_generation,class_generation:2")
    with pytest.raises(ValueError, match="the weight of class_generation must be positive"):
        parse_tasks("class_generation:0")


def test_tasks_can_be_given_and_given_back(tmp_path: Path) -> None:
    arguments = ["demo", "--tasks", "class_generation:2,central_inpainting", "--model.critic"]
    run = parse_run(MASKGIT_PRESETS, description="A test.", arguments=arguments)
    write_json(tmp_path / "config.json", config_to_dict(run))

    again = parse_run(MASKGIT_PRESETS, description="A test.", arguments=["--config", str(tmp_path / "config.json")])

    assert again == run
    assert [(task.name, task.weight) for task in run.tasks] == [("class_generation", 2.0), ("central_inpainting", 1.0)]
    assert run.model.critic
    assert MASKGIT_PRESETS["demo"].tasks == ()
    assert [task.name for task in MASKGIT_PRESETS["shapes-tasks"].tasks] == [task.name for task in ALL_TASKS]


def test_without_tasks_hidden_codes_alone_are_trained() -> None:
    weight_of = {name: run.loss_weights.reconstructed_code for name, run in MASKGIT_PRESETS.items()}

    assert weight_of.pop("shapes-tasks") > 0
    assert set(weight_of.values()) == {0.0}


def test_the_choice_of_codes_can_be_given_and_given_back(tmp_path: Path) -> None:
    def parsed_codes(*arguments: str) -> CodesConfig:
        return parse_run(MASKGIT_PRESETS, description="A test.", arguments=arguments).codes

    assert parsed_codes() == CodesConfig(passes=None, online=False)
    assert parsed_codes("demo", "--codes.passes", "3") == CodesConfig(passes=3)
    assert parsed_codes("base", "--codes.online") == CodesConfig(online=True)
    run = parse_run(
        MASKGIT_PRESETS, description="A test.", arguments=["laptop", "--codes.online", "--codes.passes", "7"]
    )
    write_json(tmp_path / "config.json", config_to_dict(run))
    assert run.codes == CodesConfig(passes=7, online=True)
    assert parsed_codes("--config", str(tmp_path / "config.json")) == run.codes
    with pytest.raises((SystemExit, ValueError), match=r"passes must be at least 1, got 0|2"):
        parsed_codes("--codes.passes", "0")


def test_the_config_of_a_run_from_before_codes_were_chosen_is_that_of_the_default(tmp_path: Path) -> None:
    config = config_to_dict(MASKGIT_PRESETS["demo"])
    del config["codes"]
    write_json(tmp_path / "config.json", config)

    run = parse_run(MASKGIT_PRESETS, description="A test.", arguments=["--config", str(tmp_path / "config.json")])

    assert run == MASKGIT_PRESETS["demo"]

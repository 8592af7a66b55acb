"""The console script `magvit2`. A command imports what it needs when it is called."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .cli_generation import generate, inpaint, interpolate, outpaint, predict
from .cli_options import Positional
from .cli_tokenization import detokenize, info, reconstruct, tokenize
from .files import as_path
from .messages import printable


def demo(
    *,
    output_dir: Path = Path("outputs/demo"),
    data: str = "clips",
    seed: int = 0,
    tokenizer_steps: int | None = None,
    maskgit_steps: int | None = None,
) -> None:
    """Train both stages from nothing (6 to 10 minutes on two cores), then generate video: `magvit2 demo`.

    An interrupted demo continues where it stopped. A finished one is never overwritten.

    Args:
        output_dir: Output folder.
        data: Videos to train on: clips (the four shipped clips) or arcade (eight arcade games).
        seed: Random seed. The same seed gives the same result.
        tokenizer_steps: Optimizer steps of stage one. Few steps are enough for a test run.
        maskgit_steps: Optimizer steps of stage two.
    """
    from .train.demo import DemoConfig, run_demo

    run_demo(
        DemoConfig(
            output_dir=as_path(output_dir),
            data=data,
            seed=seed,
            tokenizer_steps=tokenizer_steps,
            maskgit_steps=maskgit_steps,
        )
    )


def plot(
    runs: Positional[tuple[Path, ...]],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("curves.png"),
) -> None:
    """Draw the curves of training runs into one picture: `magvit2 plot outputs/tokenizer outputs/other -o curves.png`.

    Args:
        runs: Folders of training runs of either stage.
        output: Output file: .png, .svg or .pdf.
    """
    from .train.curves import plot_runs

    num_panels = plot_runs([as_path(run) for run in runs], as_path(output))
    print(f"{printable(output)}: {num_panels} curves of {len(runs)} run(s)")


def train(stage: Positional[Literal["tokenizer", "maskgit"]]) -> None:
    """Train a stage on your own videos: `magvit2 train tokenizer`, then `magvit2 train maskgit`.

    The commands are those of train/tokenizer.py and train/maskgit.py. `--help` after a stage lists its options.

    Args:
        stage: tokenizer (stage one) or maskgit (stage two).
    """
    if stage == "tokenizer":
        from .train.tokenizer import main as train_stage
    else:
        from .train.maskgit import main as train_stage
    train_stage()


MAX_MESSAGE = 2000  # characters
COMMANDS = (
    *(generate, predict, interpolate, inpaint, outpaint, reconstruct, tokenize, detokenize, info, demo),
    *(train, plot),
)


def main() -> None:
    """Run a command. Invalid input ends it with a message on one line."""
    import magvit2_pytorch

    if "VideoGenerationPipeline" not in getattr(magvit2_pytorch, "__all__", ()):
        sys.exit(
            f"{magvit2_pytorch.__file__} belongs to another package of the same name: "
            "run `pip uninstall magvit2-pytorch`, then `pip install -e .` in the clone of this one"
        )
    match sys.argv[1:]:
        case ["train"]:
            sys.argv.append("--help")
        case ["train", ("tokenizer" | "maskgit") as stage, *arguments]:
            sys.argv = [f"magvit2 train {stage}", *arguments]  # the stage reads them itself, --help too
            return train(stage)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        tyro.extras.subcommand_cli_from_dict(
            {command.__name__: command for command in COMMANDS},
            prog="magvit2",
            description="MAGVIT-v2 video tokenizer and MaskGIT: generate video, tokenize it, train.",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"magvit2: {printable(' '.join(str(error).split()), MAX_MESSAGE)}")


if __name__ == "__main__":
    main()

"""The console script `magvit2`. A verb imports what it needs when it is called."""

import logging
import sys
from pathlib import Path

import tyro

from .cli_generation import generate, inpaint, interpolate, outpaint, predict
from .cli_tokenization import detokenize, info, reconstruct, tokenize


def demo(
    *,
    output_dir: Path = Path("outputs/demo"),
    seed: int = 0,
    tokenizer_steps: int | None = None,
    maskgit_steps: int | None = None,
) -> None:
    """Train both stages on the shipped clips in some 9 minutes on two cores, then generate video: `magvit2 demo`.

    Interrupted, it goes on where it was; a finished one is never overwritten.

    Args:
        output_dir: Folder for everything that is made.
        seed: The same seed gives the same result.
        tokenizer_steps: Optimizer steps of stage one; fewer for a quick look at the machinery.
        maskgit_steps: Optimizer steps of stage two.
    """
    from .train.demo import DemoConfig, run_demo

    steps = {"tokenizer_steps": tokenizer_steps, "maskgit_steps": maskgit_steps}
    chosen = {name: value for name, value in steps.items() if value is not None}
    run_demo(DemoConfig(output_dir=output_dir, seed=seed, **chosen))


VERBS = (generate, predict, interpolate, inpaint, outpaint, reconstruct, tokenize, detokenize, info, demo)


def main() -> None:
    """Run the verb that the command line names; what the user got wrong ends it in one line."""
    import magvit2_pytorch

    if "VideoGenerationPipeline" not in getattr(magvit2_pytorch, "__all__", ()):
        sys.exit(
            f"{magvit2_pytorch.__file__} is of another package of the same name: "
            "run `pip uninstall magvit2-pytorch`, then `pip install -e .` in the clone of this one"
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        tyro.extras.subcommand_cli_from_dict(
            {verb.__name__: verb for verb in VERBS},
            prog="magvit2",
            description="MAGVIT-v2 video tokenizer and MaskGIT: generate video, tokenize it, train.",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"magvit2: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()

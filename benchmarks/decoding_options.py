"""Command-line argument with options of `VideoGenerationPipeline.generate`, for benchmarks of samples."""

import argparse
import ast
from typing import Any


def add_decoding_options(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add `--decode NAME=VALUE ...`; pass its value, a list of pairs, to `dict`."""
    default = list(defaults.items())
    shown = " ".join(f"{name}={value}" for name, value in default) or "those of generate"
    parser.add_argument(
        "--decode",
        nargs="+",
        type=decoding_option,
        default=default,
        metavar="NAME=VALUE",
        help=f"options of generate for the samples, for example num_steps=24 order=random (default: {shown})",
    )


def decoding_option(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE. Values are Python literals; everything else is a string."""
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value

"""Commands that tokenize videos, and the one that describes files and folders."""

from pathlib import Path
from typing import TYPE_CHECKING

from .cli_options import PIPELINE, Positional, Reading, Tokenizer, TokenizerOptions
from .files import as_path
from .messages import printable

if TYPE_CHECKING:
    from .pipelines import TokenizationPipeline


def reconstruct(
    video: Positional[Path],
    /,
    *,
    output: Path = Path("reconstruction.mp4"),
    side_by_side: bool = False,
    fps: float | None = None,
    min_width: int = 0,
    reading: Reading,
    model: Tokenizer,
) -> None:
    """Encode and decode a video with the tokenizer: `magvit2 reconstruct film.mp4 --side-by-side --output both.gif`.

    Args:
        video: Video of any length, or an image, which is a video of one frame.
        output: Output file: .mp4 or .gif, for a single frame also .png or .jpg.
        side_by_side: Show original and reconstruction side by side.
        fps: Frames per second of the output, by default those of the video.
        min_width: Enlarge the output by an integer factor to at least this width in pixels.
    """
    from .pipelines.media.video_files import check_ending

    check_ending(output, video)
    written = loaded(model).reconstruct(
        video,
        output=output,
        side_by_side=side_by_side,
        fps=fps,
        min_width=min_width,
        max_frames=reading.max_frames,
        own_size=reading.own_size,
    )
    print(f"{printable(output)}: {written.num_frames} frames, PSNR {written.psnr:.2f} dB")


def tokenize(
    video: Positional[Path],
    /,
    *,
    output: Path = Path("codes.safetensors"),
    reading: Reading,
    model: Tokenizer,
) -> None:
    """Turn a video into a file of codes: `magvit2 tokenize film.mp4 --output film.safetensors`.

    Args:
        video: Video of any length, or an image, which is a video of one frame.
        output: Output file (.safetensors).
    """
    from .pipelines.code_files import check_code_ending

    check_code_ending(output, video)
    codes = loaded(model).tokenize(video, output=output, max_frames=reading.max_frames, own_size=reading.own_size)
    info, grid = codes.info, " x ".join(map(str, codes.shape[1:]))
    print(
        f"{printable(output)}: {info.num_frames} frames of {info.height} x {info.width} pixels as {grid} codes, "
        f"{codes.bits_per_pixel:.4f} bits per pixel"
    )


def detokenize(
    codes: Positional[Path],
    /,
    *,
    output: Path = Path("video.mp4"),
    fps: float | None = None,
    min_width: int = 0,
    model: Tokenizer,
) -> None:
    """Turn a file of codes back into a video: `magvit2 detokenize film.safetensors --output film.mp4`.

    Args:
        codes: File of codes that were made with this tokenizer (--model).
        output: Output file: .mp4 or .gif, for a single frame also .png or .jpg.
        fps: Frames per second of the output, by default those of the tokenized video.
        min_width: Enlarge the output by an integer factor to at least this width in pixels.
    """
    from .pipelines.media.video_files import check_ending

    check_ending(output, codes)
    written = loaded(model).detokenize(codes, output=output, fps=fps, min_width=min_width)
    print(f"{printable(output)}: {written.num_frames} frames, {written.fps:g} per second")


def info(path: Positional[Path] = PIPELINE, /) -> None:
    """Describe a file or folder: `magvit2 info general64`, `magvit2 info film.safetensors`.

    Args:
        path: Folder or Hub name of a pipeline or model, name of weights in the package, folder of a training run, or
            file of codes.
    """
    from .model_card import MAX_FACT
    from .pipelines.info import facts_of
    from .train.run_folder import run_facts

    path = as_path(path)
    facts = run_facts(path) or facts_of(path)
    width = max(map(len, facts))
    print("\n".join(f"{name:{width}}  {printable(fact, MAX_FACT)}" for name, fact in facts.items()))


def loaded(model: TokenizerOptions) -> "TokenizationPipeline":
    """Load the tokenizer onto its device.

    Raises:
        FileNotFoundError: if there is no such folder or repository.
        ValueError: if it contains no tokenizer, or if there is no such device.
    """
    from .devices import chosen_device
    from .pipelines import TokenizationPipeline

    return TokenizationPipeline.from_pretrained(model.model, device=chosen_device(model.device))

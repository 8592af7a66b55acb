"""The console script `magvit2`. A verb imports what it needs when it is called."""

import logging
import sys
from pathlib import Path

import torch
import tyro


def generate(
    pipeline: tyro.conf.Positional[Path] = Path("outputs/demo/pipeline"),
    /,
    *,
    output: Path = Path("sample.mp4"),
    labels: tuple[str, ...] = (),
    num_frames: int | None = None,
    num_steps: int = 12,
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    choice_temperature: float = 8.0,
    seed: int | None = None,
    fps: float = 12,
    device: str | None = None,
) -> None:
    """Generate videos: `magvit2 generate outputs/demo/pipeline --labels sintel --seed 0 --output sample.gif`.

    Args:
        pipeline: Folder or Hub name of a pipeline.
        output: File to write: .mp4, .gif, or .png for frames in a row.
        labels: Names or indices, one video for each; without any, one of a random label.
        num_frames: Frames, up to those trained on; 1 makes an image.
        num_steps: Passes through the transformer.
        guidance_scale: How strongly the label is followed; 1 is no guidance.
        temperature: Less is safer, more is wilder.
        choice_temperature: How much chance there is in which codes are settled first.
        seed: The same seed gives the same videos.
        fps: Frames per second of the file.
        device: Where to compute, say cpu or cuda:1; by default the accelerator that is there.
    """
    from .pipelines import VideoGenerationPipeline
    from .pipelines.video_files import check_ending

    check_ending(output)
    model = VideoGenerationPipeline.from_pretrained(pipeline).to(chosen_device(device))
    videos = model.generate(
        num_frames,
        [int(label) if label.isdecimal() and label not in model.labels else label for label in labels] or None,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        temperature=temperature,
        choice_temperature=choice_temperature,
        seed=seed,
    )
    videos.save(output, fps=fps)
    print(f"{output}: {', '.join(videos.labels)}")


def reconstruct(
    video: tyro.conf.Positional[Path],
    /,
    *,
    model: Path = Path("outputs/demo/pipeline"),
    output: Path = Path("reconstruction.mp4"),
    max_frames: int | None = None,
    fps: float | None = None,
    device: str | None = None,
) -> None:
    """Send a video through the tokenizer: `magvit2 reconstruct my_video.mp4 --output reconstruction.gif`.

    The result shows the original, cropped and resized to what the tokenizer was trained for, beside the
    reconstruction.

    Args:
        video: File to read.
        model: Folder or Hub name of a pipeline.
        output: File to write: .mp4 or .gif, or .png for a single frame.
        max_frames: Read only so many frames.
        fps: Frames per second of the file; by default those of the video.
        device: Where to compute, say cpu or cuda:1; by default the accelerator that is there.
    """
    from .pipelines import VideoGenerationPipeline
    from .pipelines.pictures import MIN_WIDTH
    from .pipelines.video_files import check_ending

    check_ending(output)
    pipeline = VideoGenerationPipeline.from_pretrained(model).to(chosen_device(device))
    written = pipeline.reconstruct(
        video, output=output, side_by_side=True, fps=fps, max_frames=max_frames, min_width=MIN_WIDTH
    )
    print(f"{output}: {written.num_frames} frames, PSNR {written.psnr:.2f} dB")


def demo(
    *,
    output_dir: Path = Path("outputs/demo"),
    seed: int = 0,
    tokenizer_steps: int | None = None,
    maskgit_steps: int | None = None,
) -> None:
    """Train both stages on the shipped clips in some 9 minutes on two cores, then generate video.

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


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; without one the accelerator that is there, or the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {name!r} here: {str(error).splitlines()[0]}") from error


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
            {"generate": generate, "reconstruct": reconstruct, "demo": demo},
            prog="magvit2",
            description="MAGVIT-v2 video tokenizer and MaskGIT: train, generate, reconstruct.",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"magvit2: {error}")


if __name__ == "__main__":
    main()

"""Commands that generate videos."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_options import (
    PIPELINE,
    Box,
    Model,
    ModelOptions,
    Picture,
    PictureOptions,
    Positional,
    Reading,
    ReadingOptions,
    Sampling,
    SamplingOptions,
)
from .messages import printable

if TYPE_CHECKING:
    from torch import Tensor

    from .pipelines import VideoGenerationPipeline


def generate(
    pipeline: Positional[Path] = PIPELINE,
    /,
    *,
    output: Path = Path("sample.mp4"),
    num_frames: int | None = None,
    device: str | None = None,
    sampling: Sampling,
    picture: Picture,
) -> None:
    """Generate videos: `magvit2 generate --labels snake maze --seed 0 --output samples.gif`.

    Args:
        pipeline: Folder or Hub name of a pipeline, or weights that come with the package: arcade64.
        output: Output file: .mp4, .gif, or .png (one row of frames per video).
        num_frames: Number of frames, 1 for an image; by default the length of the training clips.
        device: Device such as cpu or cuda:1, by default the accelerator if there is one.
    """
    model = loaded(ModelOptions(model=pipeline, device=device), output, picture)
    make(model, output, sampling, picture, num_frames=num_frames)


def predict(
    video: Positional[Path],
    /,
    *,
    output: Path = Path("prediction.mp4"),
    given: int = 5,
    frames: int | None = None,
    reading: Reading,
    model: Model,
    sampling: Sampling,
    picture: Picture,
) -> None:
    """Continue a video: `magvit2 predict film.mp4 --frames 32 --output prediction.mp4`.

    The output contains the last frames of the video, then the new ones.

    Args:
        video: Video to continue, or an image, which is a video of one frame.
        output: Output file: .mp4, .gif, or .png (one row of frames per video).
        given: Number of frames at the end of the video to condition on.
        frames: Number of new frames; by default the output has the length of the training clips.
    """
    from .pipelines.media.file_clips import last_frames

    pipeline = loaded(model, output, picture, video)
    clip = last_frames(video, given, size(pipeline, reading), reading.max_frames)
    num_frames = length(pipeline, clip.pixels.shape[1], frames)
    make(pipeline, output, sampling, picture, fps=clip.fps, num_frames=num_frames, frames=clip.pixels)


def interpolate(
    first: Positional[Path],
    last: Positional[Path],
    /,
    *,
    output: Path = Path("interpolation.mp4"),
    given: int = 1,
    frames: int | None = None,
    reading: Reading,
    model: Model,
    sampling: Sampling,
    picture: Picture,
) -> None:
    """Generate the frames between two images or videos: `magvit2 interpolate first.png last.png --output between.gif`.

    The output starts with the last frames of FIRST and ends with the first frames of LAST.

    Args:
        first: Image or video before the gap. Its last frames are used.
        last: Image or video after the gap. Its first frames are used.
        output: Output file: .mp4, .gif, or .png (one row of frames per video).
        given: Number of frames to use from each file.
        frames: Number of new frames; by default the output has the length of the training clips.
    """
    from .pipelines.media.file_clips import first_frames, last_frames

    pipeline = loaded(model, output, picture, first, last)
    before = last_frames(first, given, size(pipeline, reading), reading.max_frames)
    after = first_frames(last, given, size(pipeline, reading))
    num_frames = length(pipeline, before.pixels.shape[1] + after.pixels.shape[1], frames)
    ends = {"frames": before.pixels, "last_frames": after.pixels}
    make(pipeline, output, sampling, picture, fps=before.fps or after.fps, num_frames=num_frames, **ends)


def inpaint(
    video: Positional[Path],
    /,
    *,
    mask: Path | None = None,
    box: Box | None = None,
    output: Path = Path("inpainted.mp4"),
    side_by_side: bool = False,
    reading: Reading,
    model: Model,
    sampling: Sampling,
    picture: Picture,
) -> None:
    """Fill in a part of a video: `magvit2 inpaint film.mp4 --box 16 16 32 32 --output filled.mp4`.

    Args:
        video: Video to change.
        mask: Image or video of the same size as the video, white where pixels are generated.
        box: Instead of a mask: top, left, height and width of the generated part, in pixels of the video.
        output: Output file: .mp4, .gif, or .png (one row of frames per video).
        side_by_side: Show the given pixels and the result side by side.
    """
    from .pipelines.media.file_clips import check_one, masked_frames

    check_one(mask=mask, box=box)
    pipeline = loaded(model, output, picture, video, mask)
    clip = masked_frames(video, size(pipeline, reading), reading.max_frames, mask=mask, hide=box)
    original = clip.shown if side_by_side else None
    make(pipeline, output, sampling, picture, fps=clip.fps, original=original, video=clip.pixels, mask=clip.hidden)


def outpaint(
    video: Positional[Path],
    /,
    *,
    margins: Box | None = None,
    box: Box | None = None,
    mask: Path | None = None,
    output: Path = Path("outpainted.mp4"),
    side_by_side: bool = False,
    reading: Reading,
    model: Model,
    sampling: Sampling,
    picture: Picture,
) -> None:
    """Extend a video in space: `magvit2 outpaint film.mp4 --margins 0 0 16 16 --output wider.mp4`.

    Args:
        video: Video to extend.
        margins: Rows to add above and below, columns to add left and right, in pixels of the video. Without
            --own-size, they are enlarged if needed to reach the aspect ratio of the training clips.
        box: Instead of margins: top, left, height and width of the part to keep. Everything around it is generated.
        mask: Instead of margins: image or video of the same size, white where pixels are generated.
        output: Output file: .mp4, .gif, or .png (one row of frames per video).
        side_by_side: Show the given pixels and the result side by side.
    """
    from .pipelines.media.file_clips import check_one, masked_frames

    check_one(margins=margins, box=box, mask=mask)
    pipeline = loaded(model, output, picture, video, mask)
    clip = masked_frames(video, size(pipeline, reading), reading.max_frames, margins=margins, keep=box, mask=mask)
    original = clip.shown if side_by_side else None
    make(pipeline, output, sampling, picture, fps=clip.fps, original=original, video=clip.pixels, mask=clip.hidden)


def loaded(model: ModelOptions, output: Path, picture: PictureOptions, *read: Path | None) -> "VideoGenerationPipeline":
    """Check the output files, then load the pipeline onto its device.

    Args:
        read: input files of the command.

    Raises:
        FileNotFoundError: if there is no such folder or repository.
        ValueError: if an output file cannot be written or is an input or another output, if the folder contains no
            pipeline, or if there is no such device.
    """
    from .devices import chosen_device
    from .pipelines import VideoGenerationPipeline
    from .pipelines.media.video_files import check_ending

    check_ending(output, picture.decoding, *read)
    if picture.decoding is not None:
        check_ending(picture.decoding, *read)
    return VideoGenerationPipeline.from_pretrained(model.model, device=chosen_device(model.device))


def size(pipeline: "VideoGenerationPipeline", reading: ReadingOptions) -> tuple[int, int] | None:
    """Return the height and width that frames are cropped and resized to. None: frames keep their size."""
    return None if reading.own_size else pipeline.tokenizer.config.height_width


def length(pipeline: "VideoGenerationPipeline", num_given: int, num_new: int | None) -> int:
    """Return the number of frames of the result.

    Raises:
        ValueError: if the number of new frames is less than 1.
    """
    num_new = pipeline.num_frames - num_given if num_new is None else num_new
    if num_new < 1:
        raise ValueError(
            f"the number of new frames must be at least 1, got {num_new} ({num_given} frames are given, training clips "
            f"have {pipeline.num_frames}): set --frames"
        )
    return num_given + num_new


def make(
    pipeline: "VideoGenerationPipeline",
    output: Path,
    sampling: SamplingOptions,
    picture: PictureOptions,
    *,
    fps: float | None = None,
    original: "Tensor | None" = None,
    **given: Any,
) -> None:
    """Generate videos and write them and, if requested, the animation of the decoding.

    Args:
        fps: frames per second of the input video.
        original: video to show next to each result.

    Raises:
        ValueError: if a file cannot be written, or as in `VideoGenerationPipeline.generate`.
    """
    from .pipelines.media.pictures import save_videos
    from .pipelines.media.video_files import DEFAULT_FPS, check_rate
    from .pipelines.tokenization import in_pairs

    fps = check_rate(output, (fps or DEFAULT_FPS) if picture.fps is None else picture.fps)
    arguments: dict[str, Any] = given | asdict(sampling) | {"labels": sampling.labels or None}
    result = pipeline.generate(**arguments)
    if original is None:
        result.save(output, fps=fps, min_width=picture.min_width)
    else:
        pairs = in_pairs(original.expand_as(result.videos), result.videos)
        captions = ["given", "result"] * len(result.videos)
        save_videos(output, pairs, captions=captions, columns=2, fps=fps, min_width=picture.min_width)
    if picture.decoding is not None:
        result.save_decoding(picture.decoding, min_width=picture.min_width)
    shown = ", ".join(printable(label) for label in result.labels if label)
    print(f"{printable(output)}: {result.videos.shape[2]} frames" + (f", {shown}" if shown else ""))

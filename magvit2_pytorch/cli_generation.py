"""The verbs of the command line that make videos: files in, files out."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_options import (
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

if TYPE_CHECKING:
    from torch import Tensor

    from .pipelines import VideoGenerationPipeline


def generate(
    pipeline: Positional[Path] = ModelOptions.model,
    /,
    *,
    output: Path = Path("sample.mp4"),
    num_frames: int | None = None,
    device: str | None = None,
    sampling: Sampling,
    picture: Picture,
) -> None:
    """Generate videos: `magvit2 generate outputs/demo/pipeline --labels sintel --seed 0 --output sample.gif`.

    Args:
        pipeline: Folder or Hub name of a pipeline.
        output: File to write: .mp4, .gif, or .png for frames in a row.
        num_frames: Any number, 1 for an image; by default as many as the model was trained on.
        device: Where to compute, say cpu or cuda:1; by default the accelerator that is there.
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
    """Continue a video from its end: `magvit2 predict film.mp4 --frames 32 --output longer.mp4`.

    The result shows the frames that it goes on from, then the new ones.

    Args:
        video: File to continue; an image is a video of one frame.
        output: File to write: .mp4, .gif, or .png for frames in a row.
        given: How many of the last frames to go on from.
        frames: New frames; by default as many as make up a clip of the length trained on.
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
    """Make what lies between two images or videos: `magvit2 interpolate first.png last.png --output between.gif`.

    The result begins with the end of the one and ends with the start of the other.

    Args:
        first: File whose last frames come first.
        last: File whose first frames come last.
        output: File to write: .mp4, .gif, or .png for frames in a row.
        given: How many frames of each to use.
        frames: New frames between them; by default as many as make up a clip of the length trained on.
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
        video: File to fill in.
        mask: Picture or video as large as the video, white where it is to be filled in.
        box: In place of a mask: top, left, height and width of what is to be filled in, in pixels of the video.
        output: File to write: .mp4, .gif, or .png for frames in a row.
        side_by_side: Show what was left of the video beside the result.
    """
    from .pipelines.media.file_clips import check_one, masked_frames

    check_one(mask=mask, box=box)
    pipeline = loaded(model, output, picture, video, mask)
    clip = masked_frames(video, size(pipeline, reading), reading.max_frames, mask=mask, hide=box)
    beside = clip.shown if side_by_side else None
    make(pipeline, output, sampling, picture, fps=clip.fps, beside=beside, video=clip.pixels, mask=clip.hidden)


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
    """Make what lies around a video: `magvit2 outpaint film.mp4 --margins 0 0 16 16 --output wider.mp4`.

    Args:
        video: File to go on from.
        margins: Rows to add above and below, columns to add left and right, in pixels of the video; and more of them
            where the result would not have the proportions of what the model was trained on.
        box: Or top, left, height and width of what is kept of the video; all around it is made anew.
        mask: Or a picture or video as large as the video, white where it is to be made anew.
        output: File to write: .mp4, .gif, or .png for frames in a row.
        side_by_side: Show what is left of the video beside the result.
    """
    from .pipelines.media.file_clips import check_one, masked_frames

    check_one(margins=margins, box=box, mask=mask)
    pipeline = loaded(model, output, picture, video, mask)
    clip = masked_frames(video, size(pipeline, reading), reading.max_frames, margins=margins, keep=box, mask=mask)
    beside = clip.shown if side_by_side else None
    make(pipeline, output, sampling, picture, fps=clip.fps, beside=beside, video=clip.pixels, mask=clip.hidden)


def loaded(model: ModelOptions, output: Path, picture: PictureOptions, *read: Path | None) -> "VideoGenerationPipeline":
    """The pipeline, on its device, after a look at the names of the files to write.

    Args:
        read: files that the verb reads.

    Raises:
        FileNotFoundError: there is no such folder or repository.
        ValueError: a file cannot be written or would replace another of the call, the folder holds no pipeline, or
            there is no such device.
    """
    from .devices import chosen_device
    from .pipelines import VideoGenerationPipeline
    from .pipelines.media.video_files import check_ending

    check_ending(output, picture.decoding, *read)
    if picture.decoding is not None:
        check_ending(picture.decoding, *read)
    model.check()
    device = chosen_device(model.device)
    return VideoGenerationPipeline.from_pretrained(model.model).to(device)


def size(pipeline: "VideoGenerationPipeline", reading: ReadingOptions) -> tuple[int, int] | None:
    """Height and width that frames are cropped and resized to; None where they stay as they are."""
    return None if reading.own_size else pipeline.tokenizer.config.height_width


def length(pipeline: "VideoGenerationPipeline", num_given: int, num_new: int | None) -> int:
    """Frames of the result.

    Raises:
        ValueError: none of them is new.
    """
    num_new = pipeline.num_frames - num_given if num_new is None else num_new
    if num_new < 1:
        raise ValueError(f"{num_given} frames are given, and there must be at least 1 new one, got frames {num_new}")
    return num_given + num_new


def make(
    pipeline: "VideoGenerationPipeline",
    output: Path,
    sampling: SamplingOptions,
    picture: PictureOptions,
    *,
    fps: float | None = None,
    beside: "Tensor | None" = None,
    **given: Any,
) -> None:
    """Generate from what is given, and write the videos and, where it is asked for, how they came about.

    Args:
        fps: of the file that something was given from.
        beside: a video to show beside each result.

    Raises:
        ValueError: something that cannot be written, or as `generate`.
    """
    from .pipelines.media.pictures import save_videos
    from .pipelines.media.video_files import DEFAULT_FPS, check_rate
    from .pipelines.tokenization import in_pairs

    fps = check_rate(output, (fps or DEFAULT_FPS) if picture.fps is None else picture.fps)
    names = pipeline.labels
    labels = [int(label) if label.isdecimal() and label not in names else label for label in sampling.labels]
    arguments: dict[str, Any] = given | asdict(sampling) | {"labels": labels or None}
    made = pipeline.generate(**arguments)
    if beside is None:
        made.save(output, fps=fps, min_width=picture.min_width)
    else:
        pairs = in_pairs(beside.expand_as(made.videos), made.videos)
        captions = ["given", "result"] * len(made.videos)
        save_videos(output, pairs, captions=captions, columns=2, fps=fps, min_width=picture.min_width)
    if picture.decoding is not None:
        made.save_decoding(picture.decoding, min_width=picture.min_width)
    shown = ", ".join(label for label in made.labels if label)
    print(f"{output}: {made.videos.shape[2]} frames" + (f", {shown}" if shown else ""))

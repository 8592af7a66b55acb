"""One picture with a sample of each task that has known pixels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..maskgit.seeds import seeded_generator
from ..maskgit.tasks import task_named
from ..pipelines import VideoGenerationPipeline
from ..pipelines.fill.regions import known_region
from ..pipelines.media.pictures import save_videos
from ..tokenizer.pixels import to_unit_range
from .data import Clips

COLUMNS = 6  # three tasks in each row: known pixels and sample
WIDTH = 768  # pixels
UNKNOWN = 0.5  # grey


def draw_tasks(pipeline: VideoGenerationPipeline, clips: Clips, path: Path, *, tasks: Sequence[str], seed: int) -> None:
    """Draw, for each task with a region, the known pixels of a clip on grey and the sample generated from them.

    Args:
        path: file of an animation, or of a picture with one row per video.
    """
    captions: list[str] = []
    videos: list[Tensor] = []
    for number, name in enumerate(name for name in tasks if task_named(name).has_region):
        row = clips[number % len(clips)]
        video = to_unit_range(row["video"])
        num_frames, height, width = video.shape[1:]
        known = known_region(name, num_frames, height, width, seeded_generator(seed, number))
        made = pipeline.generate(
            labels=int(row["label"]) if task_named(name).uses_label else None,
            video=video,
            mask=~known,
            task=name,
            seed=seed,
            progress=False,
        )
        videos += [video.where(known, UNKNOWN), made.videos[0]]
        captions += [name, ""]
    if videos:
        save_videos(path, torch.stack(videos), captions=captions, columns=COLUMNS, min_width=WIDTH)

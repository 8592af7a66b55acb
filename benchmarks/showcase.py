"""Draw the pictures of the README with the weights that come with the package.

    python benchmarks/showcase.py docs

- `arcade_samples.gif`: two samples of each game.
- `arcade_prediction.gif`: held-out clips above, below them 12 frames predicted from their first 5 and the game.
- `arcade_inpainting.gif`: held-out clips with a grey box above, below them with the box filled in.
- `general_reconstruction.gif`: held-out clips of the four films above, below them their reconstructions.

Nothing is chosen by hand: seed 0, the first held-out clips of each label; 24 passes with guidance 1.5. Takes about a
minute.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.tokenizer.pixels import to_unit_range
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.metrics.reconstruction import decode, encode

NUM_GIVEN = 5  # frames
SAMPLING: dict[str, Any] = {"num_steps": 24, "guidance_scale": 1.5}
WIDTH = 900  # pixels
UNKNOWN = 0.5  # grey

Videos = Float[Tensor, "b 3 T H W"]  # in [0, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the pictures")
    parser.add_argument("--pipeline", default="arcade64", help="weights trained on arcade games (default: arcade64)")
    parser.add_argument("--tokenizer", default="general64", help="tokenizer for any video (default: general64)")
    arguments = parser.parse_args()

    pipeline = VideoGenerationPipeline.from_pretrained(arguments.pipeline)
    samples = pipeline.generate(labels=[*pipeline.labels, *pipeline.labels], seed=0, **SAMPLING).videos
    draw(arguments.folder / "arcade_samples.gif", samples, [*pipeline.labels, *[""] * len(pipeline.labels)])

    games, labels = first_clips(load_data(DataConfig(path="arcade", num_frames=pipeline.num_frames)))
    predicted = pipeline.generate(
        labels=labels.tolist(),
        frames=games[:, :, :NUM_GIVEN],
        num_frames=games.shape[2],
        seed=0,
        **SAMPLING,
    ).videos
    draw_pairs(arguments.folder / "arcade_prediction.gif", games, "truth", predicted, "prediction")

    hidden = torch.zeros(games.shape[2:], dtype=torch.bool)
    hidden[:, 16:48, 16:48] = True
    filled = pipeline.generate(video=games, mask=hidden, labels=labels.tolist(), seed=0, **SAMPLING).videos
    given = games.masked_fill(hidden, UNKNOWN)
    draw_pairs(arguments.folder / "arcade_inpainting.gif", given, "given", filled, "result")

    tokenizer = VideoTokenizer.from_pretrained(arguments.tokenizer)
    films, _ = first_clips(load_data(DataConfig()), per_label=2)
    with torch.inference_mode():
        reconstructed = decode(tokenizer, encode(tokenizer, films), films.shape[2:])
    draw_pairs(arguments.folder / "general_reconstruction.gif", films, "original", reconstructed, "reconstruction")


def first_clips(data: VideoData, per_label: int = 1) -> tuple[Videos, Int[Tensor, " b"]]:
    """Return the first held-out clips of each label, and their labels."""
    labels = torch.tensor(data.heldout.table["label"][:])
    chosen = torch.cat([(labels == label).nonzero()[:per_label, 0] for label in range(len(data.labels))])
    return to_unit_range(torch.stack([data.heldout.video(index) for index in chosen.tolist()])), labels[chosen]


def draw(path: Path, videos: Videos, captions: Sequence[str]) -> None:
    save_videos(path, videos, captions=captions, columns=len(videos) // 2, min_width=WIDTH)
    print(path)


def draw_pairs(path: Path, above: Videos, of_above: str, below: Videos, of_below: str) -> None:
    captions = [of_above] * len(above) + [of_below] * len(below)
    draw(path, torch.cat([above, below]), captions)


if __name__ == "__main__":
    main()

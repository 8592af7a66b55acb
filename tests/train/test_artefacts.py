"""Reconstructions show no grid, no flicker, no seams and no repeated frames, and the measures notice if they do."""

from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.hub import names_in_package
from magvit2_pytorch.tokenizer.pixels import to_unit_range
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.data.config import ARCADE, DEAD_LEAVES, SHIPPED_CLIPS
from magvit2_pytorch.train.metrics.artefacts import (
    Artefacts,
    measure_artefacts,
    reconstructions,
    share_of_repeated_frames,
    steps_of_tiles,
)
from magvit2_pytorch.train.metrics.seams import compare_seams, frame_differences
from magvit2_pytorch.train.process import SignalInterruption
from magvit2_pytorch.train.tokenizer import PRESETS, train

BOUNDS = {
    "trained for seconds": Artefacts(grid_on_plain=0.08, grid=0.02, flicker=0.07, tile_steps=1.25, repeated=0),
    "arcade64": Artefacts(grid_on_plain=0.1, grid=-0.005, flicker=0.025, tile_steps=1.25, repeated=0),
    "general64": Artefacts(grid_on_plain=0.02, grid=0.02, flicker=0.018, tile_steps=1.25, repeated=0),
}


class Subject(NamedTuple):
    tokenizer: VideoTokenizer
    videos: Tensor
    bounds: Artefacts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> VideoTokenizer:
    """The preset `laptop` with a quarter of its channels, after some seconds of training on small arcade games."""
    folder = tmp_path_factory.mktemp("trained")
    preset = PRESETS["laptop"]
    run = replace(
        preset,
        output_dir=folder / "run",
        num_steps=400,
        evaluate_every=400,
        save_every=400,
        data=DataConfig(
            path=DEAD_LEAVES, drawn_clips=256, resolution=32, num_frames=9, cache_dir=str(folder / "cache")
        ),
        model=replace(preset.model, init_dim=24, layers=("residual", ("compress_space", 32), "residual")),
        progress=False,
    )
    weights = train(run, SignalInterruption())
    assert weights is not None
    return VideoTokenizer.from_pretrained(weights)


@pytest.fixture(scope="module", params=BOUNDS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """A tokenizer, sixteen held-out clips of its kind, and its bounds."""
    name = request.param
    bounds = BOUNDS[name]
    if name == "trained for seconds":
        small = DataConfig(path=DEAD_LEAVES, drawn_clips=16, resolution=32, num_frames=9)
        return Subject(request.getfixturevalue("trained"), heldout(small), bounds)
    path = ARCADE if name == "arcade64" else SHIPPED_CLIPS
    return Subject(VideoTokenizer.from_pretrained(name), heldout(DataConfig(path=path)), bounds)


def heldout(config: DataConfig) -> Tensor:
    """Sixteen held-out clips in [0, 1]."""
    clips = load_data(config).heldout
    chosen = torch.linspace(0, len(clips) - 1, 16).long().tolist()
    return to_unit_range(torch.stack([clips.video(index) for index in chosen]))


def too_large(measured: Artefacts, bounds: Artefacts) -> set[str]:
    return {name for name, value in measured._asdict().items() if not value <= getattr(bounds, name)}


def test_there_are_bounds_for_all_weights_in_the_package() -> None:
    assert set(names_in_package()) == BOUNDS.keys() - {"trained for seconds"}


def test_artefacts_stay_within_their_bounds(subject: Subject) -> None:
    measured = measure_artefacts(subject.tokenizer, subject.videos)

    assert not too_large(measured, subject.bounds), measured


def test_pixels_at_the_wrong_place_of_a_block_are_noticed(subject: Subject) -> None:
    rolled = deepcopy(subject.tokenizer)
    weight = rolled.last_weight
    with torch.no_grad():
        weight.copy_(weight.roll(1, dims=0))

    assert "grid" in too_large(measure_artefacts(rolled, subject.videos), subject.bounds)


def test_a_repeated_frame_is_noticed(subject: Subject) -> None:
    results = reconstructions(subject.tokenizer, subject.videos)
    moves = frame_differences(subject.videos).nan_to_num()
    video, frame = divmod(int(moves.argmax()), moves.shape[1])
    results[video, :, frame] = results[video, :, frame - 1]

    assert share_of_repeated_frames(results, subject.videos) > subject.bounds.repeated


def test_tiles_without_overlap_are_noticed(subject: Subject) -> None:
    assert steps_of_tiles(subject.tokenizer, subject.videos, overlap=0) > subject.bounds.tile_steps


def test_long_videos_of_the_weights_show_no_seams_between_windows() -> None:
    pipeline = VideoGenerationPipeline.from_pretrained("arcade64")
    num_frames = 3 * pipeline.num_frames - 10  # three windows that share five frames
    videos = pipeline.generate(num_frames=num_frames, labels=list(pipeline.labels), seed=0, progress=False).videos

    compared = compare_seams(frame_differences(videos), [17, 29])

    low, _, _, _, high = compared.inside
    assert low <= compared.median <= high

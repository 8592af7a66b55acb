from collections import Counter
from itertools import islice

import pytest
import torch

from magvit2_pytorch.train.data import DataConfig, TrainingBatches, VideoData, load_data, load_sources
from magvit2_pytorch.train.data.mixing import BLOCK, samples_per_block, source_at


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.6, 0.3, 0.1), (0.999, 0.001)])
def test_every_source_is_passed_through_in_order_by_its_share(shares: tuple[float, ...]) -> None:
    counts = Counter[int]()
    for position in range(5 * BLOCK):
        source, place = source_at(position, shares, seed=3)
        assert place == counts[source]
        counts[source] += 1

    assert [counts[source] / 5 for source in range(len(shares))] == [
        pytest.approx(max(1, share * BLOCK), abs=1) for share in shares
    ]


def test_the_order_depends_on_the_seed_and_changes_from_block_to_block() -> None:
    def order(seed: int, block: int) -> list[int]:
        return [source_at(position, (0.5, 0.5), seed)[0] for position in range(block * BLOCK, (block + 1) * BLOCK)]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, block)) for seed in range(2) for block in range(2)}) == 4


def test_samples_per_block_fill_it() -> None:
    for shares in [(0.2,) * 5, (1 / 3,) * 3, (1e-9, 1 - 1e-9), (1 / 7,) * 7]:
        numbers = samples_per_block(shares)
        assert sum(numbers) == BLOCK
        assert min(numbers) >= 1
        assert max(abs(number - max(1, share * BLOCK)) for number, share in zip(numbers, shares, strict=True)) <= 1


@pytest.fixture
def sources() -> tuple[VideoData, ...]:
    return load_sources(DataConfig(path=("shapes", "leaves"), resolution=8, num_frames=3, seed=5), progress=False)


def test_a_mix_has_the_clips_that_its_sources_have_alone(sources: tuple[VideoData, ...]) -> None:
    mixed = list(islice(TrainingBatches(*sources, shares=(0.75, 0.25), batch_size=4, seed=1), 60))
    alone = [list(islice(TrainingBatches(source, batch_size=1, seed=1), 180)) for source in sources]

    places = [0, 0]
    for batch in mixed:
        for video, label in zip(batch["video"], batch["label"].tolist(), strict=True):
            source = int(label >= len(sources[0].labels))
            same = alone[source][places[source]]
            assert torch.equal(video, same["video"][0])
            assert label == same["label"][0] + (len(sources[0].labels) if source else 0)
            places[source] += 1
    assert places == [180, 60]


def test_two_processes_and_resumed_ones_get_the_same_mix(sources: tuple[VideoData, ...]) -> None:
    settings = {"shares": (0.5, 0.5), "seed": 2}
    whole = list(islice(TrainingBatches(*sources, batch_size=4, **settings), 40))
    halves = [
        list(
            islice(
                TrainingBatches(*sources, batch_size=2, start=7, process_index=index, num_processes=2, **settings), 33
            )
        )
        for index in range(2)
    ]

    for batch, *parts in zip(whole[7:], *halves, strict=True):
        assert torch.equal(batch["video"], torch.cat([part["video"] for part in parts]))


def test_the_number_of_shares_must_be_that_of_the_sources(sources: tuple[VideoData, ...]) -> None:
    with pytest.raises(ValueError, match="one share for each of 2 sources, got 1"):
        TrainingBatches(*sources, batch_size=1, seed=0)


def test_where_one_source_is_needed_several_are_refused() -> None:
    with pytest.raises(ValueError, match="only one source is allowed here, got shapes leaves"):
        load_data(DataConfig(path=("shapes", "leaves")))


def test_sources_are_named_by_their_folders_unless_two_have_the_same_name() -> None:
    assert DataConfig(path=("clips", "/a/dogs", "/b/cats")).source_names == ("clips", "dogs", "cats")
    assert DataConfig(path=("/a/cats", "/b/cats")).source_names == ("/a/cats", "/b/cats")


def test_one_source_in_a_tuple_is_that_source() -> None:
    assert DataConfig(path=("shapes",)) == DataConfig(path="shapes")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ("clips", "")}, "path must be 'clips', .* or several of these"),
        ({"path": ()}, "path must be"),
        ({"path": ("clips", "leaves", "clips")}, "path must not name a source twice, got clips leaves clips"),
        ({"path": ("clips", "leaves"), "weights": (1.0,)}, "weights must have one number for each of the 2 sources"),
        ({"weights": (0.0,)}, "weights must be positive and finite"),
        ({"weights": (float("nan"),)}, "weights must be positive and finite"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**settings)

import numpy as np

from magvit2_pytorch.train.data import VideoData
from magvit2_pytorch.train.data.cache.cuts import find_cuts
from magvit2_pytorch.train.data.video_data import StoredFrames


def moving_texture(num_frames: int, seed: int, speed: float = 0.1) -> np.ndarray:
    """Waves that travel sideways by `speed` radians a frame."""
    numbers = np.random.default_rng(seed)
    places = np.linspace(0, 2 * np.pi, 16)
    time = np.arange(num_frames)[:, None]
    channels = [
        np.sin(numbers.integers(1, 3) * places + numbers.uniform(0, 6))[None, :, None]
        * np.sin(numbers.integers(1, 3) * places + numbers.uniform(0, 6) + speed * time)[:, None, :]
        for _ in range(3)
    ]
    return (127 + 100 * np.stack(channels, axis=-1)).astype(np.uint8)


def faded(frames: np.ndarray, first: float, last: float, level: int = 0) -> np.ndarray:
    share = np.linspace(first, last, len(frames))[:, None, None, None]
    return (level + share * (frames - float(level))).astype(np.uint8)


def test_a_moving_picture_has_no_cut() -> None:
    assert find_cuts(moving_texture(40, seed=0)) == []
    assert find_cuts(moving_texture(40, seed=0, speed=1)) == []
    assert find_cuts(np.zeros((20, 16, 16, 3), dtype=np.uint8)) == []
    assert find_cuts(moving_texture(1, seed=0)) == []


def test_hard_cuts_are_found_where_they_are() -> None:
    shots = [moving_texture(num_frames, seed) for seed, num_frames in enumerate((20, 9, 25))]

    assert find_cuts(np.concatenate(shots)) == [20, 29]


def test_a_fade_in_and_a_fade_out_are_part_of_their_shots() -> None:
    shot = moving_texture(40, seed=0)

    assert find_cuts(np.concatenate([faded(shot[:20], 0, 1), faded(shot[20:], 1, 0)])) == []


def test_between_two_fades_there_is_one_cut() -> None:
    for level in (0, 190):
        before = faded(moving_texture(30, seed=0), 1, 0, level)
        after = faded(moving_texture(30, seed=1), 0, 1, level)

        (cut,) = find_cuts(np.concatenate([before, after]))

        assert 28 <= cut <= 31


def test_the_bars_of_a_letterbox_do_not_hide_a_fade() -> None:
    fades = [faded(moving_texture(30, seed=0), 1, 0, 190), faded(moving_texture(30, seed=1), 0, 1, 190)]
    letterboxed = np.concatenate(fades)
    letterboxed[:, :2] = letterboxed[:, -2:] = 0

    assert len(find_cuts(letterboxed)) == 1


def test_the_cuts_of_the_shipped_clips_are_those_that_one_sees(shipped: VideoData) -> None:
    source = shipped.train.reader.source
    assert isinstance(source, StoredFrames)
    pieces = np.split(source.videos.cuts, np.cumsum(source.videos.num_cuts)[:-1])
    cuts = {video.name: piece.tolist() for video, piece in zip(source.videos, pieces, strict=True)}

    assert cuts["city_towers.mp4"] == [116]
    assert cuts["music_video.mp4"] == [
        *(183, 243, 365, 395, 485, 552, 706, 741, 864, 923, 959, 1024, 1119, 1162, 1188, 1300, 1369, 1432),
    ]
    assert {593, 864, 900, 988, 1049} < set(cuts["big_buck_bunny.mp4"])
    assert {334, 396, 420, 571, 621, 658, 672, 1163, 1220} < set(cuts["sintel.mp4"])
    assert (len(cuts["big_buck_bunny.mp4"]), len(cuts["sintel.mp4"])) == (11, 15)

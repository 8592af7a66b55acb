import numpy as np
import pytest

from magvit2_pytorch.train.data.cache.even_clock import EvenClock


def chosen(times: list[float], fps: float) -> list[int]:
    clock = EvenClock[int](fps)
    frames = [frame for number, time in enumerate(times) for frame in clock.push(time, number)]
    return [*frames, *clock.finish()]


def nearest(times: list[float], fps: float) -> list[int]:
    """By brute force; of two frames that are equally near, the earlier one."""
    num_ticks = int((times[-1] - times[0]) * fps + 1e-5) + 1
    ticks = times[0] + np.arange(num_ticks) / fps
    distance = np.abs(ticks[:, None] - np.array(times)[None])
    return (distance <= distance.min(axis=1, keepdims=True) + 1e-6).argmax(axis=1).tolist()


@pytest.mark.parametrize("fps", [1.0, 8.0, 12.5, 24.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("rate", [8.0, 23.976, 24.0, 25.0, 29.97, 240.0])
def test_the_frame_nearest_to_each_tick_is_chosen(rate: float, fps: float) -> None:
    times = [round(frame / rate, 3) for frame in range(50)]

    assert chosen(times, fps) == nearest(times, fps)


@pytest.mark.parametrize("seed", range(10))
def test_the_frame_nearest_to_each_tick_is_chosen_at_a_varying_rate(seed: int) -> None:
    times = np.random.default_rng(seed).uniform(0.001, 0.2, 60).cumsum().tolist()

    assert chosen(times, 10.0) == nearest(times, 10.0)


def test_the_same_motion_at_two_rates_gives_the_same_times() -> None:
    slow, fast = ([frame / rate for frame in range(2 * rate)] for rate in (24, 240))

    at_slow = [slow[frame] for frame in chosen(slow, 8)]
    at_fast = [fast[frame] for frame in chosen(fast, 8)]

    assert at_slow == at_fast == [tick / 8 for tick in range(16)]


def test_a_wrong_time_does_not_fill_the_disk() -> None:
    times = [frame / 25 for frame in range(12)]
    times[7] += 47_722.0

    clock = EvenClock[int](25)
    frames = [frame for number, time in enumerate(times) for frame in clock.push(time, number)]

    assert [*frames, *clock.finish()] == list(range(12))
    assert clock.starts == [7, 8]


def test_a_pause_is_not_filled_and_a_slow_video_is() -> None:
    assert chosen([0, 0.5, 3, 3.5], 2) == [0, 1, 2, 3]
    assert chosen([0, 1, 2], 2) == [0, 0, 1, 1, 2]


def test_times_that_go_backwards_are_read_as_pauses() -> None:
    assert chosen([0, 1, 0.5, 2], 1) == [0, 1, 3]
    assert chosen([0], 8) == [0]
    assert chosen([], 8) == []

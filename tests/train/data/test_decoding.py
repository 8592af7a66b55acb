import struct
from pathlib import Path

import numpy as np
import pytest

from magvit2_pytorch.train.data.decoding import DecodingError, decode_frames


def test_frames_come_in_order_and_unchanged(tmp_path: Path, write_video, noise) -> None:
    frames = noise(20)

    decoded = list(decode_frames(write_video(tmp_path / "a.mkv", frames)))

    assert np.array_equal(np.stack(decoded), frames)


def test_frames_stored_out_of_order_are_shown_in_order(tmp_path: Path, write_video) -> None:
    levels = np.arange(30, 230, 5, dtype=np.uint8)
    frames = levels[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)

    path = write_video(tmp_path / "a.mp4", frames, "libx264", "yuv420p", bf="3", preset="slow")

    shown = [frame.mean() for frame in decode_frames(path)]
    assert len(shown) == len(levels)
    assert np.abs(np.array(shown) - levels).max() < 2.5


def test_frames_before_the_damage_are_good(tmp_path: Path, write_video, noise) -> None:
    frames = noise(10)
    path = write_video(tmp_path / "a.mov", frames, "png", "rgb24")
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"IHDR"]
    content[places[6] : places[6] + 12] = bytes(12)
    path.write_bytes(content)

    decoded = []
    with pytest.raises(DecodingError, match="Invalid data"):
        decoded.extend(decode_frames(path))

    assert np.array_equal(np.stack(decoded), frames[:6])


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")

    with pytest.raises(DecodingError, match="Invalid data"):
        list(decode_frames(tmp_path / "text.mp4"))
    with pytest.raises(DecodingError, match="No such file"):
        list(decode_frames(tmp_path / "missing.mp4"))


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    samples = np.zeros(400, dtype="<i2").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 800, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 800
    )
    (tmp_path / "sound.avi").write_bytes(header + samples)

    with pytest.raises(DecodingError, match="no video stream"):
        list(decode_frames(tmp_path / "sound.avi"))


def test_a_turned_recording_is_shown_upright(tmp_path: Path, write_video, noise) -> None:
    frames = noise(2, height=32, width=48)
    path = write_video(tmp_path / "a.mov", frames, "png", "rgb24")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    quarter_turn_clockwise = (0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", *quarter_turn_clockwise)
    path.write_bytes(content)

    upright = list(decode_frames(path))

    assert np.array_equal(np.stack(upright), np.rot90(frames, k=-1, axes=(1, 2)))

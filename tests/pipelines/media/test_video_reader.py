"""Container metadata, transparency and damage, in variants of the files of `tests/cases/`."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.stream import VideoStream

from magvit2_pytorch.pipelines.media.decoding import open_frames
from magvit2_pytorch.pipelines.media.frame_reader import DecodingError, FrameReader

ONE, PROJECTIVE = 1 << 16, 1 << 30
PIXEL_FORMATS = {"png": "rgb24", "ffv1": "bgr0", "mjpeg": "yuvj420p"}
ORIENTATIONS: dict[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]] = {
    # (a, b, c, d): column x and row y are shown at (a x + c y, b x + d y)
    (1, 0, 0, 1): lambda frame: frame,
    (0, 1, -1, 0): lambda frame: np.rot90(frame, -1),
    (-1, 0, 0, -1): lambda frame: np.rot90(frame, 2),
    (0, -1, 1, 0): lambda frame: np.rot90(frame, 1),
    (-1, 0, 0, 1): lambda frame: frame[:, ::-1],
    (1, 0, 0, -1): lambda frame: frame[::-1],
    (0, 1, 1, 0): lambda frame: frame.swapaxes(0, 1),
    (0, -1, -1, 0): lambda frame: np.rot90(frame, 2).swapaxes(0, 1),
}


def read(path: Path) -> tuple[np.ndarray, FrameReader]:
    with open_frames(path) as reader:
        return np.stack(list(reader)), reader


def write_streams(path: Path, *videos: tuple[str, np.ndarray], dispositions: tuple[int, ...] = ()) -> Path:
    """Write one stream per video, without loss: a codec and frames `T H W 3`."""
    with av.open(path, "w") as container:
        streams = []
        for codec, frames in videos:
            stream = container.add_stream(codec, rate=25)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = PIXEL_FORMATS[codec]
            stream.time_base = Fraction(1, 25)
            streams.append(stream)
        for stream, disposition in zip(streams, dispositions, strict=False):
            stream.disposition = Disposition(disposition)
        for stream, (_, frames) in zip(streams, videos, strict=True):
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("matrix", ORIENTATIONS, ids=str)
def test_a_display_matrix_is_applied(tmp_path: Path, write_video, noise, matrix: tuple[int, int, int, int]) -> None:
    frames = noise(2, height=32, width=48)
    path = write_video(tmp_path / "a.mov", frames, "png", "rgb24")
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (value * ONE for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, PROJECTIVE)
    path.write_bytes(content)

    shown, _ = read(path)

    assert np.array_equal(shown, [ORIENTATIONS[matrix](frame) for frame in frames])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_largest_of_equal_streams_is_read(tmp_path: Path, noise, place: int) -> None:
    largest = noise(4, height=64, width=96)
    videos = [("png", noise(4, height=16, width=24, seed=seed)) for seed in range(2)]
    videos.insert(place, ("png", largest))

    shown, reader = read(write_streams(tmp_path / "a.mov", *videos, dispositions=(Disposition.default.value,) * 3))

    assert np.array_equal(shown, largest)
    assert reader.lost is None


@pytest.mark.parametrize("cover_first", [True, False])
def test_a_cover_is_not_the_video(tmp_path: Path, noise, cover_first: bool) -> None:
    video, cover = noise(4, height=16, width=24), noise(1, height=64, width=96)
    streams, kinds = [("mjpeg", cover), ("ffv1", video)], [Disposition.attached_pic.value, Disposition.default.value]
    if not cover_first:
        streams, kinds = streams[::-1], kinds[::-1]

    shown, _ = read(write_streams(tmp_path / "a.mkv", *streams, dispositions=tuple(kinds)))

    assert np.array_equal(shown, video)


def test_a_file_with_only_a_cover_has_no_video(tmp_path: Path, noise) -> None:
    path = write_streams(tmp_path / "song.mp4", ("png", noise(1)), dispositions=(Disposition.attached_pic.value,))

    with pytest.raises(DecodingError, match="cover"):
        read(path)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "tolerance"),
    [
        ("a.webm", "libvpx", "yuva420p", 30),
        ("a.webm", "libvpx-vp9", "yuva420p", 30),
        ("a.mov", "prores_ks", "yuva444p10le", 12),
        ("a.mov", "png", "rgba", 1),
        ("a.mov", "qtrle", "argb", 1),
        ("a.mkv", "ffv1", "bgra", 1),
        ("a.apng", "apng", "rgba", 1),
    ],
)
def test_transparent_pixels_of_a_video_become_white(
    tmp_path: Path, name: str, codec: str, pixel_format: str, tolerance: int
) -> None:
    frames = np.full((3, 64, 96, 4), (20, 160, 40, 0), dtype=np.uint8)
    frames[:, :, :32, 3] = 255
    frames[:, :, 32:64, 3] = 128
    with av.open(tmp_path / name, "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        if codec == "libvpx":
            stream.options = {"auto-alt-ref": "0"}  # it refuses transparency otherwise
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode())

    shown, reader = read(tmp_path / name)

    expected = np.array([(20, 160, 40), (137, 207, 147), (255, 255, 255)])
    assert shown.shape == (3, 64, 96, 3)
    assert np.abs(shown[:, 32, [16, 48, 80]] - expected).max() <= tolerance
    assert reader.lost is None


def cut(content: bytes) -> bytes:
    return content[: len(content) * 6 // 10]


def zeroed(content: bytes) -> bytes:
    start, stop = len(content) * 4 // 10, len(content) * 6 // 10
    return content[:start] + bytes(stop - start) + content[stop:]


@pytest.mark.parametrize("damage", [cut, zeroed])
@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.mkv", "ffv1", "bgr0"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.flv", "flv", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.mov", "mpeg4", "yuv420p"),
    ],
)
def test_missing_frames_are_reported(
    tmp_path: Path, write_video, noise, name: str, codec: str, pixel_format: str, damage: Callable[[bytes], bytes]
) -> None:
    frames = noise(40, height=64, width=64) ^ np.arange(40, dtype=np.uint8)[:, None, None, None]
    path = write_video(tmp_path / name, frames, codec, pixel_format)
    path.write_bytes(damage(path.read_bytes()))

    try:
        shown, reader = read(path)
    except DecodingError:
        assert (damage, name) == (cut, "a.mov")  # its index is at the end
        return

    assert 0 < len(shown) < 40
    assert reader.lost


@pytest.mark.parametrize(("byte", "value"), [("track", 0x85), ("flags", 0x82)])
def test_a_frame_that_is_skipped_for_its_header_is_reported(
    tmp_path: Path, write_video, noise, byte: str, value: int
) -> None:
    path = write_video(tmp_path / "a.mkv", noise(10))
    content = bytearray(path.read_bytes())
    blocks = [place for place in range(len(content)) if content[place] == 0xA3 and content[place + 3] == 0x81]
    content[blocks[5] + {"track": 3, "flags": 6}[byte]] = value
    path.write_bytes(content)

    shown, reader = read(path)

    assert len(shown) < 10
    assert f"the file is damaged at byte {blocks[5]:,}" in (reader.lost or "")

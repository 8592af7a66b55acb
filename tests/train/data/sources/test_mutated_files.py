"""Two hundred damaged and odd files among good ones: each is used, or skipped with a reason."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import av
import av.error
import numpy as np
import pytest
from av.container import InputContainer

from magvit2_pytorch.pipelines.media.decoding import PICTURE_ENDINGS
from magvit2_pytorch.train.data import DataConfig, VideoData, load_data
from magvit2_pytorch.train.data.sources.files import VIDEO_ENDINGS
from magvit2_pytorch.train.data.video_data import StoredFrames

SEED = 0
NUM_FRAMES = 12
CLIP = 3  # frames
FORMS = {  # codec, pixel format, size
    "ffv1.mkv": ("ffv1", "bgr0", 8),
    "ffv1.avi": ("ffv1", "bgr0", 12),
    "h264.mkv": ("libx264", "yuv420p", 16),
    "h264.mp4": ("libx264", "yuv420p", 16),
    "h264.ts": ("libx264", "yuv420p", 16),
    "mpeg4.mp4": ("mpeg4", "yuv420p", 16),
    "mpeg4.avi": ("mpeg4", "yuv420p", 12),
    "mpeg2.ts": ("mpeg2video", "yuv420p", 16),
    "mpeg2.mkv": ("mpeg2video", "yuv420p", 12),
    "animation.gif": ("gif", "rgb8", 10),
}
AUDIO = {"audio.mp4": "aac", "audio.mkv": "flac", "audio.avi": "mp2", "audio.ts": "mp2"}
COUNTS = {
    "truncated": 80,
    "flipped": 76,
    "empty": 6,
    "renamed": 22,
    "audio": 4,
    "single": 6,
    "resized": 6,
}
WRONG_ENDINGS = (".mkv", ".mp4", ".avi", ".ts", ".gif", ".m2v", ".ogv", ".png", ".jpg", ".txt", ".h5", "")
VIDEO_ERRORS = (av.error.FFmpegError, OSError, ValueError)


class Readable(NamedTuple):
    """How many frames of a file can be decoded, by loops that share nothing with the project's reader."""

    before_error: int
    """Before the first error."""
    in_all: int
    """If each packet is decoded, whatever became of the packets before it."""


def decoded_by(path: Path, frames_of: Callable[[InputContainer], Iterator[object]]) -> int:
    """Count the frames before an error; 0 if the file cannot be opened, or has no video or one of an unknown codec."""
    number = 0
    try:
        # A tag that is not UTF-8 is an error of PyAV alone, and not of the video.
        with av.open(path, metadata_errors="ignore") as container:
            decoders = [stream.codec_context for stream in container.streams.video]
            if decoders and decoders[0] is not None:
                decoders[0].thread_count = 1
                for _ in frames_of(container):
                    number += 1
    except VIDEO_ERRORS:
        pass
    return number


def of_every_packet(container: InputContainer) -> Iterator[object]:
    for packet in container.demux(video=0):
        try:
            yield from packet.decode()
        except VIDEO_ERRORS:
            continue


def readable(path: Path) -> Readable:
    return Readable(decoded_by(path, lambda container: container.decode(video=0)), decoded_by(path, of_every_packet))


def write_audio(path: Path, codec: str) -> bytes:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=44100)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 44100
        for part in av.AudioResampler(stream.format.name, "mono", 44100, stream.frame_size or 4608).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    return path.read_bytes()


def flipped(content: bytes, generator: np.random.Generator) -> bytes:
    """Replace 1 to 32 bytes at random places."""
    changed = np.frombuffer(content, dtype=np.uint8).copy()
    places = generator.integers(0, len(content), 2 ** int(generator.integers(0, 6)))
    changed[places] ^= generator.integers(1, 256, len(places), dtype=np.uint8)
    return changed.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_video) -> Path:
    """The files: `good/FORM`, and the others in folders named after what was done to them."""
    root = tmp_path_factory.mktemp("mutated")
    generator = np.random.default_rng(SEED)

    def write(name: str, num_frames: int, form: str, size: int | None = None) -> bytes:
        codec, pixel_format, usual_size = FORMS[form]
        side = size or usual_size
        texture = np.random.default_rng(list(name.encode())).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        pixels = texture.repeat(-(-side // 4), 0).repeat(-(-side // 4), 1)[:side, :side]
        frames = (pixels * np.linspace(0.5, 1, num_frames)[:, None, None, None]).astype(np.uint8)
        return write_video(root / name, frames, codec, pixel_format).read_bytes()

    good = {form: write(f"videos/good/{form}", NUM_FRAMES, form) for form in FORMS}
    audio = {name: write_audio(root / name, codec) for name, codec in AUDIO.items()}
    for kind, count in COUNTS.items():
        (root / "videos" / kind).mkdir()
        for number in range(count):
            form = list(FORMS)[number % len(FORMS)]
            name, content = f"{number:02d}-{form}", good[form]
            match kind:
                case "truncated":
                    content = content[: generator.integers(1, len(content))]
                case "flipped":
                    content = flipped(content, generator)
                case "empty":
                    content = b""
                case "renamed":
                    name = PurePosixPath(name).stem + WRONG_ENDINGS[number % len(WRONG_ENDINGS)]
                case "audio":
                    name, content = list(audio.items())[number]
                case "single":
                    content = write(f"single-{form}", 1, form)
                case "resized":  # one stream whose frames change their size
                    form = ("mpeg2.ts", "h264.ts")[number % 2]
                    name = f"{number:02d}-{form}"
                    lengths = (NUM_FRAMES, NUM_FRAMES) if number < 4 else (1, 1)
                    parts = [
                        write(f"{size}-{length}-{form}", length, form, size)
                        for size, length in zip((16, 12), lengths, strict=True)
                    ]
                    content = b"".join(parts)
            (root / "videos" / kind / name).write_bytes(content)
    return root / "videos"


@pytest.fixture(scope="module")
def data(folder: Path) -> VideoData:
    config = DataConfig(path=str(folder), resolution=8, num_frames=CLIP, cache_dir=str(folder.parent / "cache"))
    return load_data(config, progress=False)


def used_files(data: VideoData) -> dict[str, int]:
    """The number of decoded frames of each file that is used."""
    source = data.train.reader.source
    assert isinstance(source, StoredFrames)
    return {video.name: video.num_frames for video in source.videos}


def names_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(120)
def test_no_file_is_lost_and_each_good_one_is_used(folder: Path, data: VideoData) -> None:
    report, used = data.report, used_files(data)
    assert report
    skipped = [one.name for one in report.skipped]
    files = names_of(folder)

    assert len(files) == len(FORMS) + 200
    assert Counter([*used, *skipped]) == Counter(files)
    assert report.num_files == len(used)
    assert [one.name for one in report.skipped if not one.reason.strip()] == []
    assert {name: used.get(f"good/{name}") for name in FORMS} == dict.fromkeys(FORMS, NUM_FRAMES)


@pytest.mark.timeout(120)
def test_the_skipped_files_are_those_without_enough_readable_frames(folder: Path, data: VideoData) -> None:
    assert data.report
    skipped = {one.name: one for one in data.report.skipped}
    by_ending = {name for name in names_of(folder) if PurePosixPath(name).suffix not in VIDEO_ENDINGS}
    frames = {name: readable(folder / name) for name in names_of(folder) - by_ending}
    usable = {name for name, number in frames.items() if number.before_error >= CLIP}
    unusable = {name for name, number in frames.items() if number.in_all < CLIP}

    assert usable & {*skipped} == set()
    assert (unusable | by_ending) - {*skipped} == set()
    # Between the two are files with readable frames after an error. The project's reader also reads on, but no clip
    # spans the missing frames: such a file is used if a part of it is long enough.
    between = {*frames} - usable - unusable
    assert 0 < len(between - {*skipped}) < 20
    assert {skipped[name].kind for name in between & {*skipped}} <= {"too short"}
    kinds = {kind: {name for name in names_of(folder) if name.startswith(kind)} for kind in COUNTS}
    assert kinds["empty"] | kinds["audio"] | kinds["single"] <= {*skipped}
    for kind in ("truncated", "flipped", "renamed", "resized"):
        assert kinds[kind] & usable
        assert kinds[kind] & {*skipped}


def test_frames_of_two_sizes_are_read_and_no_clip_has_both(folder: Path, data: VideoData) -> None:
    source = data.train.reader.source
    assert isinstance(source, StoredFrames)
    cuts = np.split(source.videos.cuts, np.cumsum(source.videos.num_cuts)[:-1])
    videos = [(video, own) for video, own in zip(source.videos, cuts, strict=True) if video.name.startswith("resized/")]

    assert len(videos) == 4
    for video, own in videos:
        # FFmpeg drops the frame that its decoder of MPEG-2 still holds when the size changes.
        assert video.num_frames == readable(folder / video.name).in_all
        assert video.num_frames >= 2 * NUM_FRAMES - 1
        assert video.num_frames - NUM_FRAMES in own


def test_reasons_of_the_skipped_files_say_what_is_wrong(folder: Path, data: VideoData) -> None:
    assert data.report
    for one in data.report.skipped:
        ending = PurePosixPath(one.name).suffix
        if ending in PICTURE_ENDINGS:
            assert one.kind.startswith("image files")
        elif ending not in VIDEO_ENDINGS:
            assert one.kind == (ending or "without an extension")
        elif one.name.startswith("audio/"):
            assert one.reason == "no video stream"
        elif one.name.startswith("single/"):
            assert one.reason == "a clip needs 3 frames without a cut, but the longest shot has 1 of 1 frames"
        else:
            assert one.kind in ("unreadable", "too short")


def test_every_used_file_has_clips_that_can_be_read(data: VideoData) -> None:
    parts = (data.train.every_window(), data.heldout)

    assert {name for clips in parts for name in clips.table["file"]} == {*used_files(data)}
    for clips in parts:
        names = clips.table["file"][:]
        for name in {*names}:
            assert clips.video(names.index(name)).shape == (3, CLIP, 8, 8)

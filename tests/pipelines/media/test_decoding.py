import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magvit2_pytorch.pipelines.media.decoding import PICTURE_ENDINGS, is_picture, open_frames
from magvit2_pytorch.pipelines.media.frame_reader import DecodingError


def decode_frames(path: Path) -> Iterator[np.ndarray]:
    with open_frames(path) as reader:
        yield from reader


def test_lossless_frames_are_unchanged(tmp_path: Path, write_video, noise) -> None:
    frames = noise(20)

    decoded = list(decode_frames(write_video(tmp_path / "a.mkv", frames)))

    assert np.array_equal(np.stack(decoded), frames)


def test_frames_stored_out_of_order_are_sorted(tmp_path: Path, write_video) -> None:
    levels = np.arange(30, 230, 5, dtype=np.uint8)
    frames = levels[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)

    path = write_video(tmp_path / "a.mp4", frames, "libx264", "yuv420p", bf="3", preset="slow")

    shown = [frame.mean() for frame in decode_frames(path)]
    assert len(shown) == len(levels)
    assert np.abs(np.array(shown) - levels).max() < 2.5


def test_frames_before_and_after_damage_are_read(tmp_path: Path, write_video, noise) -> None:
    frames = noise(10)
    path = write_video(tmp_path / "a.mov", frames, "png", "rgb24")
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"IHDR"]
    content[places[6] : places[6] + 12] = bytes(12)
    path.write_bytes(content)

    with open_frames(path) as reader:
        decoded = list(reader)

    assert np.array_equal(np.stack(decoded), np.delete(frames, 6, axis=0))
    assert reader.gaps == [6]
    assert (reader.lost or "").startswith("9 of 10 frames can be read")


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")

    with pytest.raises(DecodingError, match="Invalid data"):
        list(decode_frames(tmp_path / "text.mp4"))
    with pytest.raises(DecodingError, match="No such file"):
        list(decode_frames(tmp_path / "missing.mp4"))


def test_a_file_with_only_audio_is_refused(tmp_path: Path) -> None:
    samples = np.zeros(400, dtype="<i2").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 800, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 800
    )
    (tmp_path / "sound.avi").write_bytes(header + samples)

    with pytest.raises(DecodingError, match="no video stream"):
        list(decode_frames(tmp_path / "sound.avi"))


def test_a_rotated_video_is_turned_upright(tmp_path: Path, write_video, noise) -> None:
    frames = noise(2, height=32, width=48)
    path = write_video(tmp_path / "a.mov", frames, "png", "rgb24")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    quarter_turn_clockwise = (0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", *quarter_turn_clockwise)
    path.write_bytes(content)

    upright = list(decode_frames(path))

    assert np.array_equal(np.stack(upright), np.rot90(frames, k=-1, axes=(1, 2)))


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("ending", PICTURE_ENDINGS)
def test_an_image_is_a_video_of_one_frame(tmp_path: Path, noise, ending: str) -> None:
    (pixels,) = noise(1)
    is_jpeg = ending in (".jpg", ".jpeg", ".jpe", ".jfif")
    options = {"quality": 100} if is_jpeg else {"lossless": True} if ending == ".webp" else {}
    is_lossy = is_jpeg or ending == ".avif"
    smooth = np.full_like(pixels, (200, 90, 30)) if is_lossy else pixels

    (frame,) = decode_frames(saved(tmp_path / f"a{ending.upper()}", Image.fromarray(smooth), **options))

    assert np.abs(frame.astype(int) - smooth).max() <= (2 if is_lossy else 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LAB"])
def test_images_of_all_modes_keep_their_colours(tmp_path: Path, mode: str) -> None:
    colours = np.zeros((4, 6, 3), dtype=np.uint8)
    colours[:, 3:] = 255 if mode in ("1", "L") else (250, 120, 10)
    picture = Image.fromarray(colours)
    picture = picture.quantize(2) if mode == "P" else picture.convert(mode)

    (frame,) = decode_frames(saved(tmp_path / "a.tif", picture))

    assert picture.mode == mode
    assert np.abs(frame.astype(int) - colours).max() <= (6 if mode == "LAB" else 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_becomes_8_bit(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 255, 256, 0x1234, 0xFEDC, 0xFFFF]], dtype=np.uint16)

    (frame,) = decode_frames(saved(tmp_path / name, Image.fromarray(values)))

    assert frame[0, :, 0].tolist() == [0, 0, 1, 0x12, 0xFE, 0xFF]
    assert (frame == frame[..., :1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(tmp_path: Path, mode: str) -> None:
    layer = np.zeros((2, 3, 4), dtype=np.uint8)
    layer[..., :3] = 40
    layer[:, 1:, 3] = 255
    picture = Image.fromarray(layer)
    if mode == "LA":
        picture = picture.convert("LA")
    if mode == "P":
        picture = Image.fromarray((layer[..., 3] // 255), mode=None).convert("P")
        picture.putpalette([9, 9, 9, 40, 40, 40])
        picture.info["transparency"] = 0

    (frame,) = decode_frames(saved(tmp_path / "a.png", picture))

    assert frame[0].tolist() == [[255] * 3, [40] * 3, [40] * 3]


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
def test_a_rotated_image_is_turned_upright(tmp_path: Path, noise, ending: str) -> None:
    (pixels,) = noise(1, height=6, width=10)
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned clockwise by a quarter
    options = {"lossless": True} if ending == ".webp" else {}

    (frame,) = decode_frames(saved(tmp_path / f"a{ending}", Image.fromarray(pixels), exif=exif, **options))

    assert np.array_equal(frame, np.rot90(pixels, k=-1))


def test_the_first_of_several_pages_is_read(tmp_path: Path, noise) -> None:
    first, second = (Image.fromarray(noise(1, seed=seed)[0]) for seed in range(2))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])

    with open_frames(tmp_path / "a.tif") as reader:
        (frame,) = reader

    assert np.array_equal(frame, np.asarray(first))
    assert reader.lost == "only the first of 2 pages is read"


@pytest.mark.parametrize("ending", [".png", ".apng", ".webp", ".gif", ".avif"])
def test_an_animated_image_is_a_video(tmp_path: Path, ending: str) -> None:
    levels = [10, 90, 170, 250]
    first, *others = (Image.new("RGB", (16, 12), (level, 0, 0)) for level in levels)
    options = {"lossless": True} if ending == ".webp" else {}
    path = saved(tmp_path / f"a{ending}", first, save_all=True, append_images=others, duration=80, **options)

    with open_frames(path) as reader:
        frames = list(reader)

    assert not is_picture(path)
    assert [frame.shape for frame in frames] == [(12, 16, 3)] * 4
    assert np.abs([int(frame[5, 5, 0]) - level for frame, level in zip(frames, levels, strict=True)]).max() <= 3
    assert reader.fps == pytest.approx(12.5)
    assert reader.lost is None


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_a_truncated_image_is_refused(tmp_path: Path, noise, ending: str) -> None:
    path = saved(tmp_path / f"a{ending}", Image.fromarray(noise(1, height=40, width=40)[0]))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(DecodingError):
        list(decode_frames(path))


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "depth.tif")

    for name, message in [
        ("text.png", "cannot identify"),
        ("empty.jpg", "cannot identify"),
        ("missing.png", "No such file"),
        ("depth.tif", "pixels of mode F have no fixed range"),
    ]:
        with pytest.raises(DecodingError, match=message):
            list(decode_frames(tmp_path / name))


def test_a_large_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    with pytest.raises(DecodingError, match=r"300 pixels\) exceeds limit"):
        list(decode_frames(saved(tmp_path / "a.png", Image.new("RGB", (15, 20)))))

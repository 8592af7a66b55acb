"""Codes of a video with the metadata for decoding, in memory or in a safetensors file."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import safetensors
import torch
from jaxtyping import Int
from torch import Tensor

from ..choices import whole_number
from ..configs import config_from_dict
from ..files import as_path, check_result_file, check_tensor_file, written_whole
from ..messages import printable
from ..tokenizer import VideoTokenizer

ENDING = ".safetensors"
FORMAT = "magvit2 codes 1"
HEADER_BYTES = 1024
"""Size of the header, which is at the start of a file but is written last."""
LATENT_FRAMES = 256
"""Number of latent frames in memory while a file is copied."""
NUMPY_TYPES = {"U8": "<u1", "U16": "<u2", "I32": "<i4", "I64": "<i8"}
MAX_FRAME_PIXELS = 2**25
"""Maximum number of pixels of one frame, summed over the videos of a file; about 8K."""
MAX_FPS = 1000


@dataclass(frozen=True, kw_only=True)
class CodesInfo:
    """Metadata of the codes of a video.

    Raises:
        ValueError: if a value is out of range.
    """

    num_frames: int
    """Length of the video. The last latent frame may also contain padding."""
    height: int
    width: int
    fps: float | None
    """Frames per second of the encoded video, None if unknown."""
    codebook_size: int
    tokenizer: str
    """Fingerprint of the tokenizer (`VideoTokenizer.fingerprint`)."""

    def __post_init__(self) -> None:
        for name, least in (("num_frames", 1), ("height", 1), ("width", 1), ("codebook_size", 2)):
            whole_number(name, getattr(self, name), least)
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise ValueError(f"fps must be in (0, {MAX_FPS}], got {self.fps}")


@dataclass(frozen=True)
class VideoCodes:
    """Codes of a video, or of several videos of the same size, with their metadata."""

    info: CodesInfo
    held: Int[Tensor, "b t h w"] | Path
    """The codes, or the path of their file, which is read when they are needed."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a file of codes. Only its header is read.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a complete file of codes.
        """
        path = as_path(path)
        with opened(path) as file:
            metadata = dict(file.metadata() or {})
            found = metadata.pop("format", None)
            if found != FORMAT:
                raise ValueError(
                    f"{path} is not a file of codes: "
                    f"its format is {printable(repr(found))}, this release reads {FORMAT!r}"
                )
            names = file.keys()
            shape, kind = (), ""
            if list(names) == ["codes"]:
                described = file.get_slice("codes")
                shape, kind = tuple(described.get_shape()), described.get_dtype()
            if kind not in NUMPY_TYPES or len(shape) != 4 or 0 in shape:
                raise ValueError(
                    f"{path} must contain one tensor `codes` of shape (b, t, h, w) and type {', '.join(NUMPY_TYPES)}"
                )
        try:
            values = {name: json.loads(value) for name, value in metadata.items()}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a file of codes: its metadata are not JSON") from error
        info = config_from_dict(CodesInfo, values, where=str(path))
        if (num_pixels := shape[0] * info.height * info.width) > MAX_FRAME_PIXELS:
            raise ValueError(f"{path}: frames of {num_pixels:,} pixels are too large, at most {MAX_FRAME_PIXELS:,}")
        return cls(info, path)

    @property
    def codes(self) -> Int[Tensor, "b t h w"]:
        """All codes, on the CPU."""
        return torch.cat(list(self.pieces(self.shape[1])), dim=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes, (b, t, h, w)."""
        if isinstance(self.held, Tensor):
            return tuple(self.held.shape)
        with opened(self.held) as file:
            return tuple(file.get_slice("codes").get_shape())

    @property
    def bits_per_pixel(self) -> float:
        """Bits of all codes, divided by the number of pixels of the videos."""
        info, shape = self.info, self.shape
        pixels = shape[0] * info.num_frames * info.height * info.width
        return (info.codebook_size - 1).bit_length() * math.prod(shape) / pixels

    def pieces(self, step: int) -> Iterator[Int[Tensor, "b _ h w"]]:
        """Yield the codes of `step` latent frames at a time. Of a file, only these are in memory."""
        if isinstance(self.held, Tensor):
            yield from self.held.split(step, dim=1)
            return
        with opened(self.held) as file:
            codes = file.get_slice("codes")
            for start in range(0, codes.get_shape()[1], step):
                yield codes[:, start : start + step].long()

    def save(self, path: str | Path) -> None:
        """Write a file of codes, atomically.

        Raises:
            ValueError: if the name does not end in .safetensors.
        """
        with code_file_writer(path, codebook_size=self.info.codebook_size) as writer:
            for piece in self.pieces(LATENT_FRAMES if self.shape[0] == 1 else self.shape[1]):
                writer.write(piece)
            writer.info = self.info

    def check(self, tokenizer: VideoTokenizer) -> None:
        """Check that a tokenizer can decode these codes.

        Raises:
            ValueError: if the codes are from another tokenizer, or if their grid does not match the size of the video.
        """
        info = self.info
        if info.codebook_size != tokenizer.codebook_size:
            raise ValueError(
                f"the codes have codebook_size {info.codebook_size}, this tokenizer has {tokenizer.codebook_size}"
            )
        if info.tokenizer != (here := tokenizer.fingerprint()):
            raise ValueError(
                f"the codes are from another tokenizer: fingerprint {printable(info.tokenizer)} instead of {here}"
            )
        grid = tokenizer.code_shape(info.num_frames, info.height, info.width)
        if grid != self.shape[1:]:
            raise ValueError(
                f"{info.num_frames} frames of {info.height} x {info.width} pixels have {grid} codes, "
                f"got {self.shape[1:]}"
            )


class CodeFileWriter:
    """Appends codes to a file whose header is written at the end. Created by `code_file_writer`."""

    def __init__(self, file: BinaryIO, codebook_size: int) -> None:
        self.file = file
        self.type = next(name for name, kind in NUMPY_TYPES.items() if codebook_size - 1 <= np.iinfo(kind).max)
        self.shape: tuple[int, ...] | None = None
        self.info: CodesInfo | None = None
        """Must be set before the end of the block, where the number of frames is known."""
        file.write(bytes(HEADER_BYTES))

    def write(self, codes: Int[Tensor, "b _ h w"]) -> None:
        """Append the next latent frames of a video. Codes of several videos must be written in a single call."""
        b, t, h, w = codes.shape
        before = self.shape or (b, 0, h, w)
        if (b, h, w) != (before[0], *before[2:]) or (b > 1 and self.shape):
            raise ValueError(f"codes of shape {(b, t, h, w)} cannot follow codes of shape {before}")
        self.shape = (b, before[1] + t, h, w)
        self.file.write(codes.cpu().numpy().astype(NUMPY_TYPES[self.type]).tobytes())

    def write_header(self) -> None:
        if self.info is None or self.shape is None:
            raise ValueError("no codes were written")
        size = np.dtype(NUMPY_TYPES[self.type]).itemsize * math.prod(self.shape)
        metadata = {"format": FORMAT} | {name: json.dumps(value) for name, value in asdict(self.info).items()}
        entry = {"dtype": self.type, "shape": self.shape, "data_offsets": (0, size)}
        header = json.dumps({"__metadata__": metadata, "codes": entry}).encode()
        room = HEADER_BYTES - 8  # the first 8 bytes are the length of the header
        assert len(header) <= room, header
        self.file.seek(0)
        self.file.write(room.to_bytes(8, "little") + header.ljust(room))


@contextmanager
def code_file_writer(path: str | Path, *, codebook_size: int) -> Iterator[CodeFileWriter]:
    """Yield a writer of codes that come in pieces. The file appears when the block ends without an error.

    Raises:
        ValueError: if the name does not end in .safetensors, or if no codes were written.
    """
    with written_whole(check_code_ending(path)) as aside, aside.open("wb") as file:
        writer = CodeFileWriter(file, codebook_size)
        yield writer
        writer.write_header()


@contextmanager
def opened(path: Path) -> Iterator[safetensors.safe_open]:
    """Open a safetensors file to read parts of it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    check_tensor_file(path)
    try:
        file = safetensors.safe_open(path, framework="pt")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a complete file of codes: {error}") from error
    with file:
        yield file


def check_code_ending(path: str | Path, *others: object) -> Path:
    """Return the path of a file of codes to write.

    Args:
        others: as in `check_result_file`.

    Raises:
        ValueError: if it has another ending, or as in `check_result_file`.
    """
    path = check_result_file(path, *others)
    if path.suffix.lower() != ENDING:
        raise ValueError(f"a file of codes must end in {ENDING}, got {path}")
    return path

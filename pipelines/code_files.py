"""A video as codes, in memory or in a file: safetensors with all that it takes to make it a video again."""

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

from ..configs import config_from_dict
from ..files import check_result_file, written_whole
from ..tokenizer import VideoTokenizer

ENDING = ".safetensors"
FORMAT = "magvit2 codes 1"
HEADER_BYTES = 1024
"""Kept free for the header of a file, which comes first and is written last."""
LATENT_FRAMES = 256
"""In memory at once where a file is copied."""
NUMPY_TYPES = {"U8": "<u1", "U16": "<u2", "I32": "<i4", "I64": "<i8"}


@dataclass(frozen=True, kw_only=True)
class CodesInfo:
    """What stands beside the codes of a video."""

    num_frames: int
    """In pixels; codes do not know how many frames of the last latent frame are padding."""
    height: int
    width: int
    fps: float | None
    """Frames per second of the file that the video came from, if it told them."""
    codebook_size: int
    tokenizer: str
    """The `fingerprint` of the tokenizer whose codes these are."""


@dataclass(frozen=True)
class VideoCodes:
    """Codes of a video, or of several of one size, with what stands beside them."""

    info: CodesInfo
    held: Int[Tensor, "b t h w"] | Path
    """The codes, or the file that they are in and that is read when they are needed."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The codes in a file, of which only the header is read now.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no whole file of codes.
        """
        path = Path(path)
        with opened(path) as file:
            metadata = dict(file.metadata() or {})
            found = metadata.pop("format", None)
            if found != FORMAT:
                raise ValueError(f"{path} is no file of codes: its format is {found!r}, this release reads {FORMAT!r}")
            values = {name: json.loads(value) for name, value in metadata.items()}
        return cls(config_from_dict(CodesInfo, values, where=str(path)), path)

    @property
    def codes(self) -> Int[Tensor, "b t h w"]:
        """All codes, on the CPU."""
        return torch.cat(list(self.pieces(self.shape[1])), dim=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the codes: `b t h w`."""
        if isinstance(self.held, Tensor):
            return tuple(self.held.shape)
        with opened(self.held) as file:
            return tuple(file.get_slice("codes").get_shape())

    @property
    def bits_per_pixel(self) -> float:
        """Bits that the codes have, over the pixels of the video."""
        info, shape = self.info, self.shape
        pixels = shape[0] * info.num_frames * info.height * info.width
        return (info.codebook_size - 1).bit_length() * math.prod(shape) / pixels

    def pieces(self, step: int) -> Iterator[Int[Tensor, "b _ h w"]]:
        """The codes of `step` latent frames after those of others; no more are held."""
        if isinstance(self.held, Tensor):
            yield from self.held.split(step, dim=1)
            return
        with opened(self.held) as file:
            codes = file.get_slice("codes")
            for start in range(0, codes.get_shape()[1], step):
                yield codes[:, start : start + step].long()

    def save(self, path: str | Path) -> None:
        """Write a file of codes, whole or not at all.

        Raises:
            ValueError: the name does not end in .safetensors.
        """
        with code_file_writer(path, codebook_size=self.info.codebook_size) as writer:
            for piece in self.pieces(LATENT_FRAMES if self.shape[0] == 1 else self.shape[1]):
                writer.write(piece)
            writer.info = self.info

    def check(self, tokenizer: VideoTokenizer) -> None:
        """
        Raises:
            ValueError: these are codes of another tokenizer.
        """
        if self.info.codebook_size != tokenizer.codebook_size:
            raise ValueError(
                f"these codes are of a tokenizer with {self.info.codebook_size} codes, "
                f"this one has {tokenizer.codebook_size}"
            )
        if self.info.tokenizer != (here := tokenizer.fingerprint()):
            raise ValueError(
                f"these codes are of another tokenizer (fingerprint {self.info.tokenizer}, this one has {here}), "
                "and would be another video here"
            )


class CodeFileWriter:
    """Adds codes to a file that has room for its header; made by `code_file_writer`."""

    def __init__(self, file: BinaryIO, codebook_size: int) -> None:
        self.file = file
        self.type = next(name for name, kind in NUMPY_TYPES.items() if codebook_size - 1 <= np.iinfo(kind).max)
        self.shape: tuple[int, ...] | None = None
        self.info: CodesInfo | None = None
        """To be set before the end: the number of frames may be known only then."""
        file.write(bytes(HEADER_BYTES))

    def write(self, codes: Int[Tensor, "b _ h w"]) -> None:
        """The next latent frames of a video; those of several videos, all at once."""
        b, t, h, w = codes.shape
        before = self.shape or (b, 0, h, w)
        if (b, h, w) != (before[0], *before[2:]) or (b > 1 and self.shape):
            raise ValueError(f"codes of shape {(b, t, h, w)} cannot follow those of shape {before} in a file")
        self.shape = (b, before[1] + t, h, w)
        self.file.write(codes.cpu().numpy().astype(NUMPY_TYPES[self.type]).tobytes())

    def write_header(self) -> None:
        if self.info is None or self.shape is None:
            raise ValueError("there are no codes to write")
        size = np.dtype(NUMPY_TYPES[self.type]).itemsize * math.prod(self.shape)
        metadata = {"format": FORMAT} | {name: json.dumps(value) for name, value in asdict(self.info).items()}
        entry = {"dtype": self.type, "shape": self.shape, "data_offsets": (0, size)}
        header = json.dumps({"__metadata__": metadata, "codes": entry}).encode()
        room = HEADER_BYTES - 8  # the length of the header is in front of it
        assert len(header) <= room, header
        self.file.seek(0)
        self.file.write(room.to_bytes(8, "little") + header.ljust(room))


@contextmanager
def code_file_writer(path: str | Path, *, codebook_size: int) -> Iterator[CodeFileWriter]:
    """A writer of codes that come piece by piece, to be told `info` at the end; whole or not at all.

    Raises:
        ValueError: the name does not end in .safetensors, or no codes were written.
    """
    with written_whole(check_code_ending(path)) as aside, aside.open("wb") as file:
        writer = CodeFileWriter(file, codebook_size)
        yield writer
        writer.write_header()


@contextmanager
def opened(path: Path) -> Iterator[safetensors.safe_open]:
    """A file of codes, read where it is asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no whole file of codes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        file = safetensors.safe_open(path, framework="pt")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no whole file of codes: {error}") from error
    with file:
        yield file


def check_code_ending(path: str | Path, *others: object) -> Path:
    """The path, if it may be that of a file of codes.

    Args:
        others: as in `check_result_file`.

    Raises:
        ValueError: another ending, or as `check_result_file`.
    """
    path = check_result_file(path, *others)
    if path.suffix.lower() != ENDING:
        raise ValueError(f"a file of codes ends in {ENDING}, got {path}")
    return path

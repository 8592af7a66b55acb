"""Encoding of whole videos as codes and decoding of codes, in memory or from file to file."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self, Unpack, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ..files import as_path
from ..hub import HubOptions
from ..tokenizer import VideoTokenizer
from .code_files import CodesInfo, VideoCodes, check_code_ending, code_file_writer
from .media.pictures import save_pieces
from .media.squared_error import SquaredError
from .media.video_files import DEFAULT_FPS, check_ending
from .media.video_like import VideoLike
from .media.video_source import VideoSource
from .movable import Movable
from .streams import decode_pieces, encode_pieces, reconstruct_pieces

logger = logging.getLogger(__name__)

PIECE_FRAMES = 16
MANY_FRAMES = 1000


class WrittenVideo(NamedTuple):
    """A video file that a pipeline has written."""

    path: Path
    num_frames: int
    fps: float
    psnr: float | None
    """PSNR of a reconstruction over all frames, in dB; None for decoded codes."""


class TokenizationPipeline(Movable):
    """Encodes videos of any length as codes, and decodes codes.

    Videos are processed in pieces. The layers keep a state between pieces, so the result is the same as that of
    `tokenizer.encode` and `tokenizer.decode` on all frames. Only the results are kept in memory, or nothing if they are
    written to a file. Exception: full `attend_time` layers keep keys and values of all frames.

    Arguments of several methods:
        output: file to write. It appears when it is complete.
        own_size: whether to keep the size of the frames. By default they are resized and cropped to the size that the
            tokenizer was trained on.
        max_frames: number of frames to read from the start; None reads all.
        piece_frames: number of frames per piece, which are in memory at the same time.
        progress: whether to show a progress bar.
    """

    def __init__(self, tokenizer: VideoTokenizer) -> None:
        self.tokenizer = tokenizer.eval()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **hub: Unpack[HubOptions],
    ) -> Self:
        """Load the tokenizer in a folder or Hub repository (`owner/name`) of a tokenizer or of a pipeline.

        Arguments and errors are those of `VideoTokenizer.from_pretrained`.
        """
        return cls(VideoTokenizer.from_pretrained(name_or_folder, dtype=dtype, device=device, **hub))

    def models(self) -> tuple[VideoTokenizer]:
        """Return the tokenizer."""
        return (self.tokenizer,)

    def tokenize(
        self,
        video: str | Path | VideoLike,
        *,
        output: str | Path | None = None,
        own_size: bool = False,
        max_frames: int | None = None,
        piece_frames: int = PIECE_FRAMES,
        progress: bool = True,
    ) -> VideoCodes:
        """Encode a video.

        Args:
            video: path of a video or image file, or pixels of one or several videos (see `VideoLike`).
            output: path that ends in .safetensors.

        Returns:
            The codes with the metadata for `detokenize`. If they are written to `output`, they are not kept in memory.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file has no readable video, if pixels have a wrong shape, type or range, or if `output`
                has another ending.
        """
        if output is not None:
            output = check_code_ending(output, video)
        source = self._source(video, own_size, max_frames, piece_frames, progress)
        pieces = encode_pieces(self.tokenizer, source)
        if output is None:
            codes = torch.cat(list(pieces), dim=1)
            return VideoCodes(self._info(source), codes)
        with code_file_writer(output, codebook_size=self.tokenizer.codebook_size) as writer:
            for piece in pieces:
                writer.write(piece)
            writer.info = info = self._info(source)
        return VideoCodes(info, output)

    @overload
    def detokenize(
        self, codes: VideoCodes | str | Path, *, piece_frames: int = PIECE_FRAMES, progress: bool = True
    ) -> Float[Tensor, "b 3 T H W"]: ...

    @overload
    def detokenize(
        self,
        codes: VideoCodes | str | Path,
        *,
        output: str | Path,
        fps: float | None = None,
        min_width: int = 0,
        piece_frames: int = PIECE_FRAMES,
        progress: bool = True,
    ) -> WrittenVideo: ...

    def detokenize(
        self,
        codes: VideoCodes | str | Path,
        *,
        output: str | Path | None = None,
        fps: float | None = None,
        min_width: int = 0,
        piece_frames: int = PIECE_FRAMES,
        progress: bool = True,
    ) -> Float[Tensor, "b 3 T H W"] | WrittenVideo:
        """Decode codes to a video of the size and length of the encoded one.

        Args:
            codes: output of `tokenize`, or path of a file of codes.
            output: path that ends in .mp4 or .gif, or in .png or .jpg for a single frame. Several videos are shown side
                by side.
            fps: frames per second of the file. None: frame rate of the encoded video, or 12 if unknown.
            min_width: minimum width of the picture in the file, reached by enlarging it by an integer factor.

        Returns:
            The video in [0, 1] or, with `output`, a description of the file.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file is not a complete file of codes, if the codes are from another tokenizer, or if
                `output` cannot be written.
        """
        if output is not None:
            check_ending(output, codes)
        codes = codes if isinstance(codes, VideoCodes) else VideoCodes.load(codes)
        codes.check(self.tokenizer)
        pieces = decode_pieces(self.tokenizer, codes, piece_frames, progress=progress)
        if output is None:
            return torch.cat(list(pieces), dim=2)
        fps = (codes.info.fps or DEFAULT_FPS) if fps is None else fps
        save_pieces(output, pieces, fps=fps, min_width=min_width)
        return WrittenVideo(as_path(output), codes.info.num_frames, fps, None)

    @overload
    def reconstruct(
        self,
        video: str | Path | VideoLike,
        *,
        own_size: bool = False,
        max_frames: int | None = None,
        piece_frames: int = PIECE_FRAMES,
        progress: bool = True,
    ) -> Float[Tensor, "b 3 T H W"]: ...

    @overload
    def reconstruct(
        self,
        video: str | Path | VideoLike,
        *,
        output: str | Path,
        side_by_side: bool = False,
        fps: float | None = None,
        min_width: int = 0,
        own_size: bool = False,
        max_frames: int | None = None,
        piece_frames: int = PIECE_FRAMES,
        progress: bool = True,
    ) -> WrittenVideo: ...

    def reconstruct(
        self,
        video: str | Path | VideoLike,
        *,
        output: str | Path | None = None,
        side_by_side: bool = False,
        fps: float | None = None,
        min_width: int = 0,
        own_size: bool = False,
        max_frames: int | None = None,
        piece_frames: int = PIECE_FRAMES,
        progress: bool = True,
    ) -> Float[Tensor, "b 3 T H W"] | WrittenVideo:
        """Encode a video and decode its codes.

        Args:
            video: as in `tokenize`.
            output, fps, min_width: as in `detokenize`.
            side_by_side: whether the file shows the original next to the reconstruction.

        Returns:
            The reconstruction in [0, 1] or, with `output`, a description of the file.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file has no readable video, if pixels have a wrong shape, type or range, or if `output`
                cannot be written.
        """
        if output is not None:
            check_ending(output, video)
        source = self._source(video, own_size, max_frames, piece_frames, progress)
        pairs = reconstruct_pieces(self.tokenizer, source)
        if output is None:
            return torch.cat([reconstruction for _, reconstruction in pairs], dim=2)
        fps = (source.fps or DEFAULT_FPS) if fps is None else fps
        error = SquaredError()

        def shown() -> Iterator[Float[Tensor, "videos 3 _ H W"]]:
            for original, reconstruction in pairs:
                error.add(original, reconstruction)
                yield in_pairs(original, reconstruction) if side_by_side else reconstruction

        captions = ["original", "reconstruction"] * source.batch if side_by_side else None
        columns = 2 if side_by_side else None
        save_pieces(output, shown(), captions=captions, fps=fps, columns=columns, min_width=min_width)
        return WrittenVideo(as_path(output), source.num_frames, fps, error.psnr)

    def _source(
        self, video: str | Path | VideoLike, own_size: bool, max_frames: int | None, piece_frames: int, progress: bool
    ) -> VideoSource:
        config = self.tokenizer.config
        size = None if own_size else config.height_width
        source = VideoSource(video, size=size, piece_frames=piece_frames, max_frames=max_frames, progress=progress)
        layers = {layer.name for layer in (*config.encoder_layers_resolved, *config.decoder_layers_resolved)}
        if (source.expected or 0) > MANY_FRAMES and not layers.isdisjoint({"attend_time", "cond_attend_time"}):
            logger.warning(
                "the attend_time layers of this tokenizer keep all %d frames of the video: memory and time per frame "
                "grow with its length (local_attend_time layers keep a fixed number of frames)",
                source.expected,
            )
        return source

    def _info(self, source: VideoSource) -> CodesInfo:
        return CodesInfo(
            num_frames=source.num_frames,
            height=source.height,
            width=source.width,
            fps=source.fps,
            codebook_size=self.tokenizer.codebook_size,
            tokenizer=self.tokenizer.fingerprint(),
        )


def in_pairs(
    originals: Float[Tensor, "b 3 T H W"], results: Float[Tensor, "b 3 T H W"]
) -> Float[Tensor, "pairs 3 T H W"]:
    """Return a batch in which each original is followed by its result."""
    return torch.stack([originals, results], dim=1).flatten(0, 1)

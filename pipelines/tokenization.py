"""Tokenization of whole videos, in files or in memory: to codes and back, piece by piece."""

import logging
from pathlib import Path
from typing import NamedTuple, Self, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ..tokenizer import VideoTokenizer
from .code_files import CodesInfo, VideoCodes, check_code_ending, code_file_writer
from .media.pictures import save_pieces
from .media.squared_error import SquaredError
from .media.video_files import DEFAULT_FPS, check_ending
from .media.video_like import VideoLike
from .media.video_source import VideoSource
from .movable import Movable
from .streams import adding_errors, decode_pieces, encode_pieces, reconstruct_pieces

logger = logging.getLogger(__name__)

PIECE_FRAMES = 16
MANY_FRAMES = 1000


class WrittenVideo(NamedTuple):
    """A file that was written piece by piece."""

    path: Path
    num_frames: int
    fps: float
    psnr: float | None
    """Of a reconstruction, over all its frames, in decibels."""


class TokenizationPipeline(Movable):
    """Videos to codes and back, in files and in memory, of any length.

    Videos run through the tokenizer piece by piece, with a state that runs through the whole video: the result is that
    of `tokenizer.encode` and `tokenizer.decode` for all frames at once, but memory grows only with what is returned;
    where an output file is named, not at all (except by the keys and values of full `attend_time` layers).

    Arguments of all methods:
        output: a file to write the result into as it comes. It appears when it is whole.
        own_size: take frames as large as they are; by default they are cropped and resized to what the tokenizer was
            trained for.
        max_frames: take only so many frames from the start.
        piece_frames: frames that are in memory at once.
        progress: show a progress bar.
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
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load the tokenizer in a folder or Hub repository (`owner/name`) of a tokenizer or of a pipeline.

        Arguments and errors are those of `VideoTokenizer.from_pretrained`.
        """
        tokenizer = VideoTokenizer.from_pretrained(
            name_or_folder,
            dtype=dtype,
            device=device,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return cls(tokenizer)

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
        """The codes of a video; an image file is a video of one frame.

        Args:
            video: a file, or a video or several in any form that `generate` takes.
            output: ends in .safetensors.

        Returns:
            The codes, with all that it takes to make them a video again; of those in `output` nothing is in memory.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no video, the pixels are no video in [0, 1], or `output` is no file of codes.
        """
        if output is not None:
            check_code_ending(output, video)
        source = self._source(video, own_size, max_frames, piece_frames, progress)
        pieces = encode_pieces(self.tokenizer, source)
        if output is None:
            codes = torch.cat(list(pieces), dim=1)
            return VideoCodes(self._info(source), codes)
        with code_file_writer(output, codebook_size=self.tokenizer.codebook_size) as writer:
            for piece in pieces:
                writer.write(piece)
            writer.info = info = self._info(source)
        return VideoCodes(info, Path(output))

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
        """The video in [0, 1] that codes stand for, of the size and length of the one that they were made from.

        Args:
            codes: what `tokenize` gave, or a file of codes.
            output: .mp4 or .gif; for a single frame .png or .jpg. Several videos lie side by side in it.
            fps: frames per second of the file; by default those of the video that the codes were made from.
            min_width: the picture in the file is enlarged by a whole factor to at least so many pixels.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no whole file of codes, they are of another tokenizer, or `output` cannot be written.
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
        return WrittenVideo(Path(output), codes.info.num_frames, fps, None)

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
        """A video in [0, 1] through codes and back.

        Args:
            video, output, fps, min_width: as in `tokenize` and `detokenize`.
            side_by_side: the file shows the original beside the reconstruction.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no video, the pixels are no video in [0, 1], or `output` cannot be written.
        """
        if output is not None:
            check_ending(output, video)
        source = self._source(video, own_size, max_frames, piece_frames, progress)
        pairs = reconstruct_pieces(self.tokenizer, source)
        if output is None:
            return torch.cat([reconstruction for _, reconstruction in pairs], dim=2)
        fps = (source.fps or DEFAULT_FPS) if fps is None else fps
        error = SquaredError()
        pieces = (in_pairs(*pair) if side_by_side else pair[1] for pair in adding_errors(error, pairs))
        captions = ["original", "reconstruction"] * source.batch if side_by_side else None
        columns = 2 if side_by_side else None
        save_pieces(output, pieces, captions=captions, fps=fps, columns=columns, min_width=min_width)
        return WrittenVideo(Path(output), source.num_frames, fps, error.psnr)

    def _source(
        self, video: str | Path | VideoLike, own_size: bool, max_frames: int | None, piece_frames: int, progress: bool
    ) -> VideoSource:
        config = self.tokenizer.config
        size = None if own_size else config.height_width
        source = VideoSource(video, size=size, piece_frames=piece_frames, max_frames=max_frames, progress=progress)
        layers = {layer.name for layer in (*config.encoder_layers_resolved, *config.decoder_layers_resolved)}
        if (source.expected or 0) > MANY_FRAMES and not layers.isdisjoint({"attend_time", "cond_attend_time"}):
            logger.warning(
                "the attend_time layers of this tokenizer look back at all of the video's %d frames: memory and time "
                "grow with every one (local_attend_time would not)",
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
    """Each original followed by what was made of it."""
    return torch.stack([originals, results], dim=1).flatten(0, 1)

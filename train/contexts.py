"""Context embeddings of the videos in a folder (for example of their captions), for training MaskGIT."""

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..messages import printable
from .data.sources.folder import CONTEXT_ENDING, visible_files

TENSOR_NAME = "context"
SECTION = re.compile(r"@[\d.e+-]*-[\d.e+-]*$")  # of a list, at the end of a name

logger = logging.getLogger(__name__)


class Contexts(NamedTuple):
    """The embeddings of each video, read on access."""

    files: Sequence[Path | None]
    """The file of each video, None if it has none."""
    num_embeddings: int
    """Largest number of embeddings in a file; others are padded to it."""
    channels: int
    fingerprint: str

    def of(self, videos: Sequence[int]) -> tuple[Float[Tensor, "b m e"], Bool[Tensor, "b m"]]:
        """Return the embeddings of the videos with some numbers, and their padding mask: True where there is none."""
        embeddings = torch.zeros(len(videos), self.num_embeddings, self.channels)
        is_padding = torch.ones(len(videos), self.num_embeddings, dtype=torch.bool)
        for row, video in enumerate(videos):
            if (file := self.files[video]) is not None:
                context = safetensors.torch.load_file(file)[TENSOR_NAME].float()
                embeddings[row, : len(context)] = context
                is_padding[row, : len(context)] = False
        return embeddings, is_padding


def find_contexts(folder: Path, videos: Sequence[str]) -> Contexts | None:
    """Find `NAME.context.safetensors` next to `NAME.mp4` or another video; return None if no video has such a file.

    The file contains a tensor `context` of shape (embeddings, channels). All files have the same number of channels.

    Args:
        videos: each one as a path below the folder.

    Raises:
        ValueError: if a file contains no such tensor, or another number of channels than the first file.
    """
    files = {}
    for file in visible_files(folder):
        if file.name.endswith(CONTEXT_ENDING) and file.is_file():
            if str(file).encode("utf-8", "ignore").decode() == str(file):
                files[file.relative_to(folder).as_posix().removesuffix(CONTEXT_ENDING)] = file
            else:
                logger.warning("skipped %s: safetensors can only open names in UTF-8", printable(file, 4096))
    stems = {video: PurePosixPath(SECTION.sub("", video)).with_suffix("").as_posix() for video in sorted(set(videos))}
    found = {video: files[stem] for video, stem in stems.items() if stem in files}
    if not found:
        return None
    shapes = {file: context_shape(file) for file in found.values()}
    first, (_, channels) = next(iter(shapes.items()))
    for file, shape in shapes.items():
        if shape[1] != channels:
            raise ValueError(
                f"contexts must have the same number of channels, got {channels} in {first} and {shape[1]} in {file}"
            )
    identities = "\n".join(f"{video} {hashlib.sha256(file.read_bytes()).hexdigest()}" for video, file in found.items())
    return Contexts(
        [found.get(video) for video in videos],
        max(shape[0] for shape in shapes.values()),
        channels,
        hashlib.sha256(identities.encode()).hexdigest()[:32],
    )


def context_shape(file: Path) -> tuple[int, int]:
    """Return the number of embeddings and channels of a file, from its header.

    Raises:
        ValueError: if it contains no floating point tensor `context` of shape (embeddings, channels).
    """
    try:
        with safetensors.safe_open(file, framework="pt") as content:
            names = content.keys()
            tensors = {name: content.get_slice(name) for name in names}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}") from error
    shape = tensors[TENSOR_NAME].get_shape() if TENSOR_NAME in tensors else None
    if shape is None or len(shape) != 2 or min(shape) < 1 or "F" not in tensors[TENSOR_NAME].get_dtype():
        described = ", ".join(f"{name} of {one.get_shape()} {one.get_dtype()}" for name, one in tensors.items())
        raise ValueError(
            f"{file} must contain a floating point tensor {TENSOR_NAME!r} of shape (embeddings, channels), "
            f"got {described or 'no tensors'}"
        )
    return shape[0], shape[1]

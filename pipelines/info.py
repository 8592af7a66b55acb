"""Descriptions of saved folders and files of codes, for `magvit2 info`."""

from pathlib import Path

from ..files import as_path, read_json
from ..hub import fetch
from ..maskgit import MaskGit
from ..messages import printable
from ..pretrained import CONFIG_NAME, training_facts
from ..tokenizer import VideoTokenizer
from .code_files import ENDING, VideoCodes
from .generation import VideoGenerationPipeline
from .saved_pipeline import INDEX_NAME

MODELS = {model.__name__: model for model in (VideoTokenizer, MaskGit)}


def facts_of(name_or_path: str | Path) -> dict[str, str]:
    """Return the properties of a file of codes, or of a folder or Hub repository of a pipeline or a model, by name.

    Raises:
        FileNotFoundError: if there is no such file, folder or repository.
        ValueError: if it is none of these or is damaged.
    """
    path = as_path(name_or_path)
    if path.is_file():
        if path.suffix.lower() != ENDING:
            raise ValueError(f"{path} is neither a file of codes ({ENDING}) nor a folder")
        return code_facts(VideoCodes.load(path))
    folder = fetch(name_or_path)
    if (folder / INDEX_NAME).is_file():
        pipeline = VideoGenerationPipeline.from_pretrained(folder)
        models = {"tokenizer": pipeline.tokenizer, "transformer": pipeline.maskgit}
        of_models = {
            f"{part}: {name}": fact for part, model in models.items() for name, fact in model.card_facts().items()
        }
        header = {"class": type(pipeline).__name__} | format_of(folder / INDEX_NAME) | training_facts(folder)
        return header | pipeline.card_facts() | of_models
    path = folder / CONFIG_NAME
    name = read_json(path).get("_class") if path.is_file() else None
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"{printable(name_or_path)} contains no pipeline, no model and no training run")
    header = {"class": name} | format_of(path) | training_facts(folder)
    return header | MODELS[name].from_pretrained(folder).card_facts()


def format_of(path: Path) -> dict[str, str]:
    """Return the format version of a config file."""
    return {"format version": str(read_json(path).get("_format"))}


def code_facts(codes: VideoCodes) -> dict[str, str]:
    """Return the properties of a file of codes."""
    info, (batch, *grid) = codes.info, codes.shape
    facts = {
        "video": f"{info.num_frames} frames of {info.height} x {info.width} pixels",
        "frames per second": "unknown" if info.fps is None else f"{info.fps:g}",
        "codes": " x ".join(map(str, grid)),
        "codebook size": f"{info.codebook_size:,}",
        "bits per pixel": f"{codes.bits_per_pixel:.4f}",
        "fingerprint of the tokenizer": info.tokenizer,
    }
    return facts if batch == 1 else {"videos": str(batch)} | facts

"""Identity of a tokenizer."""

import hashlib
import json
from dataclasses import fields

import torch

from ..configs import config_to_dict
from .autoencoder import Autoencoder
from .config import SEPARATOR, TokenizerArchitecture


def fingerprint(tokenizer: Autoencoder) -> str:
    """Return a digest of the architecture and the weights. Tokenizers with the same digest have interchangeable codes.

    If only the decoder was trained after the tokenizer in `config.codes_of`, the digest of that tokenizer is returned.

    Weights are rounded to bfloat16 first, so the digest is the same in float32 and in bfloat16 (but not in float16).
    Fields of the architecture count only if they differ from their default, so a new field does not change digests.
    """
    if tokenizer.config.codes_of is not None:
        earlier, encoder = tokenizer.config.codes_of.split(SEPARATOR)
        if encoder == digest_of(tokenizer, prefix="encoder."):
            return earlier
    return digest_of(tokenizer)


def shared_codes(tokenizer: Autoencoder) -> str:
    """Return `codes_of` for a tokenizer with the same encoder but another decoder."""
    return fingerprint(tokenizer) + SEPARATOR + digest_of(tokenizer, prefix="encoder.")


def digest_of(tokenizer: Autoencoder, *, prefix: str = "") -> str:
    """Return the digest of the architecture and of the weights whose names begin with `prefix`."""
    default, config = config_to_dict(TokenizerArchitecture()), config_to_dict(tokenizer.config)
    names = [field.name for field in fields(TokenizerArchitecture) if config[field.name] != default[field.name]]
    if prefix:
        names = [name for name in names if name != "decoder_layers"]
    digest = hashlib.sha256(json.dumps({name: config[name] for name in names}, sort_keys=True).encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        if not name.startswith(prefix):
            continue
        digest.update(f"{name} {tuple(value.shape)}".encode())
        rounded = value.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

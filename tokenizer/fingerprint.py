"""Identity of a tokenizer."""

import hashlib
import json
from dataclasses import fields

import torch

from ..configs import config_to_dict
from .autoencoder import Autoencoder
from .config import TokenizerArchitecture


def fingerprint(tokenizer: Autoencoder) -> str:
    """Return a digest of the architecture and the weights. Tokenizers with the same digest have interchangeable codes.

    Weights are rounded to bfloat16 first, so the digest is the same in float32 and in bfloat16 (but not in float16).
    Fields of the architecture count only if they differ from their default, so a new field does not change digests.
    """
    default, config = config_to_dict(TokenizerArchitecture()), config_to_dict(tokenizer.config)
    names = [field.name for field in fields(TokenizerArchitecture) if config[field.name] != default[field.name]]
    digest = hashlib.sha256(json.dumps({name: config[name] for name in names}, sort_keys=True).encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        rounded = value.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

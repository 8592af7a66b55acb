"""Convert an image tokenizer into a video tokenizer that gives the same result on images.

The kernels of the image tokenizer become the last temporal slice of the kernels of the video tokenizer, which sees the
current frame; the other slices are zero (MAGVIT-v2, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .attention import Attention
from .autoencoder import Autoencoder
from .convolution import CausalConv3d
from .layer_kinds import Layer, LayerSpec, as_tuples
from .resampling import Upsample

Tokenizer = TypeVar("Tokenizer", bound=Autoencoder)


@torch.no_grad()
def inflate(
    image_tokenizer: Tokenizer,
    layers: Sequence[LayerSpec | Sequence[Any]] | None = None,
    decoder_layers: Sequence[LayerSpec | Sequence[Any]] | None = None,
) -> Tokenizer:
    """Return a video tokenizer with the weights of an image tokenizer (`image_only`), and the same results on images.

    Args:
        layers: layers of the video tokenizer. None: those of the image tokenizer. Otherwise the same, except that
            `compress` may also compress time, and new layers over time that keep the width may be inserted.
        decoder_layers: the same for `decoder_layers` of the config.

    Raises:
        ValueError: if this is not an image tokenizer, or if the layers differ in another way.
    """
    before = image_tokenizer.config
    if not before.image_only:
        raise ValueError("only an image tokenizer (image_only=True) can be inflated, this is a video tokenizer")
    after = replace(
        before,
        image_only=False,
        layers=before.layers if layers is None else as_tuples(layers),
        decoder_layers=before.decoder_layers if decoder_layers is None else as_tuples(decoder_layers),
    )
    tokenizer = type(image_tokenizer).from_config(after)
    parameter = next(image_tokenizer.parameters())
    tokenizer.to(parameter.device, parameter.dtype)

    for half, video_layers, image_layers in (
        ("encoder", after.encoder_layers_resolved, before.encoder_layers_resolved),
        ("decoder", after.decoder_layers_resolved, before.decoder_layers_resolved),
    ):
        # In the order from pixels to latents: stem or head, the layers, and the layer next to the latents.
        inwards = slice(None, None, 1 if half == "encoder" else -1)
        video_modules = list(tokenizer.get_submodule(half).children())[inwards]
        image_modules = list(image_tokenizer.get_submodule(half).children())[inwards]
        partners = [-1, *align(video_layers, image_layers), len(image_layers)]
        for video_module, partner in zip(video_modules, partners, strict=True):
            if partner is None:
                start_as_identity(video_module)
            else:
                block = after.folding if half == "encoder" else after.unfolding
                take_over(video_module, image_modules[partner + 1], block[1] * block[2])
    return tokenizer.train(image_tokenizer.training)


def align(video_layers: Sequence[Layer], image_layers: Sequence[Layer]) -> list[int | None]:
    """Return for each layer of a video tokenizer the index of its counterpart for images; None if it is new.

    Raises:
        ValueError: if a new layer changes the width or is not a layer over time, or if a layer is missing.
    """
    partners: list[int | None] = []
    next_one = 0
    for layer in video_layers:
        image_layer = image_layers[next_one] if next_one < len(image_layers) else None
        if image_layer is not None and as_image(layer) == as_image(image_layer):
            partners.append(next_one)
            next_one += 1
        elif layer.kind.is_temporal and layer.width_before == layer.width_after:
            partners.append(None)
        else:
            raise ValueError(
                f"layer {layer.name!r} with widths {layer.width_before} to {layer.width_after} is not in the image "
                "tokenizer, and only layers over time that keep the width can be new"
            )
    if next_one < len(image_layers):
        raise ValueError(f"layer {image_layers[next_one].name!r} of the image tokenizer is missing in the new layers")
    return partners


def as_image(layer: Layer) -> Layer:
    """Return the layer without its temporal factor, which does not matter for images."""
    return layer._replace(factors=(1, *layer.factors[1:]))


def take_over(video_module: nn.Module, image_module: nn.Module, pixels_of_block: int) -> None:
    """Copy the parameters of an image layer into its counterpart for video.

    Args:
        pixels_of_block: number of pixels of a frame that are folded into channels.
    """
    if isinstance(video_module, Upsample):
        pixels_of_block = video_module.factors[1] * video_module.factors[2]
    images = dict(image_module.named_parameters())
    for name, parameter in video_module.named_parameters():
        parameter.copy_(inflated(images[name], parameter, pixels_of_block))


def inflated(value: Tensor, like: Tensor, pixels: int) -> Tensor:
    """Return a parameter of an image layer in the shape of its counterpart `like` for video.

    Channels may contain frames and pixels, `(d frames pixels)`. In output channels, the parameters of the image
    are copied to every frame; in input channels, to the last frame only, and the others are zero.

    Args:
        pixels: number of pixels of a frame in such channels.
    """
    frames = like.shape[0] // value.shape[0]
    value = repeat(value, "(d pixels) ... -> (d frames pixels) ...", frames=frames, pixels=pixels if frames > 1 else 1)
    if value.shape == like.shape:
        return value
    frames = like.shape[1] // value.shape[1]
    block = pixels if frames > 1 else 1
    grown = value.new_zeros(like.shape[0], like.shape[1] // (frames * block), frames, block, *like.shape[2:])
    grown[:, :, -1, :, -1:] = rearrange(value, "d (c pixels) t h w -> d c pixels t h w", pixels=block)
    return grown.reshape(like.shape)


def start_as_identity(module: nn.Module) -> None:
    """Initialize a layer over time so that it does not change a single frame."""
    if isinstance(module, Attention):
        nn.init.zeros_(module.to_output.weight)
        return
    convolution = module[0] if isinstance(module, Upsample) else module
    assert isinstance(convolution, CausalConv3d)
    assert convolution.bias is not None
    width = convolution.in_channels
    last_tap = torch.eye(width).to(convolution.weight).repeat_interleave(convolution.out_channels // width, dim=0)
    nn.init.zeros_(convolution.bias)
    nn.init.zeros_(convolution.weight)
    convolution.weight[:, :, -1, 0, 0] = last_tap

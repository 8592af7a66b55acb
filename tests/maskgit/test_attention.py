import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
import x_transformers.x_transformers as library
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig
from magvit2_pytorch.maskgit.attention import Attention, LayerNorm, make_encoder, turn
from magvit2_pytorch.maskgit.positions import rotary_turns

CPU = torch.device("cpu")
WIDTH, NUM_HEADS, HEAD_SIZE = 32, 2, 16
GRID = (2, 3, 4)
NUM_PLACES = 24


@pytest.fixture
def attention() -> Attention:
    layer = Attention(WIDTH, NUM_HEADS, qk_norm=True, dropout=0.0).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


@pytest.fixture
def turns() -> Tensor:
    return rotary_turns(GRID, HEAD_SIZE, CPU)


@pytest.mark.parametrize("with_context", [False, True])
def test_without_norms_it_is_the_attention_of_the_library(turns: Tensor, with_context: bool) -> None:
    theirs = library.Attention(WIDTH, dim_head=HEAD_SIZE, heads=NUM_HEADS).eval()
    ours = Attention(WIDTH, NUM_HEADS, qk_norm=False, dropout=0.0).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, NUM_PLACES, WIDTH)

    if with_context:
        context, is_seen = torch.randn(3, 5, WIDTH), torch.rand(3, 5) < 0.6
        is_seen[:, 0] = True
        expected = theirs(x, context=context, context_mask=is_seen)
        found, _ = ours(x, context=context, context_mask=is_seen)
    else:
        angles = turns.angle().repeat_interleave(2, dim=-1)[None]
        expected = theirs(x, rotary_pos_emb=(angles, 1.0))
        found, _ = ours(x, rotary_pos_emb=turns)

    torch.testing.assert_close(found, expected)


def test_the_norm_is_that_of_the_library() -> None:
    theirs, ours = (norm(WIDTH, unit_offset=True) for norm in (library.LayerNorm, LayerNorm))
    nn.init.normal_(theirs.gamma)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 5, WIDTH) * 4 + 1

    torch.testing.assert_close(ours(x), theirs(x))


def test_the_library_still_has_what_is_replaced_in_its_encoder() -> None:
    """`make_encoder` replaces parts of `x_transformers.Encoder` by index, which no release of the library promises.

    If this fails after an upgrade, compare `AttentionLayers.__init__` and `.forward` of the library with what each
    message names, change `make_encoder`, and raise the upper bound of x-transformers in pyproject.toml.
    """
    encoder = library.Encoder(dim=WIDTH, depth=1, heads=NUM_HEADS, attn_dim_head=HEAD_SIZE, cross_attend=True)
    layers: list[Any] = list(encoder.layers)
    kinds = [type(layer[1]) for layer in layers]

    assert kinds == [library.Attention, library.Attention, library.FeedForward], (
        "layer[1] is no longer the attention to the sequence, the attention to the context and the MLP, in this order"
    )
    for layer in layers:
        assert type(layer[0][0]) is library.LayerNorm, "layer[0][0] is no longer the norm before a layer"
        assert not any(layer[0][1:]), "there are norms after a layer, which nothing replaces"
    assert type(encoder.final_norm) is library.LayerNorm, "final_norm is no longer the last norm"
    assert "gamma" in dict(library.LayerNorm(WIDTH, unit_offset=True).named_parameters()), (
        "LayerNorm no longer keeps its scale, less the unit offset, in gamma"
    )
    given = inspect.signature(library.AttentionLayers.forward).parameters
    assert {"context", "context_mask", "rotary_pos_emb"} <= given.keys(), "the encoder's arguments have other names"


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_whole_encoder_starts_as_one_of_the_library_that_does_nothing(config: MaskGitConfig, qk_norm: bool) -> None:
    encoder = make_encoder(replace(config, qk_norm=qk_norm))
    x = torch.randn(2, 7, config.width)

    torch.testing.assert_close(encoder(x), nn.functional.layer_norm(x, x.shape[-1:]))


def test_moving_every_place_alike_changes_nothing(attention: Attention, turns: Tensor) -> None:
    x = torch.randn(1, NUM_PLACES, WIDTH)
    one_step = rotary_turns((2, 2, 2), HEAD_SIZE, CPU)[-1]

    torch.testing.assert_close(
        attention(x, rotary_pos_emb=turns * one_step)[0], attention(x, rotary_pos_emb=turns)[0], rtol=1e-4, atol=1e-5
    )


def test_the_order_of_places_is_known_by_their_turns_alone(attention: Attention, turns: Tensor) -> None:
    x, order = torch.randn(1, NUM_PLACES, WIDTH), torch.randperm(NUM_PLACES)
    expected = attention(x, rotary_pos_emb=turns)[0][:, order]

    torch.testing.assert_close(attention(x[:, order], rotary_pos_emb=turns[order])[0], expected)
    assert not torch.allclose(attention(x[:, order], rotary_pos_emb=turns)[0], expected, atol=1e-2)


def test_normalized_queries_and_keys_do_not_grow_with_the_input(attention: Attention, turns: Tensor) -> None:
    """Only values grow with the input, so what comes out grows with it and does not sharpen."""
    x = torch.randn(1, NUM_PLACES, WIDTH)

    out, of_large = (attention(x * scale, rotary_pos_emb=turns)[0] / scale for scale in (1, 1000))

    torch.testing.assert_close(out, of_large, rtol=1e-3, atol=1e-3)


def test_turning_keeps_lengths_and_a_turn_of_nothing_keeps_everything(turns: Tensor) -> None:
    x = torch.randn(2, NUM_PLACES, NUM_HEADS, HEAD_SIZE)

    turned = turn(x, turns)

    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    assert torch.equal(turn(x, torch.ones_like(turns)), x)


def test_half_precision_is_turned_in_single(attention: Attention, turns: Tensor) -> None:
    x = torch.randn(1, NUM_PLACES, WIDTH)
    expected = attention(x, rotary_pos_emb=turns)[0]

    rounded = attention.bfloat16()(x.bfloat16(), rotary_pos_emb=turns)[0]

    assert rounded.dtype == torch.bfloat16
    assert (rounded - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_what_only_the_librarys_layers_do_is_refused(config: MaskGitConfig) -> None:
    with pytest.raises(TypeError, match="does not support mask"):
        make_encoder(config)(torch.randn(1, 3, config.width), mask=torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_reach_norms_and_projections(maskgit: MaskGit, config: MaskGitConfig, autocast: bool) -> None:
    codes, labels = torch.randint(config.codebook_size, (2, *config.grid)), torch.tensor([0, 1])

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = maskgit.train()(codes, labels)
    torch.cat(logits, dim=-1).float().square().mean().backward()

    assert all(parameter.grad is not None and parameter.grad.any() for parameter in maskgit.encoder.parameters())


class Operations(TorchDispatchMode):
    """Notes what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [False, True])
def test_every_layer_attends_by_the_fast_kernel(conditioned: MaskGit, config: MaskGitConfig, training: bool) -> None:
    codes, labels = torch.randint(config.codebook_size, (2, *config.grid)), torch.tensor([0, 1])
    context, is_padding = torch.randn(2, 3, 6), torch.tensor([[False, False, True], [True, True, True]])

    with torch.set_grad_enabled(training), Operations() as operations:
        conditioned.train(training)(codes, labels, context=context, context_padding=is_padding)

    attended = [name for name in operations.names if "scaled_dot_product" in name]
    assert attended == ["_scaled_dot_product_flash_attention_for_cpu.default"] * 2 * config.depth
    assert not [name for name in operations.names if "softmax" in name]


@torch.no_grad()
def compile_into_one_graph(_: int, config: MaskGitConfig) -> None:
    torch.set_num_threads(1)
    model = MaskGit(config).eval()
    codes, labels, context = torch.randint(2**7, (2, *config.grid)), torch.tensor([0, 1]), torch.randn(2, 3, 6)
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # a break in the graph is an error
    expected = model(codes, labels, context=context)[0]
    torch.testing.assert_close(compiled(codes, labels, context=context)[0], expected)


@pytest.mark.slow
def test_a_pass_is_one_graph(config: MaskGitConfig) -> None:
    """In a process without the type checks of the test run, which the compiler does not see through."""
    everything = replace(config, depth=1, dim_context=6, tasks=("frame_prediction",))
    torch.multiprocessing.spawn(compile_into_one_graph, args=(everything,))  # type: ignore[attr-defined]

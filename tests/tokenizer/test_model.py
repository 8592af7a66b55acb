import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import TokenizerConfig, TokenizerLossWeights, TokenizerObjective
from magvit2_pytorch.tokenizer.layer_kinds import LayerSpec

from .conftest import lively  # type: ignore[import-not-found]

BOTH = pytest.mark.parametrize("kind", ["tokenizer", "folding_tokenizer"])


@pytest.fixture
def model(kind: str, request: pytest.FixtureRequest) -> VideoTokenizer:
    return request.getfixturevalue(kind)


def a_video(*shape: int) -> Tensor:
    return torch.rand(*shape) * 2 - 1


def differing_later(video: Tensor, first: int) -> Tensor:
    other = video.clone()
    other[:, :, first:] = a_video(*other[:, :, first:].shape)
    return other


@BOTH
@torch.no_grad()
def test_codes_and_reconstruction_do_not_depend_on_later_frames(model: VideoTokenizer) -> None:
    video = a_video(2, 3, 17, 16, 16)
    other = differing_later(video, 9)

    codes, other_codes = model.encode(video), model.encode(other)

    assert torch.equal(codes[:, :3], other_codes[:, :3])  # latent frame 2 ends with frame 8
    assert not torch.equal(codes[:, 3:], other_codes[:, 3:])
    assert torch.equal(model(video)[:, :, :9], model(other)[:, :, :9])
    assert torch.equal(codes[:, :3], model.encode(video[:, :, :9]))


@BOTH
@torch.no_grad()
def test_the_first_frame_is_coded_as_an_image(model: VideoTokenizer) -> None:
    video = a_video(2, 3, 17, 16, 16)

    assert torch.equal(model.encode(video[:, :, :1]), model.encode(video)[:, :1])
    assert torch.equal(model.encode(video[:, :, 0]), model.encode(video)[:, :1])
    assert torch.equal(model(video[:, :, 0]), model(video[:, :, :1])[:, :, 0])


@BOTH
@torch.no_grad()
def test_decoding_the_codes_gives_the_reconstruction(model: VideoTokenizer) -> None:
    aligned, odd = a_video(2, 3, 9, 16, 16), a_video(1, 3, 6, 13, 19)

    assert torch.equal(model.decode(model.encode(aligned)), model(aligned))
    assert model(odd).shape == odd.shape
    assert torch.equal(model.decode(model.encode(odd), 6, 13, 19), model(odd))
    assert model.encode(odd).shape[1:] == model.code_shape(6, 13, 19)


@BOTH
@torch.no_grad()
def test_a_latent_frame_draws_just_the_frames_that_it_stands_for_and_later_ones(model: VideoTokenizer) -> None:
    codes = torch.randint(model.codebook_size, (1, 4, 2, 2))
    other = codes.clone()
    other[:, 2] = model.codebook_size - 1 - other[:, 2]  # every bit turned

    differs = (model.decode(codes) != model.decode(other)).flatten(3).any(dim=-1).any(dim=1)[0]

    first = 1 + model.temporal_stride  # of the frames of latent frame 2
    assert not differs[:first].any()
    assert differs[first : first + model.temporal_stride].all()


@torch.no_grad()
def test_padding_repeats_the_last_frame_row_and_column(tokenizer: VideoTokenizer) -> None:
    video = a_video(1, 3, 6, 14, 15)
    by_hand = video[:, :, [*range(6), 5, 5, 5]][..., [*range(14), 13, 13], :][..., [*range(15), 14]]

    assert torch.equal(tokenizer.encode(video), tokenizer.encode(by_hand))


@torch.no_grad()
def test_a_video_is_taken_in_the_type_of_the_weights(tokenizer: VideoTokenizer) -> None:
    video = a_video(1, 3, 5, 16, 16)

    assert torch.equal(tokenizer.encode(video.double()), tokenizer.encode(video))
    assert tokenizer(video.double()).dtype == torch.float32


@torch.no_grad()
def test_a_clip_is_coded_alike_in_any_batch(tokenizer: VideoTokenizer) -> None:
    videos = a_video(3, 3, 5, 16, 16)

    latents = tokenizer.video_to_latents(videos)
    alone = torch.cat([tokenizer.video_to_latents(video[None]) for video in videos])

    torch.testing.assert_close(latents, alone)


@torch.no_grad()
def test_the_stages_of_the_seed_layers_have_its_strides() -> None:
    tokenizer = VideoTokenizer(image_size=256)

    assert (tokenizer.temporal_stride, tokenizer.spatial_stride) == (2, (2, 2))
    assert tokenizer.code_shape(17, 256, 256) == (9, 128, 128)
    assert tokenizer.codebook_size == 2**18


def test_every_parameter_gets_a_gradient_from_the_loss(tokenizer: VideoTokenizer) -> None:
    tokenizer.train()
    total, losses = tokenizer(a_video(2, 3, 5, 16, 16), return_loss=True)
    total.backward()

    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
    weights = vars(tokenizer.config.loss_weights)
    assert list(losses) == ["reconstruction", "commitment", "sample_entropy", "codebook_entropy"]
    torch.testing.assert_close(total, sum(weights[name] * loss for name, loss in losses.items()))


def test_the_loss_equals_the_objective(tokenizer: VideoTokenizer) -> None:
    video = a_video(2, 3, 5, 16, 16)

    _, losses = tokenizer(video, return_loss=True)

    assert losses == TokenizerObjective(tokenizer)(video).losses


def test_the_losses_match_their_definitions(tokenizer: VideoTokenizer) -> None:
    video = a_video(1, 3, 5, 16, 16)
    output = tokenizer.autoencode(video)

    _, losses = tokenizer(video, return_loss=True)

    torch.testing.assert_close(losses["reconstruction"], (output.reconstruction - video).square().mean())
    torch.testing.assert_close(losses["commitment"], (output.latents.abs() - 1).square().mean())


@torch.no_grad()
def test_a_saved_tokenizer_comes_back_bit_for_bit(folding_tokenizer: VideoTokenizer, tmp_path: Path) -> None:
    folding_tokenizer.save_pretrained(tmp_path / "tokenizer")
    video = a_video(1, 3, 5, 16, 16)
    state = torch.get_rng_state()

    loaded = VideoTokenizer.from_pretrained(tmp_path / "tokenizer")

    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.config == folding_tokenizer.config
    assert not loaded.training
    assert torch.equal(loaded(video), folding_tokenizer(video))


@pytest.mark.parametrize("choice", [True, False])
def test_checkpointing_changes_no_gradient(tokenizer: VideoTokenizer, choice: bool) -> None:
    video = a_video(1, 3, 5, 16, 16)
    config = {**vars(tokenizer.config), "gradient_checkpointing": choice}
    twin = VideoTokenizer(**config)
    twin.load_state_dict(tokenizer.state_dict())

    tokenizer(video, return_loss=True)[0].backward()
    twin.train()(video, return_loss=True)[0].backward()

    for ours, theirs in zip(tokenizer.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_a_few_steps_on_one_clip_lower_the_loss() -> None:
    tokenizer = VideoTokenizer(
        image_size=16, init_dim=16, layers=("residual", ("compress_space", 32), "residual"), patch_size=(4, 2, 2)
    )
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    video = torch.linspace(-1, 1, 16).expand(1, 3, 5, 16, 16)
    errors = []
    for _ in range(40):
        total, losses = tokenizer(video, return_loss=True)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(losses["reconstruction"].item())

    assert errors[-1] < 0.2 * errors[0]


def test_lists_serve_as_tuples() -> None:
    layers: list[Any] = ["residual", ["compress_space", 24]]

    from_lists = VideoTokenizer(init_dim=16, layers=layers, patch_size=[1, 2, 2], image_size=[16, 32])

    assert from_lists.config.layers == ("residual", ("compress_space", 24))
    assert from_lists.config.height_width == (16, 32)
    assert hash(from_lists.config)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("video", "said"),
    [
        (torch.zeros(1, 3, 5, 16, 16).numpy(), "torch.Tensor, got ndarray"),
        (torch.zeros(1, 3, 17), r"\(batch, 3, frames, height, width\).*\(1, 3, 17\)"),
        (torch.zeros(1, 4, 5, 16, 16), r"\(1, 4, 5, 16, 16\)"),
        (torch.zeros(1, 3, 0, 16, 16), r"\(1, 3, 0, 16, 16\)"),
        (torch.zeros(1, 3, 5, 16, 16, dtype=torch.uint8), "floating point.*uint8"),
        (torch.full((1, 3, 5, 16, 16), 255.0), "255"),
        (torch.full((1, 3, 5, 16, 16), float("nan")), "finite"),
        (torch.full((1, 3, 5, 16, 16), float("inf")), "finite"),
    ],
)
def test_what_is_no_video_is_refused_in_words(tokenizer: VideoTokenizer, video: Tensor, said: str) -> None:
    for call in (tokenizer.encode, tokenizer):
        with pytest.raises(ValueError, match=said):
            call(video)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("codes", "sizes", "said"),
    [
        (torch.zeros(1, 3, 4, dtype=torch.long), (), r"\(batch, t, h, w\)"),
        (torch.zeros(1, 3, 4, 4), (), "integers.*float32"),
        (torch.full((1, 3, 4, 4), 256), (), r"\[0, 256\).*256"),
        (torch.full((1, 3, 4, 4), -1), (), r"\[0, 256\).*-1"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.long), (10,), r"\(4, 4, 4\), got \(3, 4, 4\).*\(9, 16, 16\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.long), (9, 12, 16), r"\(9, 12, 16\)"),
    ],
)
def test_what_are_no_codes_is_refused_in_words(
    tokenizer: VideoTokenizer, codes: Tensor, sizes: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        tokenizer.decode(codes, *sizes)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": ("residul",)}, "residul.*did you mean 'residual'"),
        ({"layers": (("residual", 64),)}, "'residual' takes no argument, got"),
        (
            {"layers": (("compress_space", 0),)},
            "the width of layer 'compress_space' must be an integer from 1 to 65536, got 0",
        ),
        ({"codebook_size": 1000}, "power of two.*1000"),
        ({"patch_size": (4, 4)}, r"patch_size.*\(4, 4\)"),
        ({"init_dim": 0}, "init_dim"),
        ({"layers": "residual"}, "layers must be a tuple, got 'residual'"),
        ({"patch_size": 2}, "patch_size must be a tuple, got 2"),
        ({"image_size": 16.0}, r"image_size.*16\.0"),
        ({"loss_weights": {"commitment": 1.0}}, "loss_weights must be a TokenizerLossWeights"),
        ({"image_size": (1, 2, 3)}, "image_size"),
        ({"image_size": 10**9}, "image_size must be an integer from 1 to 8192"),
        ({"image_size": (64,)}, r"image_size must be an integer or \(height, width\), got \(64,\)"),
        ({"init_dim": True}, "init_dim.*True"),
        ({"init_dim": 64.0}, r"init_dim.*64\.0"),
        ({"init_dim": 10**9}, "init_dim must be an integer from 1 to 65536, got 1000000000"),
        ({"channels": -3}, "channels"),
        ({"codebook_size": 2.0**10}, r"codebook_size.*1024\.0"),
        ({"patch_size": (1, True, 1)}, "each entry of patch_size.*True"),
        ({"patch_size": (64, 64, 64)}, "patch_size folds the video into 786432 channels, at most 65536"),
        ({"layers": ("compress_space",) * 9}, r"divide .* by \(1, 512, 512\), at most 256"),
        ({"layers": (("local_attend_time", 10**6),)}, "window of layer 'local_attend_time'.*from 1 to 64"),
        ({"layers": (("compress", (2, 2, True)),)}, "each of the factors of layer 'compress'.*True"),
        ({"image_only": 1}, "image_only must be True or False, got 1"),
        ({"channels": 0}, "channels"),
        ({"inverse_temperature": 0.0}, "inverse_temperature"),
        ({"inverse_temperature": float("nan")}, "inverse_temperature.*nan"),
        ({"gradient_checkpointing": "always"}, "gradient_checkpointing.*always"),
    ],
)
def test_a_wrong_config_is_refused_in_words(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VideoTokenizer(**options)


@pytest.mark.parametrize("weight", [float("nan"), float("-inf"), True])
def test_a_loss_weight_that_is_no_finite_number_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="the loss weight commitment must be a finite number, got"):
        TokenizerLossWeights(commitment=weight)


@pytest.mark.parametrize(
    "layers", [("residual",) * 100_000, (("consecutive_residual", 10**9),), (("consecutive_residual", 200),) * 2]
)
def test_too_many_layers_are_refused_before_any_is_built(layers: tuple[LayerSpec, ...]) -> None:
    start = time.process_time()

    with pytest.raises(ValueError, match=r"at most 256 blocks|from 1 to 256, got 1000000000"):
        TokenizerConfig(layers=layers)

    assert time.process_time() - start < 1


def test_a_tokenizer_of_any_allowed_size_is_built_on_the_meta_device_without_memory() -> None:
    config = TokenizerConfig(init_dim=2**16, layers=("attend_space", ("compress", (2, 2, 2), 2**16)))

    with torch.device("meta"):
        tokenizer = VideoTokenizer.from_config(config)

    assert tokenizer.num_parameters > 10**11
    assert all(tensor.is_meta for tensor in tokenizer.state_dict().values())


def test_loss_and_codes_at_once_are_refused(tokenizer: VideoTokenizer) -> None:
    with pytest.raises(ValueError, match="both"):
        tokenizer(a_video(1, 3, 5, 16, 16), return_loss=True, return_codes=True)


@pytest.mark.parametrize("channels", [1, 4])
@torch.no_grad()
def test_other_numbers_of_channels_run(channels: int) -> None:
    layers: tuple[LayerSpec, ...] = ("residual", "compress_space")
    tokenizer = VideoTokenizer(image_size=8, init_dim=16, layers=layers, codebook_size=2**4, channels=channels)

    assert tokenizer(a_video(1, channels, 3, 8, 8)).shape == (1, channels, 3, 8, 8)


@pytest.fixture
def conditioned() -> VideoTokenizer:
    layers: tuple[LayerSpec, ...] = ("cond_residual", "compress_space")
    return lively(VideoTokenizer(image_size=8, init_dim=8, layers=layers, codebook_size=2**4, dim_cond=5))


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("cond", "said"),
    [
        (None, r"shape \(2, 5\), got NoneType"),
        (torch.zeros(2, 4), r"shape \(2, 5\), got torch.float32 of shape \(2, 4\)"),
        (torch.zeros(1, 5), r"got torch.float32 of shape \(1, 5\)"),
        (torch.zeros(5), r"got torch.float32 of shape \(5,\)"),
        (torch.zeros(2, 5, dtype=torch.long), "floating point.*got torch.int64"),
        ([[0.0] * 5] * 2, "got list"),
    ],
)
def test_a_wrong_condition_is_refused_in_words(conditioned: VideoTokenizer, cond: Any, said: str) -> None:
    video, codes = a_video(2, 3, 3, 8, 8), torch.zeros(2, 3, 4, 4, dtype=torch.long)
    calls: list[Callable[[], object]] = [
        lambda: conditioned(video, cond=cond),
        lambda: conditioned(video, cond=cond, return_loss=True),
        lambda: conditioned.encode(video, cond),
        lambda: conditioned.decode(codes, cond=cond),
        lambda: conditioned.encode_tiled(video, tile_size=8, overlap=0, cond=cond),
        lambda: conditioned.decode_tiled(codes, tile_size=8, overlap=0, cond=cond),
        lambda: list(conditioned.encode_stream([video], cond)),
        lambda: list(conditioned.decode_stream([codes], cond=cond)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=said):
            call()


@torch.no_grad()
def test_a_condition_that_no_layer_wants_is_refused(tokenizer: VideoTokenizer) -> None:
    video, codes = a_video(1, 3, 5, 16, 16), torch.zeros(1, 2, 4, 4, dtype=torch.long)
    for call in (tokenizer.encode, tokenizer, tokenizer.video_to_latents, tokenizer.autoencode):
        with pytest.raises(ValueError, match="no layer of this tokenizer is conditioned"):
            call(video, cond=torch.zeros(1, 5))
    with pytest.raises(ValueError, match="no layer of this tokenizer is conditioned"):
        tokenizer.decode(codes, cond=torch.zeros(1, 5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": ("cond_residual",)}, "need dim_cond.*got None"),
        ({"layers": ("cond_residual",), "dim_cond": 0}, "dim_cond must be an integer from 1"),
        ({"dim_cond": 5}, "dim_cond is 5, but no layer is conditioned"),
    ],
)
def test_a_config_tells_its_conditions_width_where_layers_are_conditioned(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VideoTokenizer(**options)


@torch.no_grad()
def test_each_clip_of_a_batch_has_a_condition_of_its_own(conditioned: VideoTokenizer) -> None:
    videos, conditions = a_video(3, 3, 3, 8, 8), torch.randn(3, 5)

    together = conditioned(videos, cond=conditions)

    for video, cond, expected in zip(videos, conditions, together, strict=True):
        torch.testing.assert_close(conditioned(video[None], cond=cond[None])[0], expected)
        assert not torch.allclose(conditioned(video[None], cond=-cond[None])[0], expected)

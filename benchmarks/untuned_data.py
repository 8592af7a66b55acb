"""Does the recipe of the preset `laptop` also help with data that nobody looked at while tuning it?

    python benchmarks/untuned_data.py

Draws a folder of videos (water, pendulums, fireworks, clouds). The drawings are newer than the recipe, and no setting
was changed for them. Trains the tokenizer twice, for the same number of steps: with the preset, and with the preset as
it was before (LFQ, AdamW, no overlapping patches, normalization of groups, narrower, no magnified crops). Prints the
PSNR of held-out windows. The exit status is 1 if the preset is worse.
"""

import argparse
import colorsys
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm
from training import trained_tokenizer

from magvit2_pytorch.pipelines.media.video_files import write_frames
from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.metrics import evaluate_tokenizer

SIZE, NUM_FRAMES, VIDEOS_PER_LABEL = 128, 48, 12
BEFORE = (
    "--model.quantizer lfq --model.fsq-levels None --model.inverse-temperature 2 --model.no-overlapping-patches "
    "--model.norm group --model.init-dim 48 --model.loss-weights.commitment 0.05 "
    "--model.loss-weights.sample-entropy 0.02 --model.loss-weights.codebook-entropy -0.02 "
    "--optimizer.matrices adamw --data.zoom 1"
)

Numbers = np.random.Generator
Frames = Float[np.ndarray, "T H W 3"]  # in [0, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", default="2000", help="steps of each training (default: 2000)")
    parser.add_argument("--seed", default="0", help="seed of the trainings (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("outputs/untuned-data"), help="folder of videos and runs")
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"--output {arguments.output} exists already; choose another folder")
    output = arguments.output.absolute()
    draw_videos(output / "videos")

    rows = {}
    for name, options in (("before", BEFORE.split()), ("now", [])):
        started = time.monotonic()
        run_options = ["laptop", "--data.path", str(output / "videos"), *options]
        run_options += ["--num-steps", arguments.num_steps, "--seed", arguments.seed]
        tokenizer = trained_tokenizer(run_options, output / name)
        scores = evaluate_tokenizer(tokenizer, load_data(DataConfig(path=str(output / "videos"))).heldout)
        rows[name] = scores.psnr
        print(f"{name:8} {scores.psnr:.2f} dB on held-out windows, {time.monotonic() - started:.0f} s", flush=True)
    sys.exit(0 if rows["now"] >= rows["before"] else 1)


def draw_videos(folder: Path) -> None:
    """Write `VIDEOS_PER_LABEL` videos of each kind into its own folder."""
    names = [(label, number) for label in KINDS for number in range(VIDEOS_PER_LABEL)]
    for label, number in tqdm(names, "Drawing", unit="video"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        frames = KINDS[label](np.random.default_rng((list(KINDS).index(label), number)))
        write_frames(folder / label / f"{number:02}.mp4", (255 * frames.clip(0, 1)).round().astype(np.uint8), fps=24)


def places() -> tuple[Float[np.ndarray, "1 W"], Float[np.ndarray, "H 1"]]:
    """Return x and y of the pixels, in [0, 1]."""
    steps = (np.arange(SIZE) + 0.5) / SIZE
    return steps[None], steps[:, None]


def colour(numbers: Numbers, lightness: float, saturation: float = 0.6) -> Float[np.ndarray, " 3"]:
    return np.array(colorsys.hls_to_rgb(numbers.random(), lightness, saturation))


def water(numbers: Numbers) -> Frames:
    """Circular waves from a few sources, seen by their slopes."""
    x, y = places()
    time_of = np.arange(NUM_FRAMES)[:, None, None]
    sources = numbers.uniform(-0.2, 1.2, (3, 2))
    lengths, strengths = numbers.uniform(0.08, 0.25, 3), numbers.uniform(0.3, 1, 3)
    phases = [
        2 * np.pi * (np.hypot(x - left, y - top) / length - time_of / 16)
        for (left, top), length in zip(sources, lengths, strict=True)
    ]
    height = sum(strength * np.sin(phase) for strength, phase in zip(strengths, phases, strict=True))
    slope = np.gradient(height, axis=2)[..., None] * 4
    deep = colour(numbers, 0.4)
    return deep + 0.4 * np.tanh(slope) + 0.15 * np.tanh(height)[..., None]


def pendulums(numbers: Numbers) -> Frames:
    """Weights on strings in front of a wall with a gradient."""
    x, y = places()
    wall = colour(numbers, 0.75, 0.3) * (1 - 0.4 * y[..., None] * np.ones((1, SIZE, 1)))
    frames = np.repeat(wall[None], NUM_FRAMES, axis=0)
    for pivot in numbers.uniform(0.2, 0.8, 3):
        length, radius = numbers.uniform(0.35, 0.8), numbers.uniform(0.04, 0.09)
        swing, start = numbers.uniform(0.2, 0.7), numbers.uniform(0, 2 * np.pi)
        tint = colour(numbers, 0.4, 0.8)
        for frame in range(NUM_FRAMES):
            angle = swing * np.sin(start + frame * 0.22 / np.sqrt(length))
            bob_x, bob_y = pivot + length * np.sin(angle), length * np.cos(angle)
            along = ((x - pivot) * np.sin(angle) + y * np.cos(angle)).clip(0, length)
            to_string = np.hypot(x - pivot - along * np.sin(angle), y - along * np.cos(angle))
            to_bob = np.hypot(x - bob_x, y - bob_y)
            shade = (1.3 - to_bob / radius)[..., None] * tint
            for distance, size, paint in ((to_string, 0.006, np.full(3, 0.2)), (to_bob, radius, shade)):
                share = ((size - distance) * SIZE + 0.5).clip(0, 1)[..., None]
                frames[frame] = share * paint + (1 - share) * frames[frame]
    return frames


def fireworks(numbers: Numbers) -> Frames:
    """Sparks that fly apart, fall and fade in the dark."""
    x, y = places()
    frames = np.zeros((NUM_FRAMES, SIZE, SIZE, 3)) + colour(numbers, 0.08) * y[..., None]
    for _ in range(3):
        centre, begin, tint = numbers.uniform(0.2, 0.7, 2), numbers.integers(-10, 25), colour(numbers, 0.6, 0.9)
        directions, speeds = numbers.uniform(0, 2 * np.pi, 18), numbers.uniform(0.006, 0.016, 18)
        for frame in range(max(0, begin), NUM_FRAMES):
            age = frame - begin
            way = speeds * (1 - 0.95**age) / 0.05
            left, top = centre[0] + way * np.cos(directions), centre[1] + way * np.sin(directions) + 0.0004 * age**2
            near_x = np.exp(-(((x.T - left) / 0.012) ** 2))  # one column per spark
            near_y = np.exp(-(((y - top) / 0.012) ** 2))
            frames[frame] += (near_y @ near_x.T)[..., None] * tint * 0.94**age
    return frames


def clouds(numbers: Numbers) -> Frames:
    """Smooth noise in two layers that drift over a sky with a sun."""
    x, y = places()
    sky = colour(numbers, 0.55) * (0.6 + 0.6 * y[..., None]) * np.ones((1, SIZE, 1))
    sun = np.exp(-((x - numbers.random()) ** 2 + (y - 0.3 * numbers.random()) ** 2) / 0.01)[..., None]
    frames = np.repeat((sky + sun)[None], NUM_FRAMES, axis=0)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE) * SIZE, np.fft.fftfreq(SIZE) * SIZE))
    for nearness in (0.5, 1.0):
        spectrum = np.fft.fft2(numbers.normal(size=(SIZE, SIZE))) / (1 + frequencies) ** 1.6
        noise = np.fft.ifft2(spectrum).real
        noise = (noise - noise.mean()) / noise.std()
        speed = numbers.uniform(-2.5, 2.5)
        for frame in range(NUM_FRAMES):
            moved = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-2j * np.pi * np.fft.fftfreq(SIZE) * speed * frame)).real
            cover = (0.5 + 0.5 * np.tanh(2 * moved - 0.8))[..., None]
            frames[frame] += cover * (0.55 + 0.4 * nearness - frames[frame])
    return frames


KINDS: dict[str, Callable[[Numbers], Frames]] = {
    "water": water,
    "pendulums": pendulums,
    "fireworks": fireworks,
    "clouds": clouds,
}

if __name__ == "__main__":
    main()

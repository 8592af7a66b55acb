"""Reconstruction of videos unlike the training videos: three shipped films for training, the fourth to measure.

    python benchmarks/unseen_film.py                                           # the films alone
    python benchmarks/unseen_film.py --mix arcade leaves --weights 2 1 1       # the films and drawn sources

Other options are those of train/tokenizer.py, for example --num-steps or --data.zoom.

Each film is left out once: four trainings, of 15 minutes each with the preset `laptop` on two cores. The figures are
PSNRs in dB on the listed held-out windows of the film that was left out, and on windows of the other three films that
were held out of training but lie in shots that training has seen. Nothing was tuned on more than two of the films.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path

from training import trained_tokenizer

from magvit2_pytorch.files import read_json
from magvit2_pytorch.train.data import Clips, DataConfig, load_data
from magvit2_pytorch.train.data.shipped import CLIPS_DIR
from magvit2_pytorch.train.metrics import evaluate_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="laptop", help="preset of train/tokenizer.py (default: laptop)")
    parser.add_argument("--mix", nargs="*", default=[], metavar="SOURCE", help="other sources to train on as well")
    parser.add_argument("--weights", nargs="*", default=[], help="relative frequencies of the films and these sources")
    parser.add_argument("--films", nargs="*", metavar="NAME", help="films to leave out (default: each of the four)")
    parser.add_argument("--seed", default="0", help="seed of the trainings (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("outputs/unseen-film"), help="folder of the runs")
    arguments, options = parser.parse_known_args()
    if arguments.output.exists():
        parser.error(f"--output {arguments.output} exists already; choose another folder")

    all_films = sorted(path.stem for path in CLIPS_DIR.glob("*.mp4"))
    heldout = load_data(DataConfig()).heldout
    unseen, seen = {}, {}
    for film in arguments.films or all_films:
        run = arguments.output / film
        films = run / "films"
        films.mkdir(parents=True)
        for other in all_films:
            if other != film:
                shutil.copy(CLIPS_DIR / f"{other}.mp4", films)
        weights = ["--data.weights", *arguments.weights] if arguments.weights else []
        sources = ["--data.path", str(films.absolute()), *arguments.mix, *weights]
        run_options = [arguments.preset, *sources, *options, "--seed", arguments.seed]
        tokenizer = trained_tokenizer(run_options, run / "run")
        unseen[film] = evaluate_tokenizer(tokenizer, windows_of(heldout, film)).psnr
        scores = read_json(run / "run" / "metrics.json")
        seen[film] = scores["films/psnr" if arguments.mix else "psnr"]
        print(f"{film:14} unseen {unseen[film]:.2f} dB, the other films {seen[film]:.2f} dB", flush=True)
    means = {"unseen": statistics.mean(unseen.values()), "seen": statistics.mean(seen.values())}
    print(f"{'mean':14} unseen {means['unseen']:.2f} dB, the other films {means['seen']:.2f} dB")
    (arguments.output / "psnr.json").write_text(json.dumps({"unseen": unseen, "seen": seen}, indent=2))


def windows_of(clips: Clips, film: str) -> Clips:
    """Return the clips of one film."""
    files = clips.table["file"][:]
    return clips.select([row for row, file in enumerate(files) if file == f"{film}.mp4"])


if __name__ == "__main__":
    main()

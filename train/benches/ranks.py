"""Measures steps of one and of two ranks with one thread each, in turns, and writes docs/evidence/ranks.md.

    eval "$(tools/mpi)" && cargo build --release --features mpi
    python3 train/benches/ranks.py target/release/drifting

Nothing else should run meanwhile; the machine needs two processors.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def steps_of(binary, ranks, steps, config, folder):
    """The metrics of the steps after the second."""
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), binary, "train", config]
    command += ["--steps", str(steps), "--out", folder, "--set", "output.metrics_every=1", "--set", "output.samples_every=0"]
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "CANDLE_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][2:]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--config", default="configs/fashion-demo.toml")
    arguments = arguments.parse_args()
    binary, ratios, rates = arguments.binary.resolve(), [], {1: [], 2: []}
    for number in range(arguments.rounds):
        for ranks in (1, 2) if number % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory() as folder:
                lines = steps_of(binary, ranks, arguments.steps, arguments.config, folder)
                rates[ranks].append(statistics.median(line["images_per_second"] for line in lines))
        ratios.append(rates[2][-1] / rates[1][-1])
        print(f"round {number + 1}: {rates[1][-1]:.1f} and {rates[2][-1]:.1f} images/s, {ratios[-1]:.2f} times", flush=True)
    text = f"""# Two ranks beside one

    python3 train/benches/ranks.py target/release/drifting --rounds {arguments.rounds} --steps {arguments.steps} --config {arguments.config}

One thread a rank, on one machine of two processors, in turns; generated images a second, medians of the steps after the second.

| | one rank | two ranks | ratio |
|---|---|---|---|
| median of {arguments.rounds} rounds | {statistics.median(rates[1]):.1f} | {statistics.median(rates[2]):.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |
"""
    (ROOT / "docs/evidence/ranks.md").write_text(text)


if __name__ == "__main__":
    main()

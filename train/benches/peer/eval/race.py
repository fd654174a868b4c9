"""Races `drifting eval` against pytorch-fid: the Fréchet distance of generated images to statistics, from files to number.

No weights of FID are in any package, so both sides have the weights that the golden data's rule gives: the work is the
same, and so must the distance be. The images are those of Fashion-MNIST that come with the program, moved and noised. Run
it by train/benches/peer/eval/run.
"""

import argparse
import gzip
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

TOLERANCE = 1e-3
THEIRS = """
import json, sys, torch
import pytorch_fid.fid_score as fid
import pytorch_fid.inception as inception
from safetensors.torch import load_file
weights, action, *paths, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
state = load_file(weights)
# Counters of training, which play no part.
means = [name for name in state if name.endswith("running_mean")]
state |= {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means}
inception.load_state_dict_from_url = lambda *args, **options: state
if action == "save":
    fid.save_fid_stats(paths, 50, "cpu", 2048, 0)
else:
    print(json.dumps(fid.calculate_fid_given_paths(paths, 50, "cpu", 2048, 0)))
"""


def noise(name, count):
    """Numbers in [-1, 1) of the golden data's rule."""
    start = 0x811C9DC5
    for byte in name.encode():
        start = ((start ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = (np.arange(count, dtype=np.uint64) * 2654435761 + start) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return (x ^ (x >> 16)).astype(np.float64) / 2**31 - 1


def weights(root, path):
    """The Inception of FID with weights by the rule."""
    shapes = json.loads((root / "tests/golden/inception/tensors.json").read_text())
    tensors = {}
    for name, shape in shapes.items():
        if not shape:
            continue
        u = noise(name, int(np.prod(shape)))
        if len(shape) >= 2:
            u = u * np.sqrt(6 / np.prod(shape[1:]))
        elif name.endswith(".running_var"):
            u = 1 + 0.3 * u
        elif name.endswith(".bn.weight"):
            u = 1 + 0.1 * u
        else:
            u = 0.1 * u
        tensors[name] = u.reshape(shape).astype(np.float32)
    save_file(tensors, path)


def pictures(root, folder, count, seed, deviation):
    """Fashion-MNIST's images, mirrored, moved by up to two pixels and noised."""
    packed = (root / "train/assets/fashion-mnist/train-images-idx3-ubyte.gz").read_bytes()
    images = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 28, 28)
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i, index in enumerate(random.integers(len(images), size=count)):
        image = np.roll(images[index], random.integers(-2, 3, size=2), (0, 1))[:, ::random.choice([1, -1])]
        image = np.clip(image + deviation * random.standard_normal(image.shape), 0, 255)
        # Of three colours: pytorch-fid makes them of grey files, but others do not.
        Image.fromarray(image.astype(np.uint8)).convert("RGB").save(folder / f"{i:05}.png")


def timed(command, threads):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    start = time.monotonic()
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return time.monotonic() - start, found.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, help="folder of fid-race.json")
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    real, generated, model = args.work / "real", args.work / "generated", args.work / "inception.safetensors"
    pictures(args.root, real, args.images, 1, 0)
    pictures(args.root, generated, args.images, 2, 12)
    weights(args.root, model)
    script, reference, report = args.work / "theirs.py", args.work / "real.npz", args.work / "ours.json"
    script.write_text(THEIRS)
    theirs = [sys.executable, script, model]
    timed([*theirs, "save", real, reference, str(args.threads)], args.threads)
    ours = [args.binary, "eval", generated, "--statistics", reference, "--network", "inception", "--weights", model]
    ours += ["--preparation", "pytorch-fid", "--measures", "fd", "--json", report]
    seconds, distances = {"ours": [], "theirs": []}, {}
    for turn in range(args.rounds):
        for side in ["ours", "theirs"] if turn % 2 == 0 else ["theirs", "ours"]:
            if side == "ours":
                taken, _ = timed(ours, args.threads)
                distances[side] = json.loads(report.read_text())[0]["figures"][0]["value"]
            else:
                taken, said = timed([*theirs, "distance", generated, reference, str(args.threads)], args.threads)
                distances[side] = json.loads(said.splitlines()[-1])
            seconds[side].append(taken)
            print(f"round {turn}: {side} {taken:.1f} s, distance {distances[side]:.6f}", flush=True)
    apart = abs(distances["ours"] - distances["theirs"]) / distances["theirs"]
    result = {
        "images": args.images,
        "threads": args.threads,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "seconds": seconds,
        "median_seconds": {side: statistics.median(taken) for side, taken in seconds.items()},
        "distances": distances,
        "relative_difference": apart,
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "fid-race.json").write_text(json.dumps(result, indent=1) + "\n")
    if apart > TOLERANCE:
        raise SystemExit(f"the distances differ by {apart:.1e}, more than {TOLERANCE}")


if __name__ == "__main__":
    main()

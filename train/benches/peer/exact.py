"""The gradients of the golden step in double precision: what its numbers are without rounding.

The authors' program and ours compute in single precision. Features of some keys hardly differ, so that their rounding is a few
millionths of their distances, which the lowest temperature multiplies by fifty. The tuned twin's step in double precision tells how much of
a difference between two programs that is. Run it by train/benches/peer/exact; train/tests/step/exact.rs holds our step, and the
authors', against what it writes.
"""

import argparse
import json
import pathlib
import subprocess

import safetensors.torch
import torch
from step import Step
from worker import CONSTANT

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def exact(settings, tensors, keys):
    """Gradients by name, and each key's loss, of a step in double precision with these keys."""
    torch.set_default_dtype(torch.float64)
    tensors = {name: x.double() if x.is_floating_point() else x for name, x in tensors.items()}
    # Nothing is clipped.
    step = Step(settings | {"keys": keys, "clip": float("inf")}, tensors)
    step.generator.double()
    step.parameters = list(step.generator.parameters())
    step.optimizer.step = lambda: None
    _, found = step.once()
    named = step.generator.named_parameters()
    gradients = {name.replace("alpha_embed.into.", "alpha_embed.in."): parameter.grad for name, parameter in named}
    return gradients, {key: numbers["loss"] for key, numbers in found.items()}


def apart(found, expected):
    """Largest difference relative to the largest number."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path, help="the example step_race of drifting-train")
    arguments.add_argument("--work", type=pathlib.Path, required=True, help="folder of inputs and weights")
    arguments.add_argument("--out", type=pathlib.Path, default=ROOT / "train/tests/step/exact.safetensors")
    arguments = arguments.parse_args()
    subprocess.run([arguments.binary, "write", "golden", arguments.work], check=True)
    settings = json.loads((arguments.work / "golden.json").read_text())
    tensors = safetensors.torch.load_file(arguments.work / "golden.safetensors")
    keys, found = settings["keys"], settings["expected"]["keys"]
    varying = [key for key in keys if found[key["name"]]["scale"] >= CONSTANT]
    gradients, losses = exact(settings, tensors, keys)
    ours = safetensors.torch.load_file(arguments.work / "golden.expected.safetensors")
    print(f"our gradients beside the exact ones: {max(apart(ours[f'gradient.{n}'].double(), x) for n, x in gradients.items()):.1e}")
    print(f"our losses of keys that are not constant: {max(abs(found[k['name']]['loss'] / losses[k['name']] - 1) for k in varying):.1e}")
    safetensors.torch.save_file({name: x.float() for name, x in gradients.items()}, arguments.out)


if __name__ == "__main__":
    main()

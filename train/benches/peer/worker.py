"""The twin's process: answers each number on standard input with the seconds of as many steps, in a line of JSON.

    worker.py serve TWIN CASE FOLDER THREADS DEVICE
    worker.py check TWIN CASE FOLDER THREADS DEVICE     one step, held against ours; the answer is how far they differ

TWIN is `tuned` (step.py), `plain` (plain.py) or `compiled` (compiled.py). Of a GPU, its own memory counts.
"""

import json
import pathlib
import re
import sys
import time

import safetensors.torch
import torch
from compiled import CompiledStep
from plain import PlainAlone, PlainStep
from step import Alone, Step

# Mean distances below this are those of features that are equal but for their rounding, another one in every program.
CONSTANT = 1e-3


def memory(entry):
    return int(re.search(rf"{entry}:\s*(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) * 1024


def serve(contender, on_gpu):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    now = torch.cuda.memory_allocated if on_gpu else lambda: memory("VmRSS")
    peak = torch.cuda.max_memory_allocated if on_gpu else lambda: memory("VmHWM")
    before = now()
    for line in sys.stdin:
        seconds, parts = [], {}
        for _ in range(int(line)):
            started = time.perf_counter()
            found, _ = contender.once()
            seconds.append(time.perf_counter() - started)
            for name, time_of_part in found.items():
                parts[name] = parts.get(name, 0.0) + time_of_part
        print(json.dumps({"seconds": seconds, "parts": parts, "extra_bytes": peak() - before}), flush=True)


def check(contender, case, folder, expected):
    """How far loss and gradients are from ours, relatively."""
    _, keys = contender.once()
    norm = contender.norm()
    ours = expected["keys"]
    compared = [key for key in keys if ours[key]["scale"] >= CONSTANT]
    total = lambda found: sum(found[key]["loss"] for key in compared)
    relative = lambda found, expected: abs(found / expected - 1)
    result = {
        "keys": len(keys),
        "constant_keys": len(keys) - len(compared),
        "loss": relative(total(keys), total(ours)),
        "loss_of_all_keys": relative(sum(k["loss"] for k in keys.values()), expected["loss"]),
        "worst_key": max(relative(keys[key]["loss"], ours[key]["loss"]) for key in compared),
        "mean_distance": max(relative(keys[key]["scale"], ours[key]["scale"]) for key in compared),
        "gradient_norm": relative(norm, expected["gradient_norm"]),
    }
    path = folder / f"{case}.expected.safetensors"
    if path.exists():
        result |= compare_tensors(contender, safetensors.torch.load_file(path), expected["gradient_norm"])
    if case == "golden":
        result |= compare_golden(keys, norm, compared)
    print(json.dumps(result), flush=True)


def compare_tensors(step, ours, norm):
    """Gradients and what a step changed, each as one vector of all parameters."""
    clip = min(1.0, step.settings["clip"] / norm)
    gradient, update, average = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for (name, parameter), mean in zip(step.generator.named_parameters(), step.averages[0]):
        # `in` cannot be the name of a module in Python.
        name = name.replace("alpha_embed.into.", "alpha_embed.in.")
        start = step.inputs[f"generator.{name}"]
        for sums, found, expected in [
            (gradient, parameter.grad, ours[f"gradient.{name}"] * clip),
            (update, parameter.detach() - start, ours[f"parameter.{name}"] - start.cpu()),
            (average, mean - start, ours[f"average.{name}"] - start.cpu()),
        ]:
            found = found.cpu()
            sums[0] += (found - expected).double().square().sum().item()
            sums[1] += expected.double().square().sum().item()
    of = lambda sums: (sums[0] / sums[1]) ** 0.5
    return {"gradients": of(gradient), "updates": of(update), "averages": of(average)}


def compare_golden(keys, norm, compared):
    """Against the numbers of the authors' program itself."""
    root = pathlib.Path(__file__).resolve().parents[3]
    golden = safetensors.torch.load_file(root / "tests/golden/step/io.safetensors")
    theirs = sum(golden[f"info.term/{key}"].item() for key in compared)
    return {
        "authors_loss": abs(sum(keys[key]["loss"] for key in compared) / theirs - 1),
        "authors_gradient_norm": abs(norm / golden["grad_norm"].item() - 1),
    }


def main():
    command, kind, case, folder, threads, device = sys.argv[1:]
    torch.set_num_threads(int(threads))
    folder = pathlib.Path(folder)
    settings = json.loads((folder / f"{case}.json").read_text())
    tensors = safetensors.torch.load_file(folder / f"{case}.safetensors")
    # Out of the mapped file, so that its pages are not counted as memory of the step.
    tensors = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
    whole, alone = {"tuned": (Step, Alone), "plain": (PlainStep, PlainAlone), "compiled": (CompiledStep, Alone)}[kind]
    contender = (alone if case.startswith("objective") else whole)(settings, tensors)
    if command == "check":
        check(contender, case, folder, settings["expected"])
    else:
        serve(contender, device != "cpu")


if __name__ == "__main__":
    main()

"""The peer's process in the race of operations. It answers each line of standard input with a line of JSON:

    check CASE            how far its results and gradients are from ours, relatively, by name
    run CASE SECONDS      the seconds of each repetition within that time

    ops_worker.py CASES FOLDER THREADS     CASES is a file with what `ops_race list` prints
"""

import json
import pathlib
import sys
import time

import safetensors.torch
import torch
from torch import nn

import operations

LEAST = 3


class Graph:
    """An operation whose gradients come from backpropagation."""

    def __init__(self, case, tensors):
        self.run, self.settings = getattr(operations, case["peer"]), dict(case["settings"])
        if "parameters" in tensors:
            tensors |= operations.unpacked(tensors.pop("parameters"), self.settings)
        if self.settings.get("normalised") or case["peer"] == "block":
            self.settings["rotation"] = operations.twin.angles(tensors[first(tensors)].shape[1], tensors["gains"].shape[1])
        self.inputs = {name: operations.natural(name, tensor) for name, tensor in tensors.items()}
        self.gradients = {name: self.inputs.pop(name) for name in list(self.inputs) if name.partition(".")[0] == "dy"}
        self.tracked = {name: self.inputs[name].requires_grad_() for name in case["tracked"]}

    def once(self, ones=False):
        if not self.tracked:
            with torch.inference_mode():
                return self.results()
        y = self.results()
        # Which is where our side begins by itself when it is timed.
        gradients = [torch.ones_like(part) if ones else self.gradients["d" + name] for name, part in y.items()]
        found = torch.autograd.grad(tuple(y.values()), tuple(self.tracked.values()), gradients)
        return y | {f"d.{name}": gradient for name, gradient in zip(self.tracked, found)}

    def results(self):
        y = self.run(self.inputs, self.settings)
        return {f"y.{name}": part for name, part in y.items()} if isinstance(y, dict) else {"y": y}


def first(tensors):
    return "x" if "x" in tensors else "qkv"


class Learner:
    """Clipping, AdamW and a moving average."""

    def __init__(self, case, tensors):
        of = lambda part: {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)}
        gradients, self.settings = of("gradient."), case["settings"]
        self.parameters = {name: nn.Parameter(tensor) for name, tensor in of("parameter.").items()}
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name]
        self.averages = [parameter.detach().clone() for parameter in self.parameters.values()]
        keys = ("lr", "betas", "eps", "weight_decay")
        self.optimizer = torch.optim.AdamW(self.parameters.values(), **{key: self.settings[key] for key in keys}, fused=True)

    def once(self, ones=False):
        parameters = self.parameters.values()
        nn.utils.clip_grad_norm_(parameters, self.settings["clip"], foreach=True)
        self.optimizer.step()
        torch._foreach_lerp_(self.averages, [p.detach() for p in parameters], 1 - self.settings["decay"])
        found = {f"parameter.{name}": p.detach() for name, p in self.parameters.items()}
        return found | {f"average.{name}": average for name, average in zip(self.parameters, self.averages)}


class Contender:
    """The operation of a case, and what ours made of the same inputs."""

    def __init__(self, case, folder):
        tensors = safetensors.torch.load_file(folder / f"{case['id']}.safetensors")
        # Out of the mapped file.
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        ours = {name.removeprefix("expected."): tensors.pop(name) for name in list(tensors) if name.startswith("expected.")}
        self.expected = ours
        self.operation = (Learner if case["peer"] == "learner" else Graph)(case, tensors)

    def check(self):
        found = self.operation.once()
        expected, self.expected = self.expected, None
        return differences(found, {name: operations.natural(name.removeprefix("d."), t) for name, t in expected.items()})

    def run(self, length):
        """The first repetition warms the caches up and is not counted."""
        self.operation.once(ones=True)
        seconds = []
        while len(seconds) < LEAST or sum(seconds) < length:
            started = time.perf_counter()
            found = self.operation.once(ones=True)
            del found
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}


def differences(found, expected):
    """The norm of each difference over that of what is expected; both must have the same names and shapes."""
    if found.keys() != expected.keys():
        raise SystemExit(f"found {sorted(found)}, expected {sorted(expected)}")
    return {name: distance(found[name], expected[name]) for name in found}


def distance(found, expected):
    if found.shape != expected.shape:
        raise SystemExit(f"found {tuple(found.shape)}, expected {tuple(expected.shape)}")
    found, expected = found.detach().double(), expected.double()
    return ((found - expected).norm() / expected.norm()).item()


def main():
    cases, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    cases = {case["id"]: case for case in json.loads(pathlib.Path(cases).read_text())}
    current = contender = None
    for line in sys.stdin:
        command, name, *length = line.split()
        if name != current:
            # The last one leaves the memory before the next one is made.
            contender = None
            current, contender = name, Contender(cases[name], pathlib.Path(folder))
        answer = contender.check() if command == "check" else contender.run(float(length[0]))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

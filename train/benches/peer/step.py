"""A whole training step in PyTorch, eager mode: generator, encoder, features, drift, back, clipping, AdamW, moving averages."""

import contextlib
import pathlib
import sys
import time

import torch
from torch import nn

from encoder import Encoder
from features import features
from objective import drift

# The generator of the race of exported files: the same network, which is written to be trained too.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "export/benches"))
import twin  # noqa: E402


class Step:
    """The step of a case that `step_race write` wrote; inputs and images stay the same from step to step."""

    def __init__(self, settings, tensors):
        under = lambda part: {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)}
        self.settings, self.inputs = settings, tensors
        self.keys = [key["name"] for key in settings["keys"]]
        self.generator = twin.load(settings["generator"], under("generator.")).to(tensors["noise"].device)
        encoder = {name: t for name, t in under("mae.").items() if name.startswith("encoder.")}
        self.encoder = Encoder(settings["mae"], encoder)
        self.draw, self.look = self.generator, self.encoder
        self.parameters = list(self.generator.parameters())
        self.averages = [[p.detach().clone() for p in self.parameters] for _ in settings["decays"]]
        adamw = settings["adamw"]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings["lr"],
            betas=(adamw["beta1"], adamw["beta2"]),
            eps=adamw["epsilon"],
            weight_decay=adamw["weight_decay"],
            fused=True,
        )

    def once(self):
        """Takes a step. Its parts in seconds, and the loss of each key with its mean distance."""
        parts, inputs, settings = {}, self.inputs, self.settings
        self.optimizer.zero_grad(set_to_none=True)
        with timed(parts, "generate"):
            images = self.draw(*(inputs[name] for name in ("noise", "style", "class", "alpha")))
        with timed(parts, "encode"):
            maps = self.look(images)
            with torch.no_grad():
                real = torch.cat([inputs["positives"], inputs["unconditional"]])
                real_maps = self.look(real)
        with timed(parts, "drift"):
            generated = features(images, maps, self.keys)
            with torch.no_grad():
                real = features(real, real_maps, self.keys)
            sizes = [len(inputs["positives"]), len(inputs["unconditional"])]
            found, gradients = {}, []
            for key in self.keys:
                positives, unconditional = real[key].split(sizes)
                loss, gradient, distance = drift(
                    generated[key], positives, unconditional, inputs["guidance"], settings["temperatures"]
                )
                found[key] = {"loss": loss, "scale": distance}
                gradients.append(gradient)
            del real, real_maps, maps
        with timed(parts, "backward"):
            torch.autograd.backward([generated.pop(key) for key in self.keys], gradients)
        with timed(parts, "optimizer"):
            self.last_norm = nn.utils.clip_grad_norm_(self.parameters, settings["clip"], foreach=True).item()
            self.optimizer.step()
            for average, decay in zip(self.averages, settings["decays"]):
                torch._foreach_lerp_(average, [p.detach() for p in self.parameters], 1 - decay)
        return parts, found

    def norm(self):
        """Of the last gradients."""
        return self.last_norm


class Alone:
    """The objective of one key, without networks."""

    def __init__(self, settings, tensors):
        self.settings, self.inputs = settings, tensors

    def once(self):
        sets = [self.inputs[name] for name in ("generated", "positives", "unconditional", "guidance")]
        loss, self.gradient, distance = drift(*sets, self.settings["temperatures"])
        return {}, {"layer3": {"loss": loss, "scale": distance}}

    def norm(self):
        """Of the last gradient; not a part of what is timed."""
        return torch.linalg.vector_norm(self.gradient, dim=(1, 2)).double().norm().item()


@contextlib.contextmanager
def timed(parts, name):
    started = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    parts[name] = parts.get(name, 0.0) + time.perf_counter() - started

"""The twin as one writes it at first: the paper's formulas line by line, everything differentiated by autograd.

The other twin (`step.py`) is what can be made of it with knowledge of PyTorch and of the objective: maps in channels-last memory,
moments of moments, operations in place, the gradient in closed form, freed memory kept.
"""

import math

import torch
import torch.nn.functional as F
from encoder import Encoder
from step import Alone, Step, timed

EPSILON = 1e-6
FLOOR = 1e-6
MASK = 100.0


class PlainStep(Step):
    """A training step; the loss is a tensor, and its gradient goes back through features, encoder and generator at once."""

    def __init__(self, settings, tensors):
        super().__init__(settings, tensors)
        self.encoder = PlainEncoder(settings["mae"], {n.removeprefix("mae."): t for n, t in tensors.items() if n.startswith("mae.encoder.")})

    def once(self):
        parts, inputs, settings = {}, self.inputs, self.settings
        self.optimizer.zero_grad()
        with timed(parts, "generate"):
            images = self.generator(*(inputs[name] for name in ("noise", "style", "class", "alpha")))
        with timed(parts, "encode"):
            maps = self.encoder(images)
            with torch.no_grad():
                real = torch.cat([inputs["positives"], inputs["unconditional"]])
                real_maps = self.encoder(real)
        with timed(parts, "drift"):
            generated = features(images, maps, self.keys)
            with torch.no_grad():
                real = features(real, real_maps, self.keys)
            sizes, found, total = [len(inputs["positives"]), len(inputs["unconditional"])], {}, 0
            for key in self.keys:
                positives, unconditional = real[key].split(sizes)
                loss, distance = drift_loss(generated[key], positives, unconditional, inputs["guidance"], settings["temperatures"])
                total = total + loss
                found[key] = {"loss": loss.item(), "scale": distance}
        with timed(parts, "backward"):
            total.backward()
        with timed(parts, "optimizer"):
            self.last_norm = torch.nn.utils.clip_grad_norm_(self.parameters, settings["clip"]).item()
            self.optimizer.step()
            for average, decay in zip(self.averages, settings["decays"]):
                with torch.no_grad():
                    for mean, parameter in zip(average, self.parameters):
                        mean.lerp_(parameter, 1 - decay)
        return parts, found


class PlainAlone(Alone):
    """The objective of one key, without networks."""

    def once(self):
        sets = [self.inputs[name] for name in ("generated", "positives", "unconditional", "guidance")]
        generated = sets[0].detach().requires_grad_()
        loss, distance = drift_loss(generated, *sets[1:], self.settings["temperatures"])
        loss.backward()
        self.gradient = generated.grad
        return {}, {"layer3": {"loss": loss.item(), "scale": distance}}


class PlainEncoder(Encoder):
    """Maps in PyTorch's usual memory format, and nothing in place."""

    memory_format = torch.contiguous_format
    inplace = False


def features(images, maps, keys):
    """Features `[n, T, D]` by key."""
    return {key: feature(key, images, maps) for key in keys}


def feature(key, images, maps):
    if key == "global":
        return images.flatten(1).unsqueeze(1)
    if key == "norm_x":
        return (maps["x"].square().mean((2, 3)) + EPSILON).sqrt().unsqueeze(1)
    kind, _, side = key.partition("_")
    if kind in ("patch", "mean", "std"):
        cells = cut(images, int(side))
        if kind == "patch":
            return cells.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
        moment = cells.mean(4) if kind == "mean" else (cells.var(4, correction=0) + EPSILON).sqrt()
        return moment.flatten(1).unsqueeze(1)
    for kind in ("mean", "std"):
        name, is_it, side = key.partition(f"_{kind}")
        if is_it:
            side = int(side.removeprefix("_") or 0)
            cells = cut(maps[name], side) if side else maps[name].flatten(2)[:, :, None, None]
            moment = cells.mean(4) if kind == "mean" else (cells.var(4, correction=0) + EPSILON).sqrt()
            return moment.flatten(2).mT
    return maps[key].flatten(2).mT


def cut(x, side):
    """`[n, c, h / side, w / side, side^2]`."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // side, side, w // side, side).transpose(3, 4).flatten(4)


def drift_loss(generated, positives, unconditional, guidance, temperatures):
    """The loss, and the mean distance."""
    groups, (_, locations, dim) = len(guidance), generated.shape
    x, u, p = (s.reshape(groups, -1, locations, dim).transpose(1, 2).flatten(0, 1) for s in (generated, unconditional, positives))
    with torch.no_grad():
        y, negatives, own = torch.cat([x, u, p], 1), x.shape[1] + u.shape[1], x.shape[1]
        weight = torch.ones(len(x), 1, y.shape[1])
        weight[:, :, own:negatives] = guidance.repeat_interleave(locations)[:, None, None]
        squares = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None] - 2 * x @ y.mT
        distance = squares.clamp(min=1e-8).sqrt()
        mean_distance = ((distance * weight).mean() / weight.mean()).item()
        scale = max(mean_distance / math.sqrt(dim), 1e-3)
        distance = distance / max(mean_distance, 1e-3) + MASK * F.pad(torch.eye(own), (0, y.shape[1] - own))
        force = 0
        for temperature in temperatures:
            logits = -distance / temperature
            affinity = (logits.softmax(2) * logits.softmax(1)).clamp(min=FLOOR).sqrt() * weight
            repulsion, attraction = affinity[:, :, :negatives], affinity[:, :, negatives:]
            pull, push = attraction * repulsion.sum(2, keepdim=True), repulsion * attraction.sum(2, keepdim=True)
            field = (pull @ y[:, negatives:] - push @ y[:, :negatives]) / scale
            force = force + field / field.square().mean().clamp(min=1e-8).sqrt()
        goal = x / scale + force
    return (x / scale - goal).square().mean(), mean_distance

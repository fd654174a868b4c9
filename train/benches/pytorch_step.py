"""The training step of configs/fashion-demo.toml in PyTorch: the peer that `drifting train` is timed against.

    python -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python train/benches/pytorch_step.py --steps 40
    drifting train configs/fashion-demo.toml --steps 40 --set output.samples_every=0 --out /tmp/bench

Both read the embedded images, draw ten classes a step, generate, drift in the same feature keys, take an AdamW step and
update a moving average. Same sizes, same operations, eager mode, all threads; random numbers differ.
"""

import argparse
import gzip
import math
import pathlib
import time
import tomllib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]


def rms(x, gain):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain


class Block(nn.Module):
    def __init__(self, h, heads, inner):
        super().__init__()
        self.heads, self.d = heads, h // heads
        self.mod = nn.Linear(h, 6 * h)
        nn.init.zeros_(self.mod.weight), nn.init.zeros_(self.mod.bias)
        self.n1, self.n2 = nn.Parameter(torch.ones(h)), nn.Parameter(torch.ones(h))
        self.q, self.k = nn.Parameter(torch.ones(self.d)), nn.Parameter(torch.ones(self.d))
        self.qkv, self.out = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.gate, self.value, self.down = nn.Linear(h, inner), nn.Linear(h, inner), nn.Linear(inner, h)

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, x, cond, cos, sin):
        s1, k1, g1, s2, k2, g2 = self.mod(cond).unsqueeze(1).chunk(6, -1)
        y = rms(x, self.n1) * (1 + k1) + s1
        b, n, h = y.shape
        q, k, v = self.qkv(y).view(b, n, 3, self.heads, self.d).permute(2, 0, 3, 1, 4)
        q, k = self.rotate(rms(q, self.q), cos, sin), self.rotate(rms(k, self.k), cos, sin)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, h)
        x = x + g1 * self.out(y)
        y = rms(x, self.n2) * (1 + k2) + s2
        return x + g2 * self.down(F.silu(self.gate(y)) * self.value(y))


class Generator(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, h, p = c, c["hidden"], c["patch"]
        image = c["image"]
        self.grid = image["height"] // p
        tokens, patch = self.grid**2, p * p * image["channels"]
        self.cls = nn.Embedding(c["classes"], h)
        self.style = nn.Parameter(0.02 * torch.randn(c["style_tokens"], c["style_codes"], h))
        self.a1, self.a2, self.an = nn.Linear(256, h), nn.Linear(h, h), nn.Parameter(torch.ones(h))
        self.embed, self.pos = nn.Linear(patch, h), nn.Parameter(torch.randn(tokens, h))
        self.reg, self.reg_embed = nn.Linear(h, h), nn.Parameter(0.02 * torch.randn(c["registers"], h))
        inner = math.ceil(int(8 * h / 3) / 32) * 32
        self.blocks = nn.ModuleList(Block(h, c["heads"], inner) for _ in range(c["depth"]))
        self.fmod, self.fnorm, self.fout = nn.Linear(h, 2 * h), nn.Parameter(torch.ones(h)), nn.Linear(h, patch)
        for layer in (self.fmod, self.fout):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        d = h // c["heads"]
        angle = torch.arange(c["registers"] + tokens)[:, None] * 10000.0 ** (-torch.arange(d // 2) / (d // 2))
        self.register_buffer("cos", angle.cos()), self.register_buffer("sin", angle.sin())
        self.register_buffer("freq", torch.exp(-math.log(10000) * torch.arange(128) / 128))

    def forward(self, noise, style, label, alpha):
        b, p, g = len(label), self.c["patch"], self.grid
        a = alpha[:, None] * self.freq
        a = rms(self.a2(F.silu(self.a1(torch.cat([a.cos(), a.sin()], 1)))), self.an)
        codes = self.style[torch.arange(style.shape[1]), style].sum(1)
        cond = self.cls(label) + codes + 0.02 * a
        x = noise.view(b, -1, g, p, g, p).permute(0, 2, 4, 3, 5, 1).reshape(b, g * g, -1)
        x = self.embed(x) + self.pos
        x = torch.cat([self.reg(cond)[:, None] + self.reg_embed, x], 1)
        cond = F.silu(cond)
        for block in self.blocks:
            x = block(x, cond, self.cos, self.sin)
        shift, scale = self.fmod(cond).unsqueeze(1).chunk(2, -1)
        x = self.fout(rms(x[:, self.c["registers"] :], self.fnorm) * (1 + scale) + shift)
        return x.view(b, g, g, p, p, -1).permute(0, 5, 1, 3, 2, 4).reshape(noise.shape)


def features(key, x):
    """[groups, n, c, h, w] -> [groups * locations, n, dim]"""
    groups, n, c, h, w = x.shape
    name, _, side = key.partition("_")
    if name == "global":
        return x.reshape(groups, n, -1)
    side = int(side)
    cells = x.view(groups, n, c, h // side, side, w // side, side)
    if name == "patch":
        return cells.permute(0, 3, 5, 1, 2, 4, 6).reshape(groups * (h // side) * (w // side), n, -1)
    if name == "mean":
        return cells.mean((4, 6)).reshape(groups, n, -1)
    return (cells.var((4, 6), unbiased=False) + 1e-6).sqrt().reshape(groups, n, -1)


def drift_loss(gen, pos, unc, weight, taus):
    old, targets = gen.detach(), torch.cat([gen.detach(), unc, pos], 1)
    ng, split, dim = gen.shape[1], gen.shape[1] + unc.shape[1], gen.shape[2]
    w = torch.ones(targets.shape[:2])
    w[:, ng:split] = weight[:, None]
    d = (old.square().sum(-1)[:, :, None] + targets.square().sum(-1)[:, None] - 2 * old @ targets.mT).clamp(min=1e-8).sqrt()
    scale = (d * w[:, None]).mean() / w.mean()
    s = max(scale.item() / math.sqrt(dim), 1e-3)
    dn = d / max(scale.item(), 1e-3)
    dn[:, torch.arange(ng), torch.arange(ng)] += 100
    g, y, force = old / s, targets / s, 0
    for tau in taus:
        logits = -dn / tau
        a = (logits.softmax(2) * logits.softmax(1)).clamp(min=1e-6).sqrt() * w[:, None]
        minus, plus = a[:, :, :split].sum(2, keepdim=True), a[:, :, split:].sum(2, keepdim=True)
        c = torch.cat([-a[:, :, :split] * plus, a[:, :, split:] * minus], 2)
        v = c @ y - c.sum(2, keepdim=True) * g
        force = force + v / v.square().mean().clamp(min=1e-8).sqrt()
    return (gen / s - (g + force)).square().mean()


def images():
    folder = ROOT / "train/assets/fashion-mnist"
    read = lambda name, skip: np.frombuffer(gzip.open(folder / name).read(), np.uint8)[skip:]
    pixels = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1
    labels = read("train-labels-idx1-ubyte.gz", 8)
    return torch.from_numpy(pixels), [np.flatnonzero(labels == c) for c in range(10)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    config = tomllib.loads((ROOT / "configs/fashion-demo.toml").read_text())
    c, batch, keys = config["generator"], config["batch"], config["features"]["keys"]
    taus = config.get("drift", {}).get("temperatures", [0.2, 0.05, 0.02])
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pixels, by_class = images()
    model = Generator(c)
    ema = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["schedule"]["lr"], betas=(0.9, 0.95), weight_decay=0.01)
    groups, n = batch["classes"], batch["generated"]
    label = torch.arange(groups).repeat_interleave(n)
    shape = (c["image"]["channels"], c["image"]["height"], c["image"]["width"])
    started = time.perf_counter()
    for step in range(steps):
        pos = torch.stack([pixels[rng.choice(i, batch["positives"], replace=False)] for i in by_class])
        unc = torch.stack([pixels[rng.choice(len(pixels), batch["unconditional"], replace=False)] for _ in by_class])
        alpha = torch.from_numpy((1 + rng.random(groups) * (4.0**-2 - 1)) ** -0.5).float()
        weight = (alpha - 1) * (n - 1) / batch["unconditional"]
        style = torch.randint(0, c["style_codes"], (groups * n, c["style_tokens"]))
        x = model(torch.randn(groups * n, *shape), style, label, alpha.repeat_interleave(n))
        x = x.view(groups, n, *shape)
        loss = 0
        for key in keys:
            f = [features(key, part) for part in (x, pos, unc)]
            loss = loss + drift_loss(f[0], f[1], f[2], weight.repeat_interleave(len(f[0]) // groups), taus)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(ema, list(model.parameters()), 0.001)
    seconds = time.perf_counter() - started
    print(f"{torch.get_num_threads()} threads, {seconds / steps:.4f} s a step, {groups * n * steps / seconds:.0f} images/s")


main()

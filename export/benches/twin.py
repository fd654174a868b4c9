"""The generator of a drifting model in PyTorch: the peer that the exported ONNX file is raced against.

Written from the paper (appendix A.2) in PyTorch's own words: `nn.RMSNorm`, `scaled_dot_product_attention`, one lookup
for all style tokens. Its parameters bear the names of ours, so that `load_state_dict` reads a weight file. It knows the
official settings only: RMSNorm with gain, 1-D rotation, separate style tables, sinusoids of alpha, adaLN at the end.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-6
FREQUENCIES = 128
OFFICIAL = {
    "norm": "rms",
    "norm_affine": True,
    "qk_norm": "rms",
    "rope": "1d",
    "positions": True,
    "style_tables": "separate",
    "alpha_embedding": "sinusoidal",
    "final_layer": "adaln",
}


class Alpha(nn.Module):
    """Sinusoids of alpha, an MLP, a norm: `[batch]` becomes `[batch, hidden]`."""

    def __init__(self, hidden):
        super().__init__()
        self.into, self.out = nn.Linear(2 * FREQUENCIES, hidden), nn.Linear(hidden, hidden)
        self.norm = nn.RMSNorm(hidden, eps=EPSILON)
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(FREQUENCIES, dtype=torch.float64) / FREQUENCIES)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, alpha):
        angles = alpha[:, None] * self.frequencies
        embedded = self.into(torch.cat([angles.cos(), angles.sin()], dim=1))
        return 0.02 * self.norm(self.out(F.silu(embedded)))


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.q_norm, self.k_norm = (nn.RMSNorm(hidden // heads, eps=EPSILON) for _ in range(2))

    def forward(self, x, cos, sin):
        batch, tokens, hidden = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, hidden))


class Mlp(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate, self.value, self.out = nn.Linear(hidden, inner), nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, x):
        return self.out(F.silu(self.gate(x)) * self.value(x))


class Block(nn.Module):
    def __init__(self, hidden, heads, inner):
        super().__init__()
        self.modulation = nn.Linear(hidden, 6 * hidden)
        self.norm1, self.norm2 = (nn.RMSNorm(hidden, eps=EPSILON) for _ in range(2))
        self.attn, self.mlp = Attention(hidden, heads), Mlp(hidden, inner)

    def forward(self, x, condition, cos, sin):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).unsqueeze(1).chunk(6, dim=-1)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1, cos, sin)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Generator(nn.Module):
    """noise `[batch, channels, height, width]`, style `[batch, tokens]`, class and alpha `[batch]` become an image."""

    def __init__(self, config):
        super().__init__()
        unknown = {key: config[key] for key, value in OFFICIAL.items() if config[key] != value}
        if unknown:
            raise ValueError(f"the twin knows the official settings only, not {unknown}")
        image, self.patch, hidden, heads = config["image"], config["patch"], config["hidden"], config["heads"]
        self.rows, self.columns = image["height"] // self.patch, image["width"] // self.patch
        patches, patch_len = self.rows * self.columns, self.patch**2 * image["channels"]
        tables, codes, self.registers = config["style_tokens"], config["style_codes"], config["registers"]

        self.class_embed = nn.Embedding(config["classes"], hidden)
        self.style_embed = holder(weight=(tables, codes, hidden))
        self.register_buffer("first_code", torch.arange(tables) * codes, persistent=False)
        self.alpha_embed = Alpha(hidden)
        self.patch_embed = nn.Linear(patch_len, hidden)
        self.pos_embed = nn.Parameter(torch.zeros(patches, hidden))
        self.register = holder(embed=(self.registers, hidden))
        self.register.proj = nn.Linear(hidden, hidden)
        inner = config.get("mlp_hidden") or -(-(8 * hidden // 3) // 32) * 32
        self.blocks = nn.ModuleList(Block(hidden, heads, inner) for _ in range(config["depth"]))
        self.final = nn.ModuleDict(
            {
                "norm": nn.RMSNorm(hidden, eps=EPSILON),
                "modulation": nn.Linear(hidden, 2 * hidden),
                "out": nn.Linear(hidden, patch_len),
            }
        )
        cos, sin = angles(self.registers + patches, hidden // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, noise, style, label, alpha):
        batch, channels, height, width = noise.shape
        rows, columns, p = self.rows, self.columns, self.patch
        styles = F.embedding(style + self.first_code, self.style_embed.weight.flatten(0, 1)).sum(dim=1)
        condition = self.class_embed(label) + styles + self.alpha_embed(alpha)
        x = noise.view(batch, channels, rows, p, columns, p).permute(0, 2, 4, 3, 5, 1)
        x = self.patch_embed(x.reshape(batch, rows * columns, -1)) + self.pos_embed
        x = torch.cat([self.register.proj(condition)[:, None] + self.register.embed, x], dim=1)
        condition = F.silu(condition)
        for block in self.blocks:
            x = block(x, condition, self.cos, self.sin)
        shift, scale = self.final["modulation"](condition).unsqueeze(1).chunk(2, dim=-1)
        x = self.final["norm"](x[:, self.registers :]) * (1 + scale) + shift
        x = self.final["out"](x).view(batch, rows, columns, p, p, channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, height, width)


def angles(tokens, head_dim):
    """Cosines and sines `[tokens, head dim / 2]` of the rotation of each pair at each position."""
    pairs = torch.arange(head_dim // 2, dtype=torch.float64)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] * 10000.0 ** (-pairs / (head_dim // 2))
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """Rotates the halves of the last dimension against each other."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def holder(**shapes):
    """A module of bare parameters."""
    module = nn.Module()
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    return module



def load(config, weights):
    """The generator of `config` with the parameters `weights`, named as in our weight files."""
    generator = Generator(config)
    # `in` cannot be the name of a module in Python.
    named = {name.replace("alpha_embed.in.", "alpha_embed.into."): tensor for name, tensor in weights.items()}
    generator.load_state_dict(named)
    return generator.eval()

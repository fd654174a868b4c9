"""Our operations in PyTorch, each in the best eager form that one would write.

A function makes of a case's inputs by name (images `[n, C, h, w]` in channels-last memory) and settings the result, or
results by name.
"""

import pathlib
import sys

import torch
import torch.nn.functional as F

from features import Statistics

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "export/benches"))
import twin  # noqa: E402

EPSILON = 1e-6


def natural(name, tensor):
    """Our tensor as PyTorch has it: images and kernels with the channels first, last in memory."""
    if tensor.dim() != 4:
        return tensor
    if name.startswith("weight"):
        # Ours are [side, side, in, out].
        return tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 3, 1, 2)


def matmul(t, settings):
    a, b = (x.mT if turned else x for x, turned in zip((t["a"], t["b"]), settings["transposed"]))
    return torch.mm(a, b)


def linear(t, settings):
    return F.linear(t["x"], t["weight"], t["bias"])


def conv2d(t, settings):
    stride, padding, groups = (settings[key] for key in ("stride", "padding", "groups"))
    return F.conv2d(t["x"], t["weight"], t.get("bias"), stride, padding, groups=groups)


def group_norm(t, settings):
    return normalise(t["x"], t["scale"], t["bias"], settings)


def normalise(x, scale, bias, settings):
    y = F.group_norm(x, settings["groups"], scale, bias, settings["eps"])
    return F.relu(y, inplace=True) if settings["relu"] else y


def conv_chain(t, settings):
    projection = settings["projection"]
    layers = settings["layers"] + ([projection] if projection else [])
    parts = [[t[f"{part}{i}"] for part in ("weight", "scale", "bias")] for i in range(len(layers))]

    def layer(x, number):
        (weight, scale, bias), layer = parts[number], layers[number]
        y = F.conv2d(x, weight, stride=layer["stride"], padding=layer["kernel"][0] // 2)
        return normalise(y, scale, bias, layer["norm"])

    x = y = t["x"]
    for number in range(len(settings["layers"])):
        y = layer(y, number)
    if projection:
        x = layer(x, len(layers) - 1)
    return F.relu(y.add_(x), inplace=True)


def unpacked(parameters, settings):
    """The parts of a chain's flat parameters."""
    parts = {}
    for i, layer in enumerate(settings["layers"] + ([settings["projection"]] if settings["projection"] else [])):
        channels = layer["kernel"][3]
        for name, shape in (("weight", layer["kernel"]), ("scale", [channels]), ("bias", [channels])):
            count = torch.Size(shape).numel()
            parts[f"{name}{i}"], parameters = parameters[:count].view(shape), parameters[count:]
    return parts


def resize(t, settings):
    size = (settings["side"], settings["side"])
    return F.interpolate(t["x"], size, mode="bilinear", antialias=settings["antialias"])


def upsample(t, settings):
    return F.interpolate(t["x"], scale_factor=2, mode="nearest")


def max_pool(t, settings):
    return F.max_pool2d(t["x"], settings["side"], settings["stride"], settings["padding"])


def layer_norm(t, settings):
    return F.layer_norm(t["x"], t["scale"].shape, t["scale"], t["bias"], settings["eps"])


def norm(t, settings):
    shift, scale = t["modulation"].unsqueeze(1).chunk(6, dim=-1)[:2]
    x, affine = t["x"], t["affine"]
    if settings["kind"] == "layer":
        x = F.layer_norm(x, affine.shape[1:], affine[0], affine[1], EPSILON)
    else:
        x = F.rms_norm(x, affine.shape[1:], affine[0], EPSILON)
    return torch.addcmul(shift, x, 1 + scale)


def block(t, settings):
    shift1, scale1, gate1, shift2, scale2, gate2 = t["modulation"].unsqueeze(1).chunk(6, dim=-1)
    x, width = t["x"], t["norm1"].shape
    dense = lambda x, name: F.linear(x, t[f"{name}_weight"], t[f"{name}_bias"])
    normed = torch.addcmul(shift1, F.rms_norm(x, width, t["norm1"], EPSILON), 1 + scale1)
    mixed = attend(dense(normed, "qkv"), t["gains"], settings | {"normalised": True})
    x = torch.addcmul(x, gate1, dense(mixed, "out"))
    normed = torch.addcmul(shift2, F.rms_norm(x, width, t["norm2"], EPSILON), 1 + scale2)
    activation = F.silu(dense(normed, "gate")) * dense(normed, "value")
    return torch.addcmul(x, gate2, dense(activation, "down"))


def attention(t, settings):
    return attend(t["qkv"], t["gains"], settings)


def attend(qkv, gains, settings):
    batch, tokens, width = qkv.shape
    q, k, v = qkv.view(batch, tokens, 3, settings["heads"], -1).permute(2, 0, 3, 1, 4).unbind(0)
    if settings["normalised"]:
        cos, sin = settings["rotation"]
        q, k = (twin.rotate(F.rms_norm(x, x.shape[-1:], gain, EPSILON), cos, sin) for x, gain in zip((q, k), gains))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width // 3)


def swiglu(t, settings):
    return F.silu(t["gate"]) * t["value"]


def gated_add(t, settings):
    offset, width = settings["offset"], t["x"].shape[-1]
    return torch.addcmul(t["x"], t["modulation"][:, None, offset : offset + width], t["y"])


def sum_of_rows(t, settings):
    return F.embedding_bag(t["indices"], t["table"], mode="sum")


def copy(t, settings):
    return t["x"].transpose(1, 2).contiguous()


def cut(t, settings):
    x, p, c = t["x"], settings["patch"], settings["channels"]
    n, rows, columns = x.shape[0], x.shape[1] // c // p, x.shape[2] // p
    return x.view(n, c, rows, p, columns, p).permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, p * p * c)


def exp(t, settings):
    return t["x"].exp()


def softmax(t, settings):
    return t["x"].softmax(-1)


def silu(t, settings):
    return F.silu(t["x"])


def gelu(t, settings):
    return F.gelu(t["x"])


def statistics(t, settings):
    found = Statistics(t["x"])
    take = lambda kind, _, side: getattr(found, kind)(int(side or 0))
    return {name: take(*name.partition("_")) for name in settings["names"]}

"""The encoder of a masked autoencoder in PyTorch (paper A.3): frozen, maps in channels-last memory."""

import torch
import torch.nn.functional as F

EPSILON = 1e-6
TAP_EVERY = 2


class Encoder:
    """Images `[n, c, h, w]` become maps by name, `[n, C, h', w']`; `x` is the patched image."""

    memory_format = torch.channels_last
    inplace = True

    def __init__(self, config, weights):
        unknown = {"block": "basic", "stage_norm": True, "stem_tap": True}
        unknown = {key: config[key] for key, value in unknown.items() if config[key] != value}
        if unknown:
            raise ValueError(f"the twin knows the official settings only, not {unknown}")
        self.config, self.weights = config, {}
        for name, weight in weights.items():
            if weight.dim() == 4:
                # Ours are [side, side, in, out].
                weight = weight.permute(3, 2, 0, 1).contiguous(memory_format=self.memory_format)
            self.weights[name.removeprefix("encoder.")] = weight

    def __call__(self, images):
        p = self.config["input_patch"]
        n, c, h, w = images.shape
        x = images.view(n, c, h // p, p, w // p, p).permute(0, 3, 5, 1, 2, 4).reshape(n, p * p * c, h // p, w // p)
        maps = {"x": x}
        x = x.contiguous(memory_format=self.memory_format)
        x = maps["conv1"] = F.relu(self.norm(self.conv(x, "conv1", 1), "gn1"), inplace=self.inplace)
        for stage, blocks in enumerate(self.config["blocks"]):
            for block in range(blocks):
                x = self.block(x, f"stages.{stage}.layers.{block}.", 2 if stage > 0 and block == 0 else 1)
                if (block + 1) % TAP_EVERY == 0:
                    maps[f"layer{stage + 1}_blk{block + 1}"] = x
            x = maps[f"layer{stage + 1}"] = self.norm(x, f"layer{stage + 1}_norm")
        return maps

    def block(self, x, name, stride):
        y = F.relu(self.norm(self.conv(x, name + "conv1", stride), name + "gn1"), inplace=self.inplace)
        y = self.norm(self.conv(y, name + "conv2", 1), name + "gn2")
        if name + "proj_conv.weight" in self.weights:
            x = self.norm(self.conv(x, name + "proj_conv", stride), name + "proj_gn")
        return F.relu(y.add_(x) if self.inplace else y + x, inplace=self.inplace)

    def conv(self, x, name, stride):
        weight = self.weights[name + ".weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    def norm(self, x, name):
        channels = x.shape[1]
        groups = next(g for g in range(min(self.config["norm_groups"], channels), 0, -1) if channels % g == 0)
        return F.group_norm(x, groups, self.weights[name + ".weight"], self.weights[name + ".bias"], EPSILON)

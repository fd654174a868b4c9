"""Feature keys (paper A.5) in PyTorch: every map's raw vectors, means and standard deviations, and keys of the image."""

import torch
import torch.nn.functional as F

EPSILON = 1e-6


def features(images, maps, keys):
    """Features `[n, T, D]` by key of images `[n, c, h, w]` and their maps."""
    statistics = {name: Statistics(x) for name, x in maps.items() if name != "x"}
    # Cells first: the moments of a whole map come from those of its cells.
    keys = sorted(keys, key=lambda key: not key.endswith(("_2", "_4")))
    return {key: of_key(key, images, maps, statistics) for key in keys}


def of_key(key, images, maps, statistics):
    if key == "global":
        return images.flatten(1).unsqueeze(1)
    if key == "norm_x":
        return (maps["x"].square().mean((2, 3)) + EPSILON).sqrt().unsqueeze(1)
    kind, _, side = key.partition("_")
    if kind in ("patch", "mean", "std"):
        return of_image(images, kind, int(side))
    for kind in ("mean", "std"):
        name, found, side = key.partition(f"_{kind}")
        if found:
            return getattr(statistics[name], kind)(int(side.removeprefix("_") or 0))
    return vectors(maps[key])


def vectors(x):
    """`[n, C, h, w]` in channels-last memory as `[n, h w, C]`, without a copy."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class Statistics:
    """Moments of a map over cells of 2 x 2, of 4 x 4 and over all of it, each from the finer ones."""

    def __init__(self, x):
        self.x, self.moments = x, {}

    def mean(self, side):
        return vectors(self.of(side)[0])

    def std(self, side):
        mean, square = self.of(side)
        return vectors((torch.addcmul(square, mean, mean, value=-1).clamp(min=0) + EPSILON).sqrt())

    def of(self, side):
        """Means of x and of its square over cells of `side`, 0 for the whole map."""
        if side not in self.moments:
            finer = next((s for s in (4, 2) if s in self.moments and (side == 0 or side > s)), 1)
            first, second = self.moments[finer] if finer > 1 else (self.x, self.x.square())
            if side == 0:
                pooled = [part.mean((2, 3), keepdim=True) for part in (first, second)]
            else:
                pooled = [F.avg_pool2d(part, side // finer) for part in (first, second)]
            self.moments[side] = pooled
        return self.moments[side]


def of_image(images, kind, side):
    n, c, h, w = images.shape
    cells = images.view(n, c, h // side, side, w // side, side)
    if kind == "patch":
        return cells.permute(0, 2, 4, 1, 3, 5).reshape(n, (h // side) * (w // side), -1)
    if kind == "mean":
        return cells.mean((3, 5)).flatten(1).unsqueeze(1)
    return (cells.var((3, 5), correction=0) + EPSILON).sqrt().flatten(1).unsqueeze(1)

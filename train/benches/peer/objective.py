"""The drift objective of one feature key in PyTorch (paper 3.2 to 3.5, A.6): all problems of the key in batched products."""

import math

import torch

FLOOR = 1e-6
MASK = 100.0


@torch.no_grad()
def drift(generated, positives, unconditional, guidance, temperatures):
    """Loss, gradient with respect to the generated features, and mean distance.

    Features are `[groups * images, T, D]`, class group after class group; guidance is the weight of the unconditional
    ones in each group. The goal is frozen, so the gradient is known: -2 F / (s B Ng D).
    """
    groups, (_, locations, dim) = len(guidance), generated.shape
    sets = [x.view(groups, -1, locations, dim).transpose(1, 2) for x in (generated, unconditional, positives)]
    y = torch.cat(sets, dim=2).flatten(0, 1)
    own, negatives = sets[0].shape[2], sets[0].shape[2] + sets[1].shape[2]
    weight = guidance.repeat_interleave(locations)[:, None, None]

    # About the centre, where fewer digits cancel.
    y -= y.mean(1, keepdim=True)
    x = y[:, :own]
    squares = torch.linalg.vector_norm(y, dim=2).square_()
    distance = torch.baddbmm(squares[:, None], x, y.mT, alpha=-2).add_(squares[:, :own, None])
    itself = distance[:, :, :own].diagonal(dim1=1, dim2=2)
    itself.zero_()
    distance.clamp_(min=1e-8).sqrt_()

    columns = distance.sum(1)
    columns[:, own:negatives] *= weight[:, 0]
    mean_weight = (y.shape[1] - negatives + own + guidance.mean().item() * (negatives - own)) / y.shape[1]
    mean_distance = columns.sum(dtype=torch.float64).item() / distance.numel() / mean_weight
    scale = max(mean_distance / math.sqrt(dim), 1e-3)
    distance *= 1 / max(mean_distance, 1e-3)
    itself += MASK

    force = None
    for temperature in temperatures:
        logits = distance * (-1 / temperature)
        affinity = logits.softmax(2).mul_(logits.softmax(1)).clamp_(min=FLOOR).sqrt_()
        affinity[:, :, own:negatives] *= weight
        repulsion, attraction = affinity[:, :, :negatives], affinity[:, :, negatives:]
        pushed, pulled = repulsion.sum(2, keepdim=True), attraction.sum(2, keepdim=True)
        repulsion *= -pulled
        attraction *= pushed
        field = torch.bmm(affinity, y)
        square = square_sum(field) / scale**2 / field.numel()
        factor = 1 / (scale * math.sqrt(max(square, 1e-8)))
        force = field.mul_(factor) if force is None else force.add_(field, alpha=factor)

    loss = square_sum(force) / force.numel()
    force *= -2 / (scale * force.numel())
    gradient = force.view(groups, locations, own, dim).transpose(1, 2).reshape(generated.shape)
    return loss, gradient, mean_distance


def square_sum(x):
    """Of `[problems, n, D]`; over all of them at once, f32 loses three digits."""
    return torch.linalg.vector_norm(x, dim=(1, 2)).square().sum(dtype=torch.float64).item()

"""The measures of drifting eval as their own programs compute them, on features in .npy files; prints JSON.

Fréchet distance as pytorch-fid has it (SciPy's sqrtm of the product of covariances), KID with scikit-learn's polynomial
kernel, precision and recall with scikit-learn's neighbours, density and coverage as in Naeem et al. 2020.
"""

import json
import pathlib
import sys

import numpy as np
import scipy.linalg
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors


def frechet(mu1, sigma1, mu2, sigma2):
    difference = mu1 - mu2
    root = scipy.linalg.sqrtm(sigma1.dot(sigma2))
    if not np.isfinite(root).all():
        offset = np.eye(sigma1.shape[0]) * 1e-6
        root = scipy.linalg.sqrtm((sigma1 + offset).dot(sigma2 + offset))
    return difference.dot(difference) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root.real)


def kid(x, y):
    """The unbiased estimate on all images."""
    m = len(x)
    within = [(k.sum() - np.trace(k)) / (m * (m - 1)) for k in (polynomial_kernel(s, degree=3, coef0=1) for s in (x, y))]
    return sum(within) - 2 * polynomial_kernel(x, y, degree=3, coef0=1).mean()


def inception_score(logits, order, splits=10, eps=1e-10):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True))[order]
    scores = []
    for i in range(splits):
        part = p[i * len(p) // splits:(i + 1) * len(p) // splits]
        mean = part.mean(0, keepdims=True)
        scores.append(np.exp((part * (np.log(part + eps) - np.log(mean + eps))).sum(1).mean()))
    return [np.mean(scores), np.std(scores)]


def radii(x, k):
    """Distance to the k-th other image."""
    return NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(x).kneighbors(x)[0][:, k]


def overlap(real, generated):
    distances = pairwise_distances(real, generated)
    real_3, generated_3, real_5 = radii(real, 3), radii(generated, 3), radii(real, 5)
    return {
        "precision": (distances <= real_3[:, None]).any(0).mean(),
        "recall": (distances <= generated_3[None, :]).any(1).mean(),
        "density": (distances < real_5[:, None]).sum(0).mean() / 5,
        "coverage": (distances.min(1) < real_5).mean(),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    load = lambda name: np.load(folder / f"{name}.npy").astype(np.float64)
    real, generated, logits = load("real"), load("generated"), load("logits")
    order = np.load(folder / "order.npy")
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (generated, real)]
    ours = np.load(folder / "ours.npz")
    # As pytorch-fid keeps statistics, and as the drifting paper's references are named.
    np.savez_compressed(folder / "theirs.npz", mu=moments[1][0], sigma=moments[1][1])
    narrow = {"ref_mu": moments[1][0].astype(np.float32), "ref_sigma": moments[1][1].astype(np.float32)}
    np.savez(folder / "narrow.npz", **narrow)
    figures = {
        "fd": frechet(*moments[0], *moments[1]),
        "fd_of_our_file": frechet(*moments[0], ours["mu"], ours["sigma"]),
        "kid": kid(generated, real),
        "is": inception_score(logits, order),
        **overlap(real, generated),
    }
    print(json.dumps(figures))


main()

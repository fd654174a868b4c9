"""Noise and style of `drifting`: ChaCha8 as a function of (seed, name, index), in NumPy.

The numbers are those of models/spec/src/random.rs, so that this server is asked for the same images as `drifting serve`. All blocks
of all images are computed together: a quarter round is one operation on a row of `[4, blocks]`.
"""

import functools

import numpy as np

CONSTANTS = np.frombuffer(b"expand 32-byte k", np.uint32)


@functools.cache
def name_words(name):
    """The words of the key that stand for a stream's name: FNV-1a and the length."""
    digest = 0xCBF29CE484222325
    for byte in name.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return np.array([digest, len(name), 0], np.uint64).view(np.uint32)


def blocks(rows, name, count):
    """`[rows, count, 16]` words of the streams `name` of `rows`, pairs of seed and index."""
    state = np.empty((16, len(rows), count), np.uint32)
    pairs = np.array(rows, np.uint64).view(np.uint32)
    state[0:4] = CONSTANTS[:, None, None]
    state[4:6] = pairs[:, 0:2].T[:, :, None]
    state[6:12] = name_words(name)[:, None, None]
    state[12] = np.arange(count, dtype=np.uint32)
    state[13] = 0
    state[14:16] = pairs[:, 2:4].T[:, :, None]
    work = state.reshape(4, 4, -1)
    a, b, c, d = work.copy()
    scratch = np.empty_like(a)
    for _ in range(4):
        quarter(a, b, c, d, scratch)
        b, c, d = b[[1, 2, 3, 0]], c[[2, 3, 0, 1]], d[[3, 0, 1, 2]]
        quarter(a, b, c, d, scratch)
        b, c, d = b[[3, 0, 1, 2]], c[[2, 3, 0, 1]], d[[1, 2, 3, 0]]
    out = np.stack((a, b, c, d))
    out += work
    return out.reshape(16, len(rows), count).transpose(1, 2, 0)


def quarter(a, b, c, d, scratch):
    for x, y, z, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        np.add(x, y, out=x)
        np.bitwise_xor(z, x, out=z)
        np.left_shift(z, bits, out=scratch)
        np.right_shift(z, 32 - bits, out=z)
        np.bitwise_or(z, scratch, out=z)


def integers(rows, name, count):
    """`[rows, count]` random 64-bit numbers."""
    words = blocks(rows, name, -(-count // 8))
    return np.ascontiguousarray(words).view(np.uint64).reshape(len(rows), -1)[:, :count]


def normals(rows, name, count):
    """`[rows, count]` standard normal numbers (Box-Muller; both values of a pair are used)."""
    uniform = (integers(rows, name, count + count % 2) >> 11) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform[:, 0::2]))
    angle = 2.0 * np.pi * uniform[:, 1::2]
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return pairs.reshape(len(rows), -1)[:, :count].astype(np.float32)


def below(rows, name, count, bound):
    """`[rows, count]` numbers of 0..bound: the upper half of a product of 128 bits."""
    numbers, bound = integers(rows, name, count), np.uint64(bound)
    low = (numbers & np.uint64(0xFFFFFFFF)) * bound >> np.uint64(32)
    return ((numbers >> np.uint64(32)) * bound + low >> np.uint64(32)).astype(np.int64)

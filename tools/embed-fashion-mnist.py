#!/usr/bin/env python3
"""Makes train/assets/fashion-mnist from the full Fashion-MNIST: the first 500 training and the first 100 test images of
each class, class by class, as idx files under the standard names.

The full set is Debian's package dataset-fashion-mnist; root is not needed:

    apt-get download dataset-fashion-mnist
    dpkg -x dataset-fashion-mnist_*.deb unpacked
    tools/embed-fashion-mnist.py unpacked/usr/share/datasets/fashion-mnist

The decoded bytes of the source are checked, and those of the result are printed: they are the checksums in
train/src/data/embedded.rs.
"""

import gzip
import hashlib
import pathlib
import struct
import sys

SOURCE = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
PER_CLASS = {"train": 500, "t10k": 100}
SIDE = 28
TARGET = pathlib.Path(__file__).resolve().parent.parent / "train" / "assets" / "fashion-mnist"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read(folder, name, header):
    data = gzip.decompress((folder / f"{name}.gz").read_bytes())
    if sha256(data) != SOURCE[name]:
        sys.exit(f"{folder / name}.gz: not the published Fashion-MNIST (SHA-256 {sha256(data)})")
    return data[header:]


def write(name, data):
    # No file name and no time in the gzip header: the same input gives the same file.
    (TARGET / f"{name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    print(sha256(data), name)


def embed(folder, part, per_class):
    images = read(folder, f"{part}-images-idx3-ubyte", 16)
    labels = read(folder, f"{part}-labels-idx1-ubyte", 8)
    chosen = [i for label in range(10) for i in [i for i, found in enumerate(labels) if found == label][:per_class]]
    size = SIDE * SIDE
    pixels = b"".join(images[i * size : (i + 1) * size] for i in chosen)
    write(f"{part}-images-idx3-ubyte", struct.pack(">IIII", 0x803, len(chosen), SIDE, SIDE) + pixels)
    write(f"{part}-labels-idx1-ubyte", struct.pack(">II", 0x801, len(chosen)) + bytes(labels[i] for i in chosen))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    TARGET.mkdir(parents=True, exist_ok=True)
    for part, per_class in PER_CLASS.items():
        embed(pathlib.Path(sys.argv[1]), part, per_class)


if __name__ == "__main__":
    main()

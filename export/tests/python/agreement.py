"""A model's outputs in onnxruntime, held against candle's. Needs numpy and any onnxruntime."""

import json

import numpy as np
import onnxruntime

TOLERANCE = 2e-5
DTYPES = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}


def read_safetensors(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def check_image(path, reference):
    """The largest difference from the reference's image, of all inputs at once and of the first alone."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {entry.name: reference[entry.name] for entry in session.get_inputs()}
    worst = 0.0
    for rows in (slice(None), slice(1)):
        (image,) = session.run(["image"], {name: value[rows] for name, value in inputs.items()})
        expected = reference["image"][rows]
        if image.shape != expected.shape:
            raise ValueError(f"image has shape {image.shape}, expected {expected.shape}")
        worst = max(worst, float(np.abs(image - expected).max()))
    allowed = TOLERANCE * max(1.0, float(np.abs(reference["image"]).max()))
    # Written so that a difference that is no number fails.
    if not worst <= allowed:
        raise ValueError(f"largest difference {worst:.3g}, allowed {allowed:.3g}")
    return worst

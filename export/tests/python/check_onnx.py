"""Checks exported models with Python's onnx and onnxruntime.

    check_onnx.py MODEL.onnx REFERENCE.safetensors [MODEL REFERENCE ...]

For each model: the full check of onnx.checker; every shape that the file declares equals the one that onnx infers; and
onnxruntime gives the reference's outputs for its inputs, all at once and the first alone, to 2e-5 (of the output's largest
number, if that is above 1; to one level where the output is made of bytes). Prints one line a model; the exit status is 1 if one of them fails.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 2e-5
BATCH = "batch"
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


def agrees(declared, inferred):
    """Whether a declared type is the inferred one. Behind a Resize, onnx knows the batch no more (it would be a symbol times
    1.0); there, and only for the batch, an unknown size agrees with the declared one."""
    if inferred is None or declared.tensor_type.elem_type != inferred.tensor_type.elem_type:
        return False
    ours, theirs = declared.tensor_type.shape.dim, inferred.tensor_type.shape.dim

    def same(a, b):
        lost = a.dim_param == BATCH and not b.HasField("dim_value") and b.dim_param != BATCH
        return a == b or lost

    return len(ours) == len(theirs) and all(map(same, ours, theirs))


def check_file(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    declared = {info.name: info.type for info in model.graph.value_info}
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    inferred = {info.name: info.type for info in inferred.graph.value_info}
    wrong = [name for name, kind in declared.items() if not agrees(kind, inferred.get(name))]
    if wrong:
        raise ValueError(f"declared shapes differ from the inferred ones: {wrong[:5]}")


def check_output(found, expected):
    """The largest difference in parts of what is allowed."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(f"{found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}")
    if found.dtype == np.uint8:
        return float(np.abs(found.astype(int) - expected.astype(int)).max())
    return float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max())) / TOLERANCE


def check_outputs(path, reference):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {entry.name: reference[entry.name] for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    left = set(reference) - set(inputs) - set(names)
    if left:
        raise ValueError(f"the file lacks the outputs {sorted(left)}")
    worst = 0.0
    for rows in (slice(None), slice(1)):
        found = session.run(names, {name: value[rows] for name, value in inputs.items()})
        for name, value in zip(names, found):
            share = check_output(value, reference[name][rows])
            # Written so that a difference that is no number fails.
            if not share <= 1.0:
                raise ValueError(f"{name}: the largest difference is {share:.3g} of what is allowed")
            worst = max(worst, share)
    return worst


def main(arguments):
    if not arguments or len(arguments) % 2:
        sys.exit(__doc__)
    failed = False
    for model, reference in zip(arguments[::2], arguments[1::2]):
        try:
            check_file(model)
            worst = check_outputs(model, read_safetensors(reference))
            print(f"{model}: passed, largest difference {worst:.3g} of what is allowed")
        except Exception as error:
            failed = True
            print(f"{model}: FAILED: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])

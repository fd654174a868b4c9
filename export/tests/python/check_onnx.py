"""Checks exported models with Python's onnx and onnxruntime.

    check_onnx.py MODEL.onnx REFERENCE.safetensors [MODEL REFERENCE ...]

For each model: the full check of onnx.checker; every shape that the file declares equals the one that onnx infers; and
onnxruntime gives the reference's outputs for its inputs, all at once and the first alone (or as often as a fixed batch
needs): to 2e-5 (of the output's largest number, if that is above 1; to one level where the output is made of bytes) in f32,
to 40 dB of the 8-bit image with 16-bit products, to 30 dB with 8-bit ones. In f32 a generator's image is the same bit for
bit alone and in every batch. bfloat16 is checked and not run: onnxruntime has no such products on a CPU. Prints one line a model; the exit
status is 1 if one of them fails.
"""

import sys

import numpy as np
import onnx
import onnxruntime

from agreement import TOLERANCE, read_safetensors

LEAST_PSNR = {"fp16": 40.0, "int8": 30.0}
BATCH = "batch"


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
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    declared = {info.name: info.type for info in model.graph.value_info}
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    inferred = {info.name: info.type for info in inferred.graph.value_info}
    wrong = [name for name, kind in declared.items() if not agrees(kind, inferred.get(name))]
    if wrong:
        raise ValueError(f"declared shapes differ from the inferred ones: {wrong[:5]}")
    return {entry.key: entry.value for entry in model.metadata_props}.get("drifting.profile")


def psnr(found, expected):
    """Of 8-bit images; of numbers against their range where the output is no picture."""
    if found.dtype == np.uint8:
        pair, peak = (found.astype(float), expected.astype(float)), 255
    elif found.ndim == 4 and found.shape[1] in (1, 3):
        pair, peak = [np.round((np.clip(numbers, -1, 1) + 1) / 2 * 255) for numbers in (found, expected)], 255
    else:
        pair, peak = (found, expected), float(expected.max() - expected.min())
    error = np.mean((pair[0] - pair[1]) ** 2)
    return 100.0 if error == 0 else float(10 * np.log10(peak**2 / error))


def check_output(found, expected, profile):
    """The difference in parts of what is allowed."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(f"{found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}")
    if profile in LEAST_PSNR:
        return 10 ** ((LEAST_PSNR[profile] - psnr(found, expected)) / 20) if np.isfinite(found).all() else np.inf
    if found.dtype == np.uint8:
        return float(np.abs(found.astype(int) - expected.astype(int)).max())
    return float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max())) / TOLERANCE


def check_outputs(path, reference, profile):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    inputs = {entry.name: reference[entry.name] for entry in session.get_inputs()}
    left = set(reference) - set(inputs) - set(names)
    if left:
        raise ValueError(f"the file lacks the outputs {sorted(left)}")
    count, batch = len(next(iter(inputs.values()))), session.get_inputs()[0].shape[0]
    fixed = isinstance(batch, int)
    choices = [np.arange(start, start + batch) % count for start in range(count)] if fixed else [np.arange(count), [0]]
    worst = 0.0
    for rows in choices:
        found = session.run(names, {name: value[rows] for name, value in inputs.items()})
        for name, value in zip(names, found):
            share = check_output(value, reference[name][rows], profile)
            # Written so that a difference that is no number fails.
            if not share <= 1.0:
                raise ValueError(f"{name}: the difference is {share:.3g} of what is allowed")
            worst = max(worst, share)
    if "noise" in inputs and not fixed and profile not in LEAST_PSNR:
        check_rows(session, names, inputs, count)
    return f"difference {worst:.3g} of what is allowed"


def check_rows(session, names, inputs, count):
    """Equal bits, whoever shares the batch."""
    def run(rows):
        return session.run(names, {name: value[rows] for name, value in inputs.items()})

    alone = [run([row]) for row in range(count)]
    for size in range(2, count + 1):
        for place, found in enumerate(zip(*run(range(size)))):
            if any(not np.array_equal(value, expected[0]) for value, expected in zip(found, alone[place])):
                raise ValueError(f"image {place} in a batch of {size} is not the one that it is alone")


def main(arguments):
    if not arguments or len(arguments) % 2:
        sys.exit(__doc__)
    failed = False
    for model, reference in zip(arguments[::2], arguments[1::2]):
        try:
            profile = check_file(model)
            found = "not run" if profile == "bf16" else check_outputs(model, read_safetensors(reference), profile)
            print(f"{model}: passed, {found}")
        except Exception as error:
            failed = True
            print(f"{model}: FAILED: {' '.join(str(error).split())}")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])

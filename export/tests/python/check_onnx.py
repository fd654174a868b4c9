"""Checks exported models with Python's onnx and onnxruntime.

    check_onnx.py MODEL.onnx REFERENCE.safetensors [MODEL REFERENCE ...]

For each model: the full check of onnx.checker; every shape that the file declares equals the one that onnx infers; and
onnxruntime gives the reference's image for its inputs, all at once and the first alone (or as often as a fixed batch needs):
to 2e-5 (of the largest number, if that is above 1) in f32, to 40 dB of the 8-bit image with 16-bit products, to 30 dB with
8-bit ones. bfloat16 is checked and not run: onnxruntime has no such products on a CPU. Prints one line a model; the exit
status is 1 if one of them fails.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 2e-5
LEAST_PSNR = {"fp16": 40.0, "int8": 30.0}
DTYPES = {"F32": np.float32, "I64": np.int64}


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


def check_file(path):
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    declared = {info.name: info.type for info in model.graph.value_info}
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    inferred = {info.name: info.type for info in inferred.graph.value_info}
    wrong = [name for name, kind in declared.items() if inferred.get(name) != kind]
    if wrong:
        raise ValueError(f"declared shapes differ from the inferred ones: {wrong[:5]}")
    return {entry.key: entry.value for entry in model.metadata_props}.get("drifting.profile")


def psnr(image, expected):
    levels = [np.round((np.clip(numbers, -1, 1) + 1) / 2 * 255) for numbers in (image, expected)]
    error = np.mean((levels[0] - levels[1]) ** 2)
    return 100.0 if error == 0 else 10 * np.log10(255**2 / error)


def check_image(path, reference, profile):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    count, batch = len(reference["image"]), session.get_inputs()[0].shape[0]
    fixed = isinstance(batch, int)
    choices = [np.arange(start, start + batch) % count for start in range(count)] if fixed else [np.arange(count), [0]]
    worst, least, largest = 0.0, 100.0, max(1.0, float(np.abs(reference["image"]).max()))
    for rows in choices:
        inputs = {entry.name: reference[entry.name][rows] for entry in session.get_inputs()}
        (image,) = session.run(["image"], inputs)
        expected = reference["image"][rows]
        if image.shape != expected.shape or not np.isfinite(image).all():
            raise ValueError(f"image of shape {image.shape}, expected finite numbers of shape {expected.shape}")
        worst = max(worst, float(np.abs(image - expected).max()) / largest)
        least = min(least, float(psnr(image, expected)))
    if profile in LEAST_PSNR:
        if least < LEAST_PSNR[profile]:
            raise ValueError(f"{least:.1f} dB from the reference, at least {LEAST_PSNR[profile]} are needed")
        return f"{least:.1f} dB"
    if worst > TOLERANCE:
        raise ValueError(f"largest difference {worst:.3g}, allowed {TOLERANCE:.3g}")
    return f"largest difference {worst:.3g}"


def main(arguments):
    if not arguments or len(arguments) % 2:
        sys.exit(__doc__)
    failed = False
    for model, reference in zip(arguments[::2], arguments[1::2]):
        try:
            profile = check_file(model)
            found = "not run" if profile == "bf16" else check_image(model, read_safetensors(reference), profile)
            print(f"{model}: passed, {found}")
        except Exception as error:
            failed = True
            print(f"{model}: FAILED: {' '.join(str(error).split())}")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Checks exported models with Python's onnx and onnxruntime.

    check_onnx.py MODEL.onnx REFERENCE.safetensors [MODEL REFERENCE ...]

For each model: the full check of onnx.checker; every shape that the file declares equals the one that onnx infers; and
onnxruntime gives the reference's image for its inputs, all at once and the first alone, to 1e-4 (of the largest number,
if that is above 1). Prints one line a model; the exit status is 1 if one of them fails.
"""

import sys

import onnx

from agreement import check_image, read_safetensors


def check_file(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    declared = {info.name: info.type for info in model.graph.value_info}
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    inferred = {info.name: info.type for info in inferred.graph.value_info}
    wrong = [name for name, kind in declared.items() if inferred.get(name) != kind]
    if wrong:
        raise ValueError(f"declared shapes differ from the inferred ones: {wrong[:5]}")


def main(arguments):
    if not arguments or len(arguments) % 2:
        sys.exit(__doc__)
    failed = False
    for model, reference in zip(arguments[::2], arguments[1::2]):
        try:
            check_file(model)
            worst = check_image(model, read_safetensors(reference))
            print(f"{model}: passed, largest difference {worst:.3g}")
        except Exception as error:
            failed = True
            print(f"{model}: FAILED: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])

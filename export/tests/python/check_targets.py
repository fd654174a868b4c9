"""Checks folders for other servers, as `drifting export --target` writes them.

    check_targets.py FOLDER [FOLDER ...]

Every config.pbtxt is parsed with Triton's own message (from the package tritonclient) and held against the ONNX files of its
version folders: names, types and shapes, the manifest; and onnxruntime runs every batch size that the warm-up asks for, on
inputs reshaped as Triton would. Every inferenceservice.yaml is parsed and must have exactly the keys that a service of Triton
needs. Prints one line a file; the exit status is 1 if one of them fails.
"""

import importlib.util
import pathlib
import re
import sys

import numpy as np
import onnx
import onnxruntime
import yaml
from google.protobuf import text_format


def triton_messages():
    # By its path: the package around it wants grpc.
    package = pathlib.Path(importlib.util.find_spec("tritonclient").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("model_config_pb2", package / "grpc" / "model_config_pb2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRITON = triton_messages()
TYPES = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.INT64: "TYPE_INT64", onnx.TensorProto.UINT8: "TYPE_UINT8"}
NUMPY = {"TYPE_FP32": np.float32, "TYPE_INT64": np.int64, "TYPE_UINT8": np.uint8}
# Those that the ONNX Runtime backend passes on.
OPTIONS = {
    "precision_mode", "trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix",
    "trt_profile_max_shapes", "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_timing_cache_enable",
    "trt_timing_cache_path",
}
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": str, "annotations": {"drifting/model-sha256": str}},
    "spec": {"predictor": {"model": {
        "modelFormat": {"name": "triton"},
        "protocolVersion": "v2",
        "runtime": "kserve-tritonserver",
        "storageUri": str,
        "resources": {"requests": {"cpu": str, "memory": str}, "limits": {"cpu": str, "memory": str}},
    }}},
}


def require(holds, problem):
    if not holds:
        raise ValueError(problem)


def kind(port):
    return TRITON.DataType.Name(port.data_type)


def inner(port):
    """The shape behind the batch that the model is given."""
    if not port.HasField("reshape"):
        return list(port.dims)
    shape = list(port.reshape.shape)
    require(np.prod(port.dims, dtype=int) == np.prod(shape, dtype=int), f"{port.name}: {port.dims} is not {shape}")
    return shape


def check_ports(config, graph):
    for ours, theirs in ((config.input, graph.input), (config.output, graph.output)):
        found = [(port.name, kind(port), inner(port)) for port in ours]
        expected = []
        for value in theirs:
            tensor = value.type.tensor_type
            require(tensor.shape.dim[0].dim_param, f"{value.name} has no symbolic batch")
            expected.append((value.name, TYPES[tensor.elem_type], [dim.dim_value for dim in tensor.shape.dim[1:]]))
        require(found == expected, f"{found} instead of {expected}")
        require(all(port.dims for port in ours), "Triton wants dimensions behind the batch")


def check_tensorrt(config, batches):
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    for accelerator in accelerators:
        require(accelerator.name == "tensorrt", accelerator.name)
        options = dict(accelerator.parameters)
        require(set(options) == OPTIONS, f"options {sorted(set(options) ^ OPTIONS)}")
        for which, batch in (("min", 1), ("opt", batches[-1]), ("max", batches[-1])):
            shapes = ",".join(":".join((p.name, "x".join(map(str, [batch] + inner(p))))) for p in config.input)
            found = options[f"trt_profile_{which}_shapes"]
            require(found == shapes, f"{found} instead of {shapes}")
    gpu = TRITON.ModelInstanceGroup.KIND_GPU
    require(not accelerators or all(group.kind == gpu for group in config.instance_group), "TensorRT without a GPU")


def check_warm_up(config, batches, session):
    require([sample.batch_size for sample in config.model_warmup] == batches, "a batch size is not warmed up")
    for sample in config.model_warmup:
        feed = {}
        for port in config.input:
            given = sample.inputs[port.name]
            require((given.data_type, list(given.dims)) == (port.data_type, list(port.dims)), port.name)
            require(given.WhichOneof("input_data_type") in ("random_data", "zero_data"), port.name)
            feed[port.name] = np.zeros([sample.batch_size] + inner(port), NUMPY[kind(port)])
        require(set(sample.inputs) == set(feed), f"inputs {set(sample.inputs)}")
        images = session.run([port.name for port in config.output], feed)
        for port, image in zip(config.output, images):
            require(list(image.shape) == [sample.batch_size] + inner(port), f"{port.name} is {image.shape}")
            require(image.dtype == NUMPY[kind(port)], f"{port.name} is {image.dtype}")


def check_config(path):
    config = text_format.Parse(path.read_text(encoding="ascii"), TRITON.ModelConfig())
    require(config.name == path.parent.name, f"{config.name} lies in {path.parent.name}")
    require(config.backend == "onnxruntime", config.backend)
    batches = list(config.dynamic_batching.preferred_batch_size)
    require(batches and batches[-1] == config.max_batch_size, f"{batches} up to {config.max_batch_size}")
    check_tensorrt(config, batches)
    versions = [folder for folder in path.parent.iterdir() if folder.is_dir()]
    require(versions and all(re.fullmatch("[1-9][0-9]*", folder.name) for folder in versions), f"versions {versions}")
    for folder in versions:
        file = str(folder / config.default_model_filename)
        model = onnx.load(file)
        check_ports(config, model.graph)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        check_warm_up(config, batches, session)
    newest = max(versions, key=lambda folder: int(folder.name))
    model = onnx.load(str(newest / config.default_model_filename))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    found = config.parameters["drifting.manifest"].string_value
    require(found == metadata["drifting.manifest"], "another manifest than the newest model's")
    return f"{len(versions)} versions, batches {batches}"


def fits(found, expected, place):
    if isinstance(expected, dict):
        optional = {"nvidia.com/gpu"} if place.endswith(".limits") else set()
        require(isinstance(found, dict) and set(found) - optional == set(expected), f"{place}: {found}")
        for key, value in expected.items():
            fits(found[key], value, f"{place}.{key}")
    elif isinstance(expected, type):
        require(isinstance(found, expected) and found, f"{place}: {found!r}")
    else:
        require(found == expected, f"{place}: {found!r} instead of {expected!r}")


def check_service(path):
    service = yaml.safe_load(path.read_text(encoding="utf-8"))
    fits(service, SERVICE, "service")
    name = service["metadata"]["name"]
    require(re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name), name)
    require((path.parent / "models" / name / "config.pbtxt").is_file(), f"no model {name} beside it")
    model = service["spec"]["predictor"]["model"]
    return f"{model['storageUri']}, gpu {model['resources']['limits'].get('nvidia.com/gpu')}"


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    failed = False
    for folder in arguments:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            check = {"config.pbtxt": check_config, "inferenceservice.yaml": check_service}.get(path.name)
            if check is None:
                continue
            try:
                print(f"{path}: passed, {check(path)}")
            except Exception as error:
                failed = True
                print(f"{path}: FAILED: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Times the spellings of GroupNorm and of doubled sides that engines could be given, in ONNX Runtime on one thread.

    python=$(tools/python-venv export/tests/python/requirements.txt)
    $python export/benches/spelling.py

Prints milliseconds of processor time, the least of twenty runs, and the largest difference from the first spelling. The shapes
are those of the decoder of Stable Diffusion at 256x256 pixels, with 32 groups.
"""

import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RUNS = 20
EPSILON = np.float32(1e-6)


class Graph:
    """Nodes with one output each."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, *inputs, **attributes):
        name = f"{op}{len(self.nodes)}"
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def session(self, output, inside, outside):
        self.nodes.append(helper.make_node("Identity", [output], ["y"], "last"))
        tensors = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("x", inside), ("y", outside))
        ]
        graph = helper.make_graph(self.nodes, "g", tensors[:1], tensors[1:], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def normalised(g, groups, length):
    """(x - mean) / root of each group, spelled as ONNX Runtime's LayerNormalization is."""
    x = g.node("Reshape", "x", np.array([0, groups, length]))
    centred = g.node("Sub", x, g.node("ReduceMean", x, axes=[2]))
    variance = g.node("ReduceMean", g.node("Pow", centred, np.float32(2)), axes=[2])
    return g.node("Div", centred, g.node("Sqrt", g.node("Add", variance, EPSILON)))


def norm(kind, groups, shape, gain, bias):
    channels, height, width = shape
    g, inner = Graph(), channels // groups
    length = inner * height * width
    if kind in ("product", "product, Pow"):
        x = g.node("Reshape", "x", np.array([0, groups, inner, height * width]))
        centred = g.node("Sub", x, g.node("ReduceMean", x, axes=[2, 3]))
        square = g.node("Mul", centred, centred) if kind == "product" else g.node("Pow", centred, np.float32(2))
        root = g.node("Sqrt", g.node("Add", g.node("ReduceMean", square, axes=[2, 3]), EPSILON))
        factor = g.node("Div", gain.reshape(groups, inner, 1), root)
        y = g.node("Add", g.node("Mul", centred, factor), bias.reshape(groups, inner, 1))
        return g.session(g.node("Reshape", y, np.array([0, *shape])), shape, shape)
    if kind == "InstanceNormalization":
        x = g.node("Reshape", "x", np.array([0, groups, length]))
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        y = g.node(kind, x, ones, zeros, epsilon=float(EPSILON))
    else:
        y = normalised(g, groups, length)
        if kind == "LayerNormalization":  # by fusion, which wants a gain and a bias
            y = g.node("Mul", y, np.ones(length, np.float32))
            y = g.node("Add", y, np.zeros(length, np.float32))
    y = g.node("Reshape", y, np.array([0, *shape]))
    y = g.node("Mul", y, gain.reshape(channels, 1, 1))
    return g.session(g.node("Add", y, bias.reshape(channels, 1, 1)), shape, shape)


def doubled(kind, shape):
    channels, height, width = shape
    g, larger = Graph(), (channels, 2 * height, 2 * width)
    if kind == "Resize":
        scales = np.array([1, 1, 2, 2], np.float32)
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return g.session(g.node("Resize", "x", "", scales, **attributes), shape, larger)
    x = g.node("Reshape", "x", np.array([0, channels, height, 1, width, 1]))
    x = g.node("Expand", x, np.array([1, 1, 1, 2, 1, 2]))
    return g.session(g.node("Reshape", x, np.array([0, *larger])), shape, larger)


def compare(title, shape, sessions):
    x = np.random.default_rng(1).normal(1, 3, (1, *shape)).astype(np.float32)
    times = {kind: float("inf") for kind in sessions}
    results = {}
    for _ in range(RUNS):
        for kind, session in sessions.items():
            start = time.thread_time()
            (results[kind],) = session.run(None, {"x": x})
            times[kind] = min(times[kind], time.thread_time() - start)
    first = next(iter(results.values()))
    for kind, result in results.items():
        print(f"{title} {'x'.join(map(str, shape)):>12} {kind:22} {times[kind] * 1e3:8.2f} ms {np.abs(result - first).max():.0e}")


def main():
    kinds = ["division", "LayerNormalization", "product, Pow", "product", "InstanceNormalization"]
    for shape in ((512, 32, 32), (256, 128, 128), (128, 256, 256)):
        random = np.random.default_rng(0)
        gain = random.normal(1, 0.1, shape[0]).astype(np.float32)
        bias = random.normal(0, 0.1, shape[0]).astype(np.float32)
        compare("GroupNorm", shape, {kind: norm(kind, 32, shape, gain, bias) for kind in kinds})
    for shape in ((512, 32, 32), (256, 64, 64)):
        compare("doubled  ", shape, {kind: doubled(kind, shape) for kind in ("Resize", "Expand")})


if __name__ == "__main__":
    main()

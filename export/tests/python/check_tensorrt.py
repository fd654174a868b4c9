"""Gives exported models to TensorRT's own parser and builder. Neither a GPU nor a driver is needed.

    check_tensorrt.py MODEL.onnx [MODEL ...] [--batches MIN,OPT,MAX] [--engine FOLDER]

For each model: the parser reads the file (with its external data), the inputs and outputs are those that the file
declares, the network is strongly typed, and the builder makes an engine for the batches MIN to MAX (1,4,8 unless given).
Prints one line a model: layers by type of their results, size of the engine, seconds, and the peak of the process's
memory so far. The exit status is 1 if one model is refused. `--engine` keeps the engines.

TensorRT-RTX comes from pip as libraries; the numbers of an engine can only be seen on an NVIDIA GPU.
"""

import argparse
import collections
import pathlib
import re
import sys
import time

import tensorrt_rtx_bindings as tensorrt


class Logger(tensorrt.ILogger):
    """Keeps what TensorRT complains about."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def log(self, severity, message):
        if severity <= tensorrt.ILogger.ERROR:
            self.errors.append(message)


def check(path, batches, logger):
    """Parses and builds one model; returns the serialized engine and the layers by type of their first result."""
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        problems = [parser.get_error(i) for i in range(parser.num_errors)]
        raise ValueError("the parser refuses it: " + "; ".join(f"{p.node_name()}: {p.desc()}" for p in problems))
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = collections.Counter(layer.get_output(0).dtype.name for layer in layers if layer.num_outputs)

    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        entry = network.get_input(i)
        rest = tuple(entry.shape)[1:]
        if -1 in rest:
            raise ValueError(f"input {entry.name} is {tuple(entry.shape)}: only the batch may be open")
        if entry.shape[0] == -1:
            profile.set_shape(entry.name, *((batch, *rest) for batch in batches))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError("the builder refuses it: " + "; ".join(logger.errors[-3:]))
    return engine, types


def peak():
    """The most memory that this process has held, in MiB. The kernel's `ru_maxrss` counts the parent's too."""
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text()).group(1)) // 1024


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="+", type=pathlib.Path)
    arguments.add_argument("--batches", default="1,4,8", help="smallest, usual and largest batch")
    arguments.add_argument("--engine", type=pathlib.Path, metavar="FOLDER")
    arguments = arguments.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(",")]
    print(f"TensorRT-RTX {tensorrt.__version__}, batches {batches}")
    failed = False
    for path in arguments.models:
        logger, started = Logger(), time.perf_counter()
        try:
            engine, types = check(path, batches, logger)
        except Exception as error:
            failed = True
            print(f"{path}: REFUSED: {error}")
            continue
        seconds = time.perf_counter() - started
        kinds = ", ".join(f"{count} {name}" for name, count in types.most_common())
        size = engine.nbytes / 2**20
        print(f"{path}: accepted, layers {kinds}; engine {size:.1f} MiB in {seconds:.1f} s, peak {peak()} MiB")
        if arguments.engine:
            arguments.engine.mkdir(parents=True, exist_ok=True)
            (arguments.engine / f"{path.stem}.engine").write_bytes(engine)
    sys.exit(failed)


if __name__ == "__main__":
    main()

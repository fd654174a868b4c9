"""Races an exported generator against the same network exported by PyTorch, in ONNX Runtime on the CPU.

    cargo run --release -p drifting-export --example random_models -- target/race latent-b2
    python=$(tools/python-venv export/benches/requirements.txt target/python-race)       # PyTorch: 5 GB
    $python export/benches/race.py target/race/latent-b2.weights.safetensors target/race/latent-b2.*.onnx

The twin (twin.py) gets the same weights and is exported by torch.onnx.export, once for the opset that it chooses itself and
once for opset 23, where attention and norms are operators; each of these also goes through ONNX Runtime's transformer
optimizer. Every file must give the twin's image to 1e-4. Then they run in turn, each in a process of its own that sleeps
while the others run, with the same settings; a round is one turn of all. The ratio of a round is the time of the best
of PyTorch's files over that of ours; what is reported is the median over the rounds. At last ONNX Runtime's own profiler
tells where the time goes.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

TOLERANCE = 1e-4


def inputs(batch, config):
    """Seeded noise, style, class and alpha."""
    rng, image = np.random.default_rng(batch), config["image"]
    return {
        "noise": rng.standard_normal((batch, image["channels"], image["height"], image["width"])).astype(np.float32),
        "style": rng.integers(0, config["style_codes"], (batch, config["style_tokens"])),
        "class": rng.integers(0, config["classes"], batch),
        "alpha": rng.uniform(1.0, 3.0, batch).astype(np.float32),
    }


def session(path, threads, profile=None):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def manifest(path):
    """The generator's settings in the metadata of our file."""
    metadata = session(path, 1).get_modelmeta().custom_metadata_map
    return json.loads(metadata["drifting.manifest"])["generator"]


def export_twin(weights, config, folder):
    """Writes PyTorch's files into `folder`, and the twin's images of batch 1 and 8 as what all must agree with."""
    import safetensors.torch
    import torch
    import twin

    model = twin.load(config, safetensors.torch.load_file(weights))
    for batch in (1, 8):
        values = [torch.from_numpy(value) for value in inputs(batch, config).values()]
        with torch.no_grad():
            np.save(folder / f"expected{batch}.npy", model(*values).numpy())
    example = tuple(torch.from_numpy(value) for value in inputs(2, config).values())
    batch = torch.export.Dim("batch", min=1, max=64)
    for name, opset in (("torch", None), ("torch-23", 23)):
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            opset_version=opset,
            input_names=["noise", "style", "class", "alpha"],
            output_names=["image"],
            dynamic_shapes=({0: batch},) * 4,
            verbose=False,
        )
        program.save(folder / f"{name}.onnx", external_data=False)
        optimize(folder / f"{name}.onnx", folder / f"{name}-optimized.onnx", config)


def optimize(source, target, config):
    """ONNX Runtime's transformer optimizer, with the kind of model that is nearest: a vision transformer."""
    from onnxruntime.transformers import optimizer

    try:
        model = optimizer.optimize_model(
            str(source), model_type="vit", num_heads=config["heads"], hidden_size=config["hidden"], opt_level=0
        )
        model.save_model_to_file(str(target))
        print(f"{target.name}: fused {model.get_fused_operator_statistics()}")
    except Exception as error:
        print(f"{source.name}: the transformer optimizer fails: {error}")


def worker(path, config, threads):
    """Answers `BATCH RUNS` on standard input with the fastest of the runs, in seconds; the first answer is a check."""
    config = json.loads(config)
    engine = session(path, threads)
    for line in sys.stdin:
        batch, runs = map(int, line.split())
        values = inputs(batch, config)
        feed = {entry.name: values[entry.name] for entry in engine.get_inputs()}
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            (image,) = engine.run(["image"], feed)
            times.append(time.perf_counter() - started)
        expected = np.load(pathlib.Path(path).parent / f"expected{batch}.npy")
        print(json.dumps([min(times), float(np.abs(image - expected).max())]), flush=True)


class Racer:
    """One file in a process of its own."""

    def __init__(self, path, config, threads):
        command = [sys.executable, __file__, "--worker", str(path), json.dumps(config), str(threads)]
        self.name = path.stem
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, batch, runs):
        print(batch, runs, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} failed")
        seconds, difference = json.loads(answer)
        if not difference <= TOLERANCE:
            raise SystemExit(f"{self.name} differs from the twin by {difference:.2e} at batch {batch}")
        return seconds, difference


def race(racers, batch, rounds, runs):
    """Seconds of each racer in each round; the order turns around from round to round."""
    differences = {racer.name: racer.turn(batch, 1)[1] for racer in racers}
    times = {racer.name: [] for racer in racers}
    for number in range(rounds):
        for racer in racers if number % 2 == 0 else reversed(racers):
            # Threads of the last one spin for a moment before they sleep.
            time.sleep(0.1)
            times[racer.name].append(racer.turn(batch, runs)[0])
    return times, differences


def report(times, differences, batch):
    """Prints a table and returns, for each of ours, the ratio to the best of PyTorch's by the medians of the ratios."""
    peers = [name for name in times if name.startswith("torch")]
    print(f"\n| batch {batch} | median ms | fastest ms | differs by | " + " | ".join(f"{p} / it" for p in peers) + " |")
    print("|---" * (4 + len(peers)) + "|")
    ratios = {}
    for name, own in times.items():
        ratio = {peer: statistics.median(p / o for p, o in zip(times[peer], own)) for peer in peers}
        ratios[name] = ratio
        cells = " | ".join(f"{ratio[peer]:.3f}" for peer in peers)
        row = f"{statistics.median(own) * 1e3:.1f} | {min(own) * 1e3:.1f} | {differences[name]:.1e}"
        print(f"| {name} | {row} | {cells} |", flush=True)
    return ratios


def profile(path, config, batch, threads, runs):
    """Milliseconds by operator: each node at the fastest of its runs, which other work on the machine disturbs least."""
    engine = session(path, threads, path.parent / "profile")
    values = inputs(batch, config)
    for _ in range(runs):
        engine.run(["image"], {entry.name: values[entry.name] for entry in engine.get_inputs()})
    trace = engine.end_profiling()
    events = [e for e in json.loads(pathlib.Path(trace).read_text()) if e["name"].endswith("_kernel_time")]
    os.remove(trace)
    fastest, kinds = {}, {}
    for event in events:
        shapes = [list(entry.values())[0] for entry in event["args"]["input_type_shape"]]
        kind = event["args"]["op_name"]
        # A product with a weight is a linear layer; the other products are attention.
        kinds[event["name"]] = "linear" if kind in ("MatMul", "Gemm") and len(shapes[0]) < 4 else kind
        fastest[event["name"]] = min(fastest.get(event["name"], float("inf")), event["dur"] / 1e3)
    total = collections.Counter()
    for name, duration in fastest.items():
        total[kinds[name]] += duration
    rest = sum(value for kind, value in total.items() if kind != "linear")
    others = ", ".join(f"{kind} {value:.1f}" for kind, value in total.most_common(12) if kind != "linear")
    print(f"| {path.stem} | {total['linear']:.1f} | {rest:.1f} | {others} |", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("weights", type=pathlib.Path)
    arguments.add_argument("models", nargs="+", type=pathlib.Path, help="files of drifting, all in one folder")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batches", default="1,8")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--runs", type=int, default=3, help="runs of a turn, of which the fastest counts")
    arguments.add_argument("--profile-runs", type=int, default=12)
    arguments = arguments.parse_args()
    import onnxruntime
    import torch

    folder, config = arguments.models[0].parent, manifest(arguments.models[0])
    print(f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, {arguments.threads} threads")
    if not (folder / "torch-23.onnx").exists():
        export_twin(arguments.weights, config, folder)
    paths = arguments.models + sorted(folder.glob("torch*.onnx"))
    racers = [Racer(path, config, arguments.threads) for path in paths]
    results = {"load before": os.getloadavg()}
    for batch in map(int, arguments.batches.split(",")):
        times, differences = race(racers, batch, arguments.rounds, arguments.runs)
        report(times, differences, batch)
        results[f"batch {batch}"] = times
    results["load after"] = os.getloadavg()
    (folder / "race.json").write_text(json.dumps(results))
    print(f"\nload {results['load before'][0]:.1f} to {results['load after'][0]:.1f}; all times in {folder}/race.json")
    for racer in racers:
        racer.process.stdin.close()
        racer.process.wait()
    for batch in map(int, arguments.batches.split(",")) if arguments.profile_runs else []:
        print(f"\n| batch {batch}, one thread, fastest of each node | linear ms | rest ms | of this |\n|---|---|---|---|")
        for path in paths:
            profile(path, config, batch, 1, arguments.profile_runs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()

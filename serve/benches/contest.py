"""What the measurements of servers share: contestants that are started once, and `drifting load` as their client."""

import json
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request


def add_arguments(parser):
    """Flags that every measurement has."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--drifting", default=target / "release/drifting", help="the built command")
    parser.add_argument("--model", default="fashion", help="an exported file, or a model that comes with the program")
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--serve", default="", help="more flags of `drifting serve`")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="that compute a batch")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--classes", default="0,1,2,3")
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--window", type=float, default=2)
    parser.add_argument("--seconds", type=float, default=10)


def model_file(args):
    """The file that is measured; a shipped model is exported."""
    model = pathlib.Path(args.model)
    if model.is_file():
        return model
    model = pathlib.Path(f"{args.out}.onnx")
    model.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([args.drifting, "export", args.model, "--out", model], check=True, stderr=subprocess.DEVNULL)
    return model


def serve_command(args, model):
    shared = ["--threads", args.threads, "--max-batch", args.max_batch]
    return [args.drifting, "serve", model, "--engine", "onnxruntime", *shared, *args.serve.split()]


class Server:
    """A server that is ready."""

    def __init__(self, name, command, log):
        self.name, port = name, free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.log = open(log, "w")
        command = [*map(str, command), "--port", str(port)]
        environment = {**os.environ, "RUST_LOG": "warn"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        until = time.monotonic() + 300
        while not self.lives():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                sys.exit(f"{name} does not start: {pathlib.Path(log).read_text()}")
            time.sleep(0.1)

    def lives(self):
        try:
            return urllib.request.urlopen(f"{self.address}/healthz", timeout=5).status == 200
        except OSError:
            return False

    def get(self, path):
        return urllib.request.urlopen(f"{self.address}{path}", timeout=300).read()

    def image(self, query):
        request = urllib.request.Request(f"{self.address}/generate?{query}", method="POST")
        return urllib.request.urlopen(request, timeout=300).read()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def load(args, server, *flags):
    """What `drifting load` measures."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "load.json")
        windows = ["--warm-up", args.warm_up, "--window", args.window, "--seconds", args.seconds]
        windows += ["--class", args.classes, "--most-open", 4096]
        command = [args.drifting, "load", server.address, "--json", report, *windows, *flags]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{server.name}: {done.stderr}")
        (point,) = json.loads(report.read_text())["points"]
        return point


def failed(point):
    return sum(error["count"] for error in point["errors"])


def median(numbers):
    return statistics.median(list(numbers))


def machine():
    try:
        models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    except OSError:
        models = []
    return f"{os.cpu_count()} processors, {models[0] if models else platform.processor()}"


def write(args, markdown, **results):
    """FILE.json with everything, FILE.md with the table."""
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(args).items()}
    results = {"settings": settings, "machine": machine(), **results}
    out.with_name(f"{out.name}.json").write_text(json.dumps(results, indent=1) + "\n")
    out.with_name(f"{out.name}.md").write_text(markdown)
    print(f"\n{markdown}")

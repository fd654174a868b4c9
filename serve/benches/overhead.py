"""What HTTP costs: `drifting serve` under `drifting load` against the bare session of `drifting bench`, in one run.

    cargo build --release --workspace
    python3 serve/benches/overhead.py --model fashion --out target/overhead-fashion --threads 1
    python3 serve/benches/overhead.py --model b2.onnx --out target/overhead-b2 --window 5 --seconds 30

Each round measures the bare session with batches of one and of the server's largest, then the server with one client, and
with four for each image of that batch. Server and client share the machine: with --threads on all processors, what the
client takes is missing. Reported are medians over the rounds of

1. images/s over HTTP, as a share of the bare session's at the same batch size;
2. the median of one client's requests, less the bare session's median and less the mean time of encoding an image.

Written are FILE.json (everything) and FILE.md (the table).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import contest
from contest import Server, failed, load, median


def bare(args, model, batches):
    """Images/s and median milliseconds by batch size."""
    flags = ["--threads", args.threads, "--engine", "onnxruntime", "--warm-up", args.warm_up, "--window", args.window]
    flags += ["--windows", max(3, int(args.seconds / args.window)), "--batches", ",".join(map(str, batches)), "--json"]
    command = list(map(str, [args.drifting, "bench", model, *flags]))
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    points = json.loads(done.stdout)["points"]
    return {point["batch"]: {"images_per_second": point["images_per_second"], **point["latency"]} for point in points}


def encoding(server):
    """Seconds and number of the images that were encoded so far."""
    lines = server.get("/metrics").decode().splitlines()
    value = lambda name: float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])
    return [value(f"drift_encode_seconds_{name}") for name in ("sum", "count")]


def measured(args, model, server):
    batch = max(json.loads(server.get("/info"))["limits"]["batch_sizes"])
    session = bare(args, model, sorted({1, batch}))
    before = encoding(server)
    one = load(args, server, "--concurrency", 1)
    seconds, images = (after - earlier for after, earlier in zip(encoding(server), before))
    full = load(args, server, "--concurrency", 4 * batch)
    if failed(one) or failed(full):
        sys.exit(f"requests failed: {one['errors']} {full['errors']}")
    encode = 1e3 * seconds / images
    return {
        "batch": batch,
        "bare_images_per_second": session[batch]["images_per_second"],
        "http_images_per_second": full["images_per_second"],
        "http_batch": full["batch"],
        "share": full["images_per_second"] / session[batch]["images_per_second"],
        "bare_ms": session[1]["p50"],
        "http_ms": one["latency"]["p50"],
        "compute_ms": one["compute"]["p50"],
        "encode_ms": encode,
        "added_ms": one["latency"]["p50"] - session[1]["p50"] - encode,
    }


def table(rounds):
    value = {key: median(found[key] for found in rounds) for key in rounds[0]}
    rows = [
        (f"bare session, batches of {value['batch']:.0f}, images/s", "bare_images_per_second", ".1f"),
        ("over HTTP, saturated, images/s", "http_images_per_second", ".1f"),
        ("its mean batch", "http_batch", ".2f"),
        ("share of the bare session", "share", ".3f"),
        ("bare session, one image, ms", "bare_ms", ".3f"),
        ("over HTTP, one client, ms", "http_ms", ".3f"),
        ("of that, in the engine, ms", "compute_ms", ".3f"),
        ("of that, encoding, ms", "encode_ms", ".3f"),
        ("added besides, ms", "added_ms", ".3f"),
    ]
    return "| | median |\n|---|---|\n" + "".join(f"| {name} | {value[key]:{form}} |\n" for name, key, form in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contest.add_arguments(parser)
    args = parser.parse_args()
    model = contest.model_file(args)
    with tempfile.TemporaryDirectory() as logs:
        server = Server("drifting", contest.serve_command(args, model), pathlib.Path(logs, "log"))
        try:
            rounds = []
            for turn in range(args.rounds):
                rounds.append(measured(args, model, server))
                found = rounds[-1]
                print(f"round {turn + 1}: share {found['share']:.3f}, added {found['added_ms']:.3f} ms", flush=True)
        finally:
            server.stop()
    contest.write(args, table(rounds), rounds=rounds)


if __name__ == "__main__":
    main()

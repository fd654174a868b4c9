"""Races `drifting serve` against the hand-written server in `peer/`, with `drifting load` as the client of both.

    cargo build --release --workspace
    python=$(tools/python-venv serve/benches/peer/requirements.txt target/python-peer)
    $python serve/benches/race.py --model fashion --out target/race-fashion
    $python serve/benches/race.py --model b2.onnx --out target/race-b2 --window 5 --seconds 30

All servers have the same model file, threads and largest batch. They are started once and asked in turn, beginning with
another one in each round; who is not asked sleeps. Before anything is measured, all of them must give the same pixels.

1. Closed loop: images/s by the number of clients.
2. Open loop at half of what the slower of ours and the best other answers when saturated: p99, counted from when a
   request was due.

Every round gives a ratio of ours to the best of the others in that round; what is reported is the median over the
rounds. Written are FILE.json (everything), FILE.csv (a line for each measurement) and FILE.md (the table).
"""

import argparse
import csv
import io
import pathlib
import sys
import tempfile

import contest
import numpy as np
from contest import Server, failed, load, median
from PIL import Image

PEER = pathlib.Path(__file__).parent / "peer/server.py"
OURS = "drifting"
PEERS = {
    "plain": ["--variant", "plain"],
    "batching": ["--variant", "batching"],
    "plain-numpy": ["--variant", "plain", "--noise", "numpy"],
    "batching-numpy": ["--variant", "batching", "--noise", "numpy"],
}
COLUMNS = "round server clients rate requests_per_second images_per_second p50_ms p99_ms batch refused errors"


def rotated(things, by):
    by %= len(things)
    return things[by:] + things[:by]


def same_pixels(servers):
    """All give the same images, but for those with noise of their own."""
    for query in ("class=3&alpha=1.5&seed=7&n=1", "class=0&seed=18446744073709551615&n=5"):
        pictures = [np.asarray(Image.open(io.BytesIO(server.image(query)))).astype(int) for server in servers]
        for server, picture in zip(servers, pictures):
            if picture.shape != pictures[0].shape:
                sys.exit(f"{server.name} answers with {picture.shape}, not {pictures[0].shape}")
            difference = np.abs(picture - pictures[0]).max()
            if difference > 1 and not server.name.endswith("numpy"):
                sys.exit(f"{server.name}: a pixel of {query} differs by {difference} levels")


def measured(args, servers, flag, values):
    """Every server under every load, round by round."""
    for turn in range(args.rounds):
        for value in values:
            for server in rotated(servers, turn):
                point = {"round": turn, "server": server.name, **load(args, server, flag, value)}
                bad = f", {point['refused']} refused, {failed(point)} errors" * bool(point["refused"] + failed(point))
                speed = f"{point['images_per_second']:.1f} images/s, p99 {p99(point):.2f} ms{bad}"
                print(f"round {turn + 1}, {flag[2:]} {value}, {server.name}: {speed}", flush=True)
                yield point


def half_rate(points):
    """Half of the saturated rate of ours or of the best peer, whichever is slower; of medians over the rounds."""
    rates = {}
    for point in points:
        rates.setdefault((point["server"], clients(point)), []).append(point["requests_per_second"])
    best = lambda ours: max(median(rate) for (name, _), rate in rates.items() if (name == OURS) == ours)
    return f"{min(best(True), best(False)) / 2:.3f}"


def clients(point):
    return point["load"].get("clients")


def p99(point):
    """The largest where there are too few for a p99; without an answer, endless."""
    latency = point["latency"]
    return float("inf") if latency is None else latency["p99"] or latency["max"]


def rows(names, points, half):
    """Measure, its median by server, and by how much ours is ahead of the best of the others."""
    for count in sorted({clients(point) for point in points}):
        some = [point for point in points if clients(point) == count]
        yield row(f"{count} client{'s' * (count > 1)}, images/s", names, some, lambda point: point["images_per_second"], max)
    rate = half[0]["load"]["rate"]
    yield row(f"{rate:.0f} requests/s, p99 ms", names, half, p99, min)


def row(measure, names, points, value, best):
    by_round = {(point["round"], point["server"]): value(point) for point in points}
    ratios = []
    for turn in sorted({turn for turn, _ in by_round}):
        others, ours = best(by_round[turn, name] for name in names if name != OURS), by_round[turn, OURS]
        ratios.append(ours / others if best is max else others / ours)
    medians = {name: median(found for (_, server), found in by_round.items() if server == name) for name in names}
    return {"measure": measure, "medians": medians, "ahead": median(ratios), "ratios": ratios}


def write(args, names, points, half):
    table = list(rows(names, points, half))
    lines = [f"| | {' | '.join(names)} | ahead of the best |", "|---" * (len(names) + 2) + "|"]
    for found in table:
        medians = " | ".join(f"{found['medians'][name]:.4g}" for name in names)
        lines.append(f"| {found['measure']} | {medians} | {found['ahead']:.2f} |")
    with open(f"{args.out}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS.split())
        for point in [*points, *half]:
            latency = point["latency"] or {}
            numbers = [point["requests_per_second"], point["images_per_second"], latency.get("p50"), latency.get("p99")]
            numbers += [point["batch"], point["refused"], failed(point)]
            writer.writerow([point["round"], point["server"], clients(point), point["load"].get("rate"), *numbers])
    contest.write(args, "\n".join(lines) + "\n", table=table, points=[*points, *half])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contest.add_arguments(parser)
    parser.add_argument("--peers", default="plain,batching", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--concurrency", default="1,8,64")
    args = parser.parse_args()
    model = contest.model_file(args)
    commands = {OURS: contest.serve_command(args, model)}
    for name in args.peers.split(","):
        shared = ["--threads", args.threads, "--max-batch", args.max_batch]
        commands[name] = [sys.executable, PEER, model, *shared, *PEERS[name]]
    servers = []
    with tempfile.TemporaryDirectory() as logs:
        try:
            for name, command in commands.items():
                servers.append(Server(name, command, pathlib.Path(logs, f"{name}.log")))
            same_pixels(servers)
            points = list(measured(args, servers, "--concurrency", args.concurrency.split(",")))
            half = list(measured(args, servers, "--rate", [half_rate(points)]))
            write(args, list(commands), points, half)
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()

"""Races each of our operations alone against PyTorch's: same inputs, same number of threads.

Each side is a process of its own, new for each operation, that sleeps while the other works. First the results and gradients
are held against each other; then they take turns, and the order turns around from round to round. A turn repeats the operation
for a tenth of a second. The ratio of a round is the median time of PyTorch over that of ours; what is reported is the median
over the rounds. Run it by train/benches/peer/ops.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys

import contest

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4
# Below this share of PyTorch's speed an operation is listed as slow.
SLOW = 0.9


def start(arguments, cases):
    """Both sides."""
    binary, folder, threads = arguments.binary, arguments.work, arguments.threads
    peer = [sys.executable, HERE / "ops_worker.py", cases, folder, str(threads)]
    return [
        contest.Side("ours", [binary, "serve", folder], contest.ours(threads)),
        contest.Side("torch", peer, contest.allocator()),
    ]


def check(case, sides, folder):
    """Writes the inputs and holds PyTorch's results against ours; the largest relative difference."""
    ours, peer = sides
    path = folder / f"{case['id']}.safetensors"
    ours.turn(f"write {case['id']}")
    found = peer.turn(f"check {case['id']}")
    path.unlink()
    for name, difference in found.items():
        # So that no NaN passes.
        if not difference <= TOLERANCE:
            raise SystemExit(f"{case['id']}: {name} differs by {difference:.1e}, more than {TOLERANCE}")
    return max(found.values())


def race(case, sides, rounds, seconds):
    """Medians and fastest repetitions of each round on both sides, and what they say."""
    answers = contest.take_turns(sides, rounds, f"run {case['id']} {seconds}", pause=0.05)
    of_rounds = lambda f: {name: [f(a["seconds"]) for a in rounds] for name, rounds in answers.items()}
    fastest = of_rounds(min)
    numbers = {"rounds": of_rounds(statistics.median), "fastest": fastest}
    return contest.compare(answers, "ours", "torch") | {"ratio of fastest": min(fastest["torch"]) / min(fastest["ours"])} | numbers


def report(results, about):
    slow = [result for result in results if result["ratio"] < SLOW]
    lines = [
        "# Each operation against PyTorch",
        "",
        f"{about['processor']}, {about['threads']} threads; PyTorch {about['torch']}; {about['rounds']} rounds;"
        f" load {about['load before']:.1f} before, {about['load after']:.1f} after.",
        "",
        f"{len(slow)} of {len(results)} cases are below {SLOW}; the median of all is"
        f" {statistics.median(result['ratio'] for result in results):.2f}. The last column compares the fastest repetition of each"
        " side, which other work on the machine changes least.",
        "",
        "| operation | size | pass | ours ms | PyTorch ms | PyTorch / ours | least and most | fastest / fastest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, peer = (result["seconds"][name] * 1e3 for name in ("ours", "torch"))
        ratio = f"{result['ratio']:.2f}"
        lines.append(
            f"| {result['op']} | {result['shape']} | {result['pass']} | {ours:.3f} | {peer:.3f}"
            f" | {f'**{ratio}**' if result in slow else ratio} | {result['range'][0]:.2f} to {result['range'][1]:.2f}"
            f" | {result['ratio of fastest']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path, help="the example ops_race of drifting-train")
    arguments.add_argument("--cases", nargs="+", default=[""], help="parts of names; default: all")
    arguments.add_argument("--list", action="store_true", help="print the names and end")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    arguments.add_argument("--work", type=pathlib.Path, required=True, help="folder of the inputs")
    arguments.add_argument("--out", type=pathlib.Path, default=contest.EVIDENCE)
    arguments = arguments.parse_args()
    listed = subprocess.run([arguments.binary, "list"], check=True, stdout=subprocess.PIPE, text=True).stdout
    cases = [case for case in json.loads(listed) if any(part in case["id"] for part in arguments.cases)]
    if arguments.list:
        return print("\n".join(case["id"] for case in cases))
    if not cases:
        raise SystemExit(f"no case has {' or '.join(arguments.cases)} in its name")
    about = contest.about(arguments, ["threads", "rounds", "seconds"])
    file = arguments.work / "cases.json"
    file.write_text(listed)
    results = []
    # Each operation in new processes: behind many others, two of PyTorch's took a hundred times as long as by themselves.
    for _, group in itertools.groupby(cases, key=lambda case: case["op"]):
        sides = start(arguments, file)
        for case in group:
            difference = check(case, sides, arguments.work)
            result = race(case, sides, arguments.rounds, arguments.seconds)
            results.append({key: case[key] for key in ("id", "op", "shape", "pass")} | {"difference": difference} | result)
            print(f"{case['id']}: {result['ratio']:.2f}, differs by {difference:.0e}", flush=True)
        for side in sides:
            side.end()
    contest.save(arguments.out, "ops-race", about, results, report)


if __name__ == "__main__":
    main()

"""Races our training step against its PyTorch twin: same shapes, same weights, same inputs, same number of threads.

Each side is a process of its own that sleeps while the other works. First the twin's step is held against ours; then they
take turns, and the order turns around from round to round. The ratio of a round is the median time of the twin over that
of ours; what is reported is the median over the rounds. Run it by train/benches/peer/race.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import contest

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-3
# As far apart as rounding takes the gradients of two right programs (docs/evidence/golden-step.md).
GRADIENTS_TOLERANCE = 3e-3
WHOLE = ["fashion", "yardstick", "latent-b2-small"]
CHECKED = ["loss", "gradient_norm", "authors_loss", "authors_gradient_norm"]


def check(case, program, folder, threads, twin, device, checked):
    """Writes the case and holds the twin's step against ours, and ours on another device against that on the processor."""
    folder.mkdir(exist_ok=True, parents=True)
    environment = os.environ | contest.ours(threads)
    if not (folder / f"{case}.json").exists():
        # What other devices are held against is what the processor makes of it, in single precision.
        writer = program if device == "cpu" else program[:1]
        subprocess.run([*writer, "write", case, folder], check=True, env=environment)
    if device != "cpu" and not case.startswith("objective"):
        found = subprocess.run([*program, "check", case, folder], check=True, env=environment, stdout=subprocess.PIPE, text=True)
        print(f"{case}, ours on {device} beside ours on the processor: {found.stdout.strip()}")
    command = [sys.executable, HERE / "worker.py", "check", twin, case, folder, str(threads), device]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"{case}: " + ", ".join(f"{k} {v:.1e}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()))
    # What drifts in keys that are constant but for rounding is that rounding: it stays below the norm, not in every number.
    tolerances = dict.fromkeys(checked, TOLERANCE)
    if not found["constant_keys"] and checked != ["loss"]:
        tolerances["gradients"] = GRADIENTS_TOLERANCE
    for name, tolerance in tolerances.items():
        if not found.get(name, 0.0) <= tolerance:
            raise SystemExit(f"{case}: {name} differs by {found[name]:.1e}, more than {tolerance}")
    return found


def race(case, program, folder, threads, rounds, steps, twin, device):
    """The answers of both sides, round by round; the first turn warms up and is not counted, but for its memory."""
    command = [sys.executable, HERE / "worker.py", "serve", twin, case, folder, str(threads), device]
    sides = [
        contest.Side("ours", [*program, "serve", case, folder], contest.ours(threads)),
        contest.Side("twin", command, contest.allocator(twin)),
    ]
    warm = {side.name: side.turn(1) for side in sides}
    answers = contest.take_turns(sides, rounds, steps, pause=0.2)
    for side in sides:
        side.end()
    return {"warm_up": warm, "rounds": answers}


def summary(result):
    """Median seconds of each side, median ratio with its range, and memory."""
    memory = {name: answers[-1]["extra_bytes"] for name, answers in result["rounds"].items()}
    return contest.compare(result["rounds"], "ours", "twin") | {"extra_bytes": memory}


def parts(result):
    """Median seconds of each part of a step on both sides."""
    table = {}
    for side in ("ours", "twin"):
        for name in result["rounds"][side][0]["parts"]:
            times = [a["parts"][name] / len(a["seconds"]) for a in result["rounds"][side]]
            table.setdefault(name, {})[side] = statistics.median(times)
    return table


def report(results, about):
    lines = [
        "# The training step against PyTorch",
        "",
        f"{about.get('gpu') or about['processor']}, {about['threads']} threads; PyTorch {about['torch']}, the {about['twin']} twin; {about['rounds']} rounds of {about['steps']} steps;"
        + (" our matrix products in bfloat16;" if about["products"] == "bf16" else "")
        + (" our objective's products in bfloat16;" if about["objective"] == "bf16" else "")
        + f" load {about['load before']:.1f} before, {about['load after']:.1f} after.",
        "",
        "| case | ours s | twin s | twin / ours | least and most | ours: extra memory | twin: extra memory | losses differ by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, result in results.items():
        s, gib = result["summary"], 2**30
        lines.append(
            f"| {case} | {s['seconds']['ours']:.3f} | {s['seconds']['twin']:.3f} | {s['ratio']:.2f} | {s['range'][0]:.2f} to"
            f" {s['range'][1]:.2f} | {s['extra_bytes']['ours'] / gib:.2f} GiB | {s['extra_bytes']['twin'] / gib:.2f} GiB"
            f" | {result['check']['loss']:.0e} |"
        )
    lines += ["", "Parts of a step in ms, ours and the twin's:", "", "| case | part | ours | twin | twin / ours |", "|---|---|---|---|---|"]
    for case, result in results.items():
        for name, times in parts(result).items():
            a, b = times["ours"] * 1e3, times["twin"] * 1e3
            lines.append(f"| {case} | {name} | {a:.1f} | {b:.1f} | {b / a:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path, help="the example step_race of drifting-train")
    arguments.add_argument("--cases", nargs="+", help="default: golden (a check only), the whole steps, the objective")
    arguments.add_argument("--classes", type=int, default=64, help="class groups of the objective; 64 need 16 GB")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--steps", type=int, default=3, help="steps of a turn, of which the median counts")
    arguments.add_argument("--twin", choices=["tuned", "plain", "compiled"], default="tuned", help="step.py, plain.py or compiled.py")
    arguments.add_argument("--device", default="cpu", help="what computes both steps: cpu, or cuda with a binary of that feature")
    arguments.add_argument("--products", choices=["f32", "bf16"], default="f32", help="precision of our networks' products")
    arguments.add_argument("--objective", choices=["f32", "bf16"], default="f32", help="precision of our objective's products")
    arguments.add_argument("--work", type=pathlib.Path, required=True, help="folder of inputs and weights")
    arguments.add_argument("--out", type=pathlib.Path, default=contest.EVIDENCE)
    arguments = arguments.parse_args()
    cases = arguments.cases or ["golden", *WHOLE, f"objective-{arguments.classes}"]
    about = contest.about(arguments, ["threads", "rounds", "steps", "twin", "products", "objective", "device"])
    program, folder, checked, name = [arguments.binary], arguments.work, CHECKED, "step-race"
    if "bf16" in (arguments.products, arguments.objective):
        # The twin is in single precision: of the numbers, only the loss is near enough.
        program += ["--products", arguments.products, "--objective", arguments.objective]
        folder, checked = folder / f"{arguments.products}-{arguments.objective}", ["loss"]
        name += "-bf16" if arguments.products == "bf16" else ""
        name += "-objective" if arguments.objective == "bf16" else ""
    if arguments.device != "cpu":
        program, folder, name = [*program, "--device", arguments.device], arguments.work / "gpu", f"{name}-gpu"
    if arguments.twin == "compiled":
        checked = ["loss"]
    results = {}
    for case in cases:
        found = check(case, program, folder, arguments.threads, arguments.twin, arguments.device, checked)
        if case == "golden":
            about["golden"] = found
            continue
        turns = (arguments.rounds, arguments.steps)
        result = race(case, program, folder, arguments.threads, *turns, arguments.twin, arguments.device)
        results[case] = {"check": found, "summary": summary(result), **result}
        s = results[case]["summary"]
        print(f"{case}: ours {s['seconds']['ours']:.3f} s, twin {s['seconds']['twin']:.3f} s, ratio {s['ratio']:.2f}", flush=True)
    name += "" if arguments.twin == "tuned" else f"-{arguments.twin}"
    contest.save(arguments.out, name, about, results, report)


if __name__ == "__main__":
    main()

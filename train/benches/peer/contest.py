"""What the races share: contenders that are processes of their own and take turns, one asleep while the other works."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
EVIDENCE = ROOT / "docs/evidence/cpu"
# glibc gives large blocks back to the system at once; these keep them, as the allocator of our side does.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 36), "MALLOC_TOP_PAD_": str(64 << 20)}


class Side:
    """One contender's process."""

    def __init__(self, name, command, environment):
        self.name = name
        environment = os.environ | environment
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def turn(self, command):
        """Sends a line and waits for the answer, a line of JSON."""
        print(command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} failed")
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def take_turns(sides, rounds, command, pause):
    """The answers of each side, round by round; the order turns around from round to round."""
    answers = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            # Threads of the last one spin for a moment before they sleep.
            time.sleep(pause)
            answers[side.name].append(side.turn(command))
    return answers


def compare(answers, ours, theirs):
    """Median seconds of each side, and the median of the rounds' ratios with their range."""
    medians = {name: [statistics.median(a["seconds"]) for a in answers[name]] for name in (ours, theirs)}
    ratios = [t / o for t, o in zip(medians[theirs], medians[ours])]
    seconds = {name: statistics.median(values) for name, values in medians.items()}
    return {"seconds": seconds, "ratio": statistics.median(ratios), "range": [min(ratios), max(ratios)]}


def ours(threads):
    """Environment of our side."""
    return {"RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": str(threads)}


def allocator(twin="tuned"):
    """Environment of the other side."""
    return KEPT if twin == "tuned" else {}


def about(arguments, names):
    """Where and how a race is run."""
    import torch

    settings = {name: getattr(arguments, name) for name in names}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and settings.get("device", "cpu") != "cpu" else None
    return settings | {"gpu": gpu, "processor": processor(), "torch": torch.__version__, "load before": os.getloadavg()[0]}


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def save(folder, name, about, results, report):
    """Writes the numbers and the report, and shows it."""
    about["load after"] = os.getloadavg()[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"about": about, "results": results}, indent=1))
    text = report(results, about)
    (folder / f"{name}.md").write_text(text)
    print(text)

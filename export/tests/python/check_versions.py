"""Runs exported models in many versions of onnxruntime, and prints which of them give candle's images.

    check_versions.py FOLDER [--versions 1.15.0,1.32.0] [--cache FOLDER] [--drifting PROGRAM]

FOLDER holds NAME.onnx and NAME.reference.safetensors, as the example `random_models` writes them. Each version is installed
once, by pip and without its dependencies, into a folder of its own; those before 1.19 run beside a numpy 1, the others
beside a numpy 2. Versions are those of onnxruntime-versions.txt unless given.

With --drifting, the library in each wheel that carries one is given to the program by ORT_DYLIB_PATH, which exports the
generator that comes with it and compares ONNX Runtime's images with candle's.

Prints a row of a Markdown table for each version. The exit status is 1 if a version does not run a model, or if pip has
none of the versions for this Python; what the program says is in the table and does not count.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
NUMPY = {1: "1.26.4", 2: "2.4.6"}


def numpy_for(version):
    """onnxruntime was compiled for numpy 2 from 1.19 on."""
    return NUMPY[2 if tuple(map(int, version.split(".")[:2])) >= (1, 19) else 1]


def install(package, version, cache):
    """The folder that holds `package`; pip fills it once."""
    folder = cache / f"{package}-{version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            where = ["--only-binary=:all:", "--no-compile", "--target", f"{fresh}/new", f"{package}=={version}"]
            done = subprocess.run(pip + where, capture_output=True, text=True)
            if done.returncode:
                problem = (done.stderr.strip().splitlines() or [""])[-1]
                if "No matching distribution" in problem:
                    raise LookupError(f"pip has no {package} {version} for this Python")
                raise ValueError(f"pip install {package}=={version}: {problem}")
            os.rename(f"{fresh}/new", folder)
    return folder


def run_models(folder, version, cache):
    """What onnxruntime `version` says to all models of the folder: `MODELS of MODELS, DIFFERENCE`."""
    paths = [install("onnxruntime", version, cache), install("numpy", numpy_for(version), cache), HERE]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, __file__, "--inside", version, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError("; ".join((done.stdout + done.stderr).strip().splitlines()[-3:]))
    return done.stdout.strip()


def inside(version, folder):
    """In a process that has onnxruntime `version` on its path."""
    import onnxruntime

    from agreement import check_image, read_safetensors

    if onnxruntime.__version__ != version:
        sys.exit(f"onnxruntime {onnxruntime.__version__} was loaded, not {version}")
    models = sorted(folder.glob("*.onnx"))
    worst, failed = 0.0, []
    for model in models:
        try:
            worst = max(worst, check_image(model, read_safetensors(model.with_suffix(".reference.safetensors"))))
        except Exception as error:
            failed.append(f"{model.name}: {error}".splitlines()[0])
    if failed or not models:
        sys.exit(f"{len(failed)} of {len(models)} models fail: " + "; ".join(failed[:3]))
    print(f"{len(models)} of {len(models)}, {worst:.1e}")


def run_program(program, version, cache):
    """What the program says to the library of a wheel, or that the wheel has none."""
    libraries = list(install("onnxruntime", version, cache).glob("onnxruntime/capi/libonnxruntime.so.1*"))
    if not libraries:
        return "no library in the wheel"
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ORT_DYLIB_PATH": str(libraries[0])}
        command = [program, "export", "fashion", "--engine", "onnxruntime", "--out", f"{folder}/fashion.onnx"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    if done.returncode:
        return "no: " + re.sub(r"\S*/libonnxruntime", "libonnxruntime", said[-1])
    found = [line for line in said if re.search(r"onnx ?runtime", line, re.IGNORECASE) and "differs" in line]
    return "yes, " + found[0].rsplit("by ", 1)[1].split()[0] if found else "no: it verified without ONNX Runtime"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--versions")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[2] / "target"))
    arguments.add_argument("--cache", type=pathlib.Path, default=target / "python-versions")
    arguments.add_argument("--drifting", type=os.path.abspath, metavar="PROGRAM")
    arguments.add_argument("--inside", metavar="VERSION", help=argparse.SUPPRESS)
    arguments = arguments.parse_args()
    if arguments.inside:
        return inside(arguments.inside, arguments.folder)
    versions = (arguments.versions or (HERE / "onnxruntime-versions.txt").read_text()).replace(",", " ").split()
    cache = arguments.cache.resolve()
    program = " drifting |" if arguments.drifting else ""
    print(f"Python {sys.version.split()[0]}, {len(versions)} versions\n")
    print(f"| onnxruntime | numpy | models, largest difference from candle |{program}\n|---|---|---|{'---|' if program else ''}")
    failed, ran = False, 0
    for version in versions:
        try:
            server = ""
            row = run_models(arguments.folder, version, cache)
            ran += 1
            if arguments.drifting:
                server = f" {run_program(arguments.drifting, version, cache)} |"
        except LookupError as error:
            row = f"not run: {error}"
        except ValueError as error:
            failed, row = True, f"FAILED: {error}"
        print(f"| {version} | {numpy_for(version)} | {row} |{server}", flush=True)
    sys.exit(failed or not ran)


if __name__ == "__main__":
    main()

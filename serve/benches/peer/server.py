"""What one writes by hand: FastAPI, uvicorn and ONNX Runtime, answering `POST /generate` as `drifting serve` does.

    python=$(tools/python-venv serve/benches/peer/requirements.txt target/python-peer)
    $python serve/benches/peer/server.py model.onnx --port 8001 --variant batching

`plain` is the usual one: a handler that is no coroutine runs in FastAPI's thread pool and calls the session itself. `batching` has
a queue in front of one thread with the session, which takes what waits, up to --max-batch images, without waiting for more.
Noise comes from the seed alone, and is the noise of `drifting serve`; with --noise numpy it is NumPy's own, which is
cheaper and gives other images.
"""

import argparse
import asyncio
import json
import math
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import cv2
import noise
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Response

# Bytes of pixels above which a picture is encoded beside the event loop.
LARGE = 1 << 16
GAP = 2


class Model:
    def __init__(self, path, threads, own_noise):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        manifest = json.loads(self.session.get_modelmeta().custom_metadata_map["drifting.manifest"])
        self.names = [entry.name for entry in self.session.get_inputs()]
        self.generator, self.classes, self.alpha = manifest["generator"], manifest["classes"], manifest["alpha"]
        self.numbers = {name.lower(): number for number, name in enumerate(self.classes)}
        self.black, self.white = (0.0, 255.0) if manifest.get("pixels") == "uint8" else manifest["value_range"]
        image = self.generator["image"]
        self.shape = image["channels"], image["height"], image["width"]
        self.own_noise = own_noise

    def inputs(self, rows, classes, alphas):
        """Inputs for `rows`, pairs of seed and index."""
        count, style = math.prod(self.shape), self.generator["style_tokens"]
        if self.own_noise:
            generators = [np.random.default_rng(row) for row in rows]
            values = np.stack([generator.standard_normal(count, np.float32) for generator in generators])
            codes = [generator.integers(0, self.generator["style_codes"], style) for generator in generators]
            codes = np.array(codes, np.int64)
        else:
            values = noise.normals(rows, "noise", count)
            codes = noise.below(rows, "style", style, self.generator["style_codes"])
        feed = {
            "noise": values.reshape(-1, *self.shape),
            "style": codes,
            "class": np.array(classes, np.int64),
            "alpha": np.array(alphas, np.float32),
        }
        return {name: feed[name] for name in self.names}

    def run(self, rows, classes, alphas):
        """Levels `[n, height, width, channels]`."""
        (image,) = self.session.run(["image"], self.inputs(rows, classes, alphas))
        levels = (image - np.float32(self.black)) / np.float32(self.white - self.black)
        levels = np.floor(levels.clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
        return levels.transpose(0, 2, 3, 1)

    def number(self, name):
        number = int(name) if name.isdecimal() else self.numbers.get(name.lower(), -1)
        if not 0 <= number < len(self.classes):
            raise HTTPException(422, f"class {name!r} is none of the model's {len(self.classes)}")
        return number

    def checked(self, alpha):
        alpha = self.alpha["default"] if alpha is None else alpha
        if not self.alpha["min"] <= alpha <= self.alpha["max"]:
            raise HTTPException(422, f"alpha is not between {self.alpha['min']} and {self.alpha['max']}")
        return alpha


def sheet(images):
    """Images row by row, as square as can be."""
    count, height, width, channels = images.shape
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    whole = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        whole[top : top + height, left : left + width] = image
    return whole


def png(images):
    """OpenCV writes a small PNG in a fifth of Pillow's time, and a large one in a third; its fastest level."""
    picture = images[0] if len(images) == 1 else sheet(images)
    if picture.shape[-1] == 3:
        picture = picture[:, :, ::-1]
    done, file = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise HTTPException(500, "the picture could not be encoded")
    return file.tobytes()


class Batcher:
    """One thread with the session. While it runs one batch, the next one gathers."""

    def __init__(self, model, max_batch):
        self.model, self.max_batch = model, max_batch
        self.thread = ThreadPoolExecutor(1)
        self.waiting = []
        self.running = False

    async def images(self, rows, number, alpha):
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in rows]
        self.waiting.extend(zip(rows, futures, [number] * len(rows), [alpha] * len(rows)))
        if not self.running:
            self.running = True
            self.task = loop.create_task(self.work(loop))
        return np.stack(await asyncio.gather(*futures))

    async def work(self, loop):
        while self.waiting:
            batch, self.waiting = self.waiting[: self.max_batch], self.waiting[self.max_batch :]
            rows, futures, numbers, alphas = zip(*batch)
            try:
                images = await loop.run_in_executor(self.thread, self.model.run, rows, numbers, alphas)
                for future, image in zip(futures, images):
                    if not future.done():
                        future.set_result(image)
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
        self.running = False


def application(model, variant, max_batch, max_images=64):
    app = FastAPI()
    Class = Annotated[str, Query(alias="class")]
    Alpha = Annotated[float | None, Query()]
    Seed = Annotated[int | None, Query(ge=0, lt=2**64)]
    Count = Annotated[int, Query(ge=1, le=max_images)]

    def rows(seed, n):
        seed = secrets.randbits(32) if seed is None else seed
        return [(seed, index) for index in range(n)]

    def answer(file, seed):
        return Response(file, media_type="image/png", headers={"x-seed": str(seed), "cache-control": "no-store"})

    if variant == "plain":

        @app.post("/generate")
        def generate(
            name: Class, alpha: Alpha = None, seed: Seed = None, n: Count = 1, format: Literal["png"] = "png"
        ):
            wanted, number, alpha = rows(seed, n), model.number(name), model.checked(alpha)
            return answer(png(model.run(wanted, [number] * n, [alpha] * n)), wanted[0][0])

    else:
        batcher = Batcher(model, max_batch)

        @app.post("/generate")
        async def generate(
            name: Class, alpha: Alpha = None, seed: Seed = None, n: Count = 1, format: Literal["png"] = "png"
        ):
            wanted = rows(seed, n)
            images = await batcher.images(wanted, model.number(name), model.checked(alpha))
            large = images.nbytes > LARGE
            file = await asyncio.to_thread(png, images) if large else png(images)
            return answer(file, wanted[0][0])

    @app.get("/healthz")
    async def healthz():
        return {"status": "ok"}

    return app


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--threads", type=int, default=0, help="threads of ONNX Runtime; 0 takes all processors")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--variant", choices=["plain", "batching"], default="batching")
    parser.add_argument("--noise", choices=["drifting", "numpy"], default="drifting")
    args = parser.parse_args()
    # Pictures are encoded by one thread each.
    cv2.setNumThreads(1)
    model = Model(args.model, args.threads, args.noise == "numpy")
    batches = [2**power for power in range(args.max_batch.bit_length())] if args.variant == "batching" else [1]
    for batch in batches:
        model.run([(0, 0)] * batch, [0] * batch, [model.alpha["default"]] * batch)
    app = application(model, args.variant, args.max_batch)
    uvicorn.run(app, port=args.port, loop="uvloop", http="httptools", log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

"""The twin as one trains on a GPU: products in bfloat16 by autocast, networks compiled; objective and optimizer in single precision."""

import torch
from step import Step


class CompiledStep(Step):
    def __init__(self, settings, tensors):
        super().__init__(settings, tensors)
        # Exact products stay exact: those of the objective.
        torch.set_float32_matmul_precision("highest")
        self.draw = half(torch.compile(self.generator), tensors["noise"].device)
        self.look = half(torch.compile(self.encoder), tensors["noise"].device)


def half(network, device):
    def run(*inputs):
        with torch.autocast(device.type, torch.bfloat16):
            found = network(*inputs)
        return {name: x.float() for name, x in found.items()} if isinstance(found, dict) else found.float()

    return run

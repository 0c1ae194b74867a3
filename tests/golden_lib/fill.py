"""fill.py - weights and inputs from a formula, so that a test needs no weight file.

The rule is the one of the model reference, section 10; tests/ repeats it in C. Values are computed
in double, rounded once to float32 (what a C program holds), and used in double from there on.
published.py takes them unrounded, as the numbers it checks were made.
"""
import math
from contextlib import contextmanager

import numpy as np
import torch


_rounded = True


@contextmanager
def unrounded():
    """Inside: values stay the double they were computed in."""
    global _rounded
    _rounded = False
    try:
        yield
    finally:
        _rounded = True


def _as_tensor(values, shape):
    if _rounded:
        values = values.astype(np.float32).astype(np.float64)
    return torch.from_numpy(values).reshape(tuple(shape))


def fnv1a32(text):
    """FNV-1a, 32 bits, over the UTF-8 bytes."""
    h = 2166136261
    for byte in text.encode("utf-8"):
        h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
    return h


def wave(shape, a, c):
    """X(shape; a, c) = sin(a*i + c) over the flat row-major index i."""
    i = np.arange(math.prod(shape), dtype=np.float64)
    return _as_tensor(np.sin(a * i + c), shape)


def weight(key, shape):
    """The value of the tensor named key: matrices 1/sqrt(fan_in), norms around 1, biases small."""
    phi = (fnv1a32(key) % 1000) * 0.01
    i = np.arange(math.prod(shape), dtype=np.float64)
    s = np.sin(0.37 * i + phi)
    if len(shape) >= 2:
        s = s / math.sqrt(math.prod(shape[1:]))
    elif key.endswith(".weight"):
        s = 1 + 0.1 * s
    else:
        s = 0.05 * s
    return _as_tensor(s, shape)


def fill_module(module):
    """Give every parameter its formula value; the module's own buffers (pos_embed.pe) stay."""
    module = module.double().eval()
    for key, p in module.named_parameters():
        p.data.copy_(weight(key, p.shape))
    return module

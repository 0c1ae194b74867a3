"""losses.py - what PyTorch itself loses in float32, for the table `losses` of test_blocks.c.

A block is computed in double and then in float32, in its own order of summing and in others: the input
channels of every linear layer and convolution are shuffled, which changes no exact sum. Ill-conditioned
blocks (a group norm over a handful of values) magnify the rounding, and one order alone can be lucky.
Prints the mean and the largest loss of each case, as shares of the largest value.

Run: python -m golden_lib.losses [case ...]        from tests/; all blocks without names
"""
import sys

import torch
from torch import nn
from torch.nn import functional

from . import blocks, fill
from .pins import assert_versions, set_up

ORDERS = 12


def shuffled(module, generator):
    """The module's layer with another order of its input channels."""
    order = torch.randperm(module.weight.shape[1], generator=generator)
    weight = module.weight[:, order]
    if isinstance(module, nn.Linear):
        return lambda input: functional.linear(input[..., order], weight, module.bias)
    return lambda input: functional.conv2d(input[:, order], weight, module.bias, module.stride,
                                           module.padding)


def run(name, kind, config, inputs, seed=None, single=True):
    """The outputs of a case: in double, or in float32 with shuffled channels (seed None: not)."""
    original, generator = fill.fill_module, torch.Generator().manual_seed(seed or 0)

    def filled(module):
        module = original(module)
        if single:
            module.float()
        for part in module.modules() if seed is not None else ():
            if isinstance(part, (nn.Linear, nn.Conv2d)):
                part.forward = shuffled(part, generator)
        return module

    x = {k: blocks.tensor(v) for k, v in inputs.items()}
    if single:
        x = {k: v.float() if v.is_floating_point() else v for k, v in x.items()}
    fill.fill_module = filled
    try:
        return blocks.KINDS[kind](config, x)
    finally:
        fill.fill_module = original


def losses(case):
    exact = run(*case, single=False)
    for seed in [None, *range(ORDERS)]:
        found = run(*case, seed=seed)
        yield max(((found[k] - v).abs().max() / v.abs().max()).item() for k, v in exact.items())


def main(names):
    assert_versions()
    set_up()
    for case in blocks.cases():
        if case[0] in names or not names:
            own, *others = losses(case)
            print(f"{case[0]:32} own order {own:.1e}, {ORDERS} others: mean "
                  f"{sum(others) / ORDERS:.1e}, largest {max(others):.1e}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""bench_diffusers.py - the time of the reference at the same work as bench_session.

Called by tests/bench_fullsize.sh in turns with bench_session; needs torch and diffusers (the
environment of make golden). Prints one line per UNet step (guidance on: two halves of 16 frames)
and per decoded frame, and the peak memory of the process.

Usage: bench_diffusers.py MODEL ADAPTER SIZE fp32|bf16 STEPS
SPDX-License-Identifier: LGPL-2.1-or-later
"""
import os
import resource
import sys
import time

import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNetMotionModel

FRAMES = 16


def timed(what, times, call):
    for i in range(times):
        start = time.perf_counter()
        call()
        print(f"{what} {i + 1}: {time.perf_counter() - start:.3f} s", flush=True)


def main():
    base, adapter, size, precision, steps = sys.argv[1:]
    side = int(size) // 8
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    unet = UNetMotionModel.from_unet2d(
        UNet2DConditionModel.from_pretrained(f"{base}/unet", torch_dtype=kind),
        MotionAdapter.from_pretrained(adapter, torch_dtype=kind)).to(kind).eval()
    vae = AutoencoderKL.from_pretrained(f"{base}/vae", torch_dtype=kind).eval()
    latents = torch.randn(2, 4, FRAMES, side, side, dtype=kind)
    states = torch.randn(2 * FRAMES, 77, 768, dtype=kind)
    frame = torch.randn(1, 4, side, side, dtype=kind)
    with torch.no_grad():
        timed("step", int(steps), lambda: unet(latents, 500, encoder_hidden_states=states))
        timed("frame", 3, lambda: vae.decode(frame))
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB")


if __name__ == "__main__":
    main()

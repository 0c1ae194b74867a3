"""reference.py - diffusers on this card at the work that bench_clip does, for the same table.

Called by tests/gpu/run.sh. Speed does not depend on weights: the models are made from their configs
and filled with random numbers on the card. Three ways: eager without fused attention, eager with
PyTorch's SDPA, compiled. One JSON line each, as soon as it is known: milliseconds of a guided step
(two halves of 16 frames) and of one decoded frame, peak memory. REFERENCE=eager,sdpa chooses.

Usage: reference.py FOLDER        (of the weights; not read)
SPDX-License-Identifier: LGPL-2.1-or-later
"""
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
try:
    import diffusers
    from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNetMotionModel
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
    from make_fullsize import UNET, VAE
except ImportError as error:
    print(f"skip - diffusers on this card: {error}; WHEELS=DIR names a folder of wheels")
    sys.exit(0)

FRAMES = 16


def filled(module):
    generator = torch.Generator("cuda").manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(0, p[0].numel() ** -0.5 * 0.7 if p.ndim >= 2 else 0.02, generator=generator)
            if p.ndim == 1:
                p.add_(1)
    return module.half().eval()


def milliseconds(call, times):
    """Median over single calls, two to warm up."""
    took = []
    for i in range(times + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        took.append(1e3 * (time.perf_counter() - start))
    return sorted(took[2:])[times // 2]


def measure(how, unet, vae, size):
    side = size // 8
    latents = torch.randn(2, 4, FRAMES, side, side, dtype=torch.half, device="cuda")
    states = torch.randn(2 * FRAMES, 77, 768, dtype=torch.half, device="cuda")
    frame = torch.randn(1, 4, side, side, dtype=torch.half, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        step = milliseconds(lambda: unet(latents, 500, encoder_hidden_states=states), 5)
        decode = milliseconds(lambda: vae.decode(frame), 5)
    print(json.dumps({"reference": how, "size": size, "precision": "fp16", "step_ms": round(step, 3),
                      "frame_ms": round(decode, 3), "clip25_s": round((25 * step + FRAMES * decode) / 1e3, 3),
                      "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3),
                      "diffusers": diffusers.__version__, "torch": torch.__version__}), flush=True)


def main():
    ways = os.environ.get("REFERENCE", "sdpa,eager,compile").split(",")
    with torch.device("cuda"):
        unet = filled(UNetMotionModel.from_unet2d(UNet2DConditionModel(**UNET), MotionAdapter()))
        vae = filled(AutoencoderKL(**VAE))
    for how in ways:
        for model in (unet, vae):
            model.set_attn_processor(AttnProcessor() if how == "eager" else AttnProcessor2_0())
        fast = torch.compile(unet) if how == "compile" else unet
        for size in (512, 256):
            measure(how, fast, vae, size)


if __name__ == "__main__":
    main()

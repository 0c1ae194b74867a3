"""make_weights.py - random weights in the real sizes, with torch alone: a Stable Diffusion 1.5
checkpoint in one file, the v2 motion adapter as a folder; 3 GB in fp16.

Called by tests/gpu/run.sh. Names and shapes of the checkpoint are those of tests/golden/
ldm_sd15.json, the adapter's follow diffusers' MotionAdapter. Numbers are tame (matrices of variance
1/fan-in) but not zero: a GPU multiplies zeros faster than numbers.

Usage: make_weights.py FOLDER
SPDX-License-Identifier: LGPL-2.1-or-later
"""
import json
import math
import shutil
import sys
from pathlib import Path

import torch

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CONFIG = {"_class_name": "MotionAdapter", "block_out_channels": [320, 640, 1280, 1280],
          "motion_layers_per_block": 2, "motion_max_seq_length": 32, "motion_mid_block_layers_per_block": 1,
          "motion_norm_num_groups": 32, "motion_num_attention_heads": 8, "use_motion_mid_block": True}


def adapter_shapes():
    """Names and shapes of the v2 adapter: two layers a level down, three up, one in the middle."""
    channels = CONFIG["block_out_channels"]
    places = [(f"down_blocks.{i}.motion_modules.{j}", c) for i, c in enumerate(channels) for j in range(2)]
    places += [("mid_block.motion_modules.0", channels[-1])]
    places += [(f"up_blocks.{i}.motion_modules.{j}", c) for i, c in enumerate(reversed(channels))
               for j in range(3)]
    shapes = {}
    for place, c in places:
        block = f"{place}.transformer_blocks.0"
        for name in [f"{place}.norm"] + [f"{block}.norm{i}" for i in (1, 2, 3)]:
            shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = [c]
        for name, n, k in [(f"{place}.proj_in", c, c), (f"{place}.proj_out", c, c),
                           (f"{block}.attn1.to_out.0", c, c), (f"{block}.attn2.to_out.0", c, c),
                           (f"{block}.ff.net.0.proj", 8 * c, c), (f"{block}.ff.net.2", c, 4 * c)]:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = [n, k], [n]
        for attention in ("attn1", "attn2"):
            for part in "qkv":
                shapes[f"{block}.{attention}.to_{part}.weight"] = [c, c]
        shapes[f"{block}.pos_embed.pe"] = [1, CONFIG["motion_max_seq_length"], c]
    return shapes


def positions(shape):
    """diffusers' sinusoidal table."""
    place = torch.arange(shape[1]).unsqueeze(1)
    rate = torch.exp(torch.arange(0, shape[2], 2) * (-math.log(10000.0) / shape[2]))
    table = torch.zeros(shape)
    table[0, :, 0::2] = torch.sin(place * rate)
    table[0, :, 1::2] = torch.cos(place * rate)
    return table


def numbers(name, shape, device, generator):
    """A tensor in fp16; scalars of a schedule and position ids do not matter, but must be there."""
    if name.endswith("pos_embed.pe"):
        return positions(shape).half()
    if name.endswith("position_ids"):
        return torch.arange(shape[-1], dtype=torch.int64).reshape(shape)
    noise = torch.randn(shape, device=device, generator=generator)
    if len(shape) >= 2:
        noise *= 0.7 * math.prod(shape[1:]) ** -0.5
    elif name.endswith("weight"):
        noise = 1 + 0.1 * noise
    else:
        noise *= 0.02
    return noise.half().cpu()


def write(path, shapes, device, generator):
    """A safetensors file: length and text of the header, then all bytes, one tensor at a time."""
    header, at = {}, 0
    for name, shape in shapes.items():
        whole = name.endswith("position_ids")
        end = at + math.prod(shape) * (8 if whole else 2)
        header[name] = {"dtype": "I64" if whole else "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(numbers(name, shape, device, generator).numpy().tobytes())


def main():
    out = Path(sys.argv[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(1)
    (out / "adapter").mkdir(parents=True, exist_ok=True)
    shutil.copytree(GOLDEN / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    (out / "adapter" / "config.json").write_text(json.dumps(CONFIG, indent=2))
    write(out / "adapter" / "diffusion_pytorch_model.safetensors", adapter_shapes(), device, generator)
    write(out / "new.safetensors", json.loads((GOLDEN / "ldm_sd15.json").read_text()), device, generator)
    (out / "new.safetensors").rename(out / "model.safetensors")


if __name__ == "__main__":
    main()

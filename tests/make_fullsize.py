"""make_fullsize.py - random weights in the real sizes: Stable Diffusion 1.5 and the v2 motion
adapter, as fp16 folders of about 2.9 GB.

A kohya LoRA of rank 64 with convolutions and text encoder and a motion LoRA of rank 64, as large as
published ones, lie beside them. Called by tests/bench_fullsize.sh; needs torch and diffusers (the environment of make golden). The
numbers are random but tame (matrices of variance 1/fan-in), because speed on zeros would be twice
the truth. The tokenizer is the small one of the golden data.

Usage: make_fullsize.py FOLDER
SPDX-License-Identifier: LGPL-2.1-or-later
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNET = dict(sample_size=64, in_channels=4, out_channels=4, block_out_channels=[320, 640, 1280, 1280],
            layers_per_block=2, cross_attention_dim=768, attention_head_dim=8,
            down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
VAE = dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4,
           down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
           sample_size=512)
TEXT = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
            num_attention_heads=12, max_position_embeddings=77, hidden_act="quick_gelu")
SCHEDULER = dict(_class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012,
                 beta_schedule="scaled_linear", set_alpha_to_one=False, skip_prk_steps=True,
                 steps_offset=1, clip_sample=False)


def shake(module, generator):
    """Draw every parameter anew: a fresh adapter's output projections are zero, for instance."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim >= 2:
                p.copy_(noise * (p[0].numel() ** -0.5) * 0.7)
            elif name.endswith("weight"):
                p.copy_(1 + 0.1 * noise)
            else:
                p.copy_(0.02 * noise)
    return module.half()


def pairs(module, name, wanted, generator):
    """down and up matrices of rank 64 for the layers that are wanted."""
    out = {}
    for path, layer in module.named_modules():
        w = getattr(layer, "weight", None)
        if w is None or w.ndim not in (2, 4) or not wanted(path):
            continue
        down, up = name(path)
        out[down] = (torch.randn((64, *w.shape[1:]), generator=generator)
                     * (w[0].numel() ** -0.5)).half()
        out[up] = (torch.randn((w.shape[0], 64, *(1,) * (w.ndim - 2)), generator=generator)
                   * 0.01).half()
    return out


def loras(unet, text, adapter, out, generator):
    def kohya(prefix):
        def names(path):
            stem = prefix + path.replace(".", "_")
            return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight"
        return names

    def motion(path):
        return tuple(f"unet.{path}.lora_{m}.weight" for m in "AB")

    picture = pairs(unet, kohya("lora_unet_"), lambda p: any(
        k in p for k in ("attentions", "resnets", "samplers")), generator)
    picture |= pairs(text, kohya("lora_te_"), lambda p: "layers" in p, generator)
    moving = pairs(adapter, motion, lambda p: ".to_" in p, generator)
    save_file(picture, out / "lora.safetensors")
    save_file(moving, out / "motion_lora.safetensors")


def main():
    out = Path(sys.argv[1])
    golden = Path(__file__).resolve().parent / "golden" / "tokenizer"
    generator = torch.Generator().manual_seed(1)
    base, adapter = out / "model", out / "adapter"
    parts = []
    for make, folder in ((lambda: UNet2DConditionModel(**UNET), base / "unet"),
                         (lambda: AutoencoderKL(**VAE), base / "vae"),
                         (lambda: CLIPTextModel(CLIPTextConfig(**TEXT)), base / "text_encoder"),
                         (lambda: MotionAdapter(), adapter)):
        parts.append(shake(make(), generator))
        parts[-1].save_pretrained(folder)
    loras(parts[0], parts[2], parts[3], out, generator)
    (base / "scheduler").mkdir(parents=True, exist_ok=True)
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2))
    shutil.copytree(golden, base / "tokenizer", dirs_exist_ok=True)
    (base / "model_index.json").write_text(json.dumps({
        "_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None], "feature_extractor": [None, None]}, indent=2))


if __name__ == "__main__":
    main()

"""cache.py - stage 3: draws clips and keeps their latents, so that the VAE encodes them once.

The clips lie in parts of PART clips; a part that exists is not drawn again. Each part holds
latents (scaled, fp16), masks (which latent pixels belong to a thing) and scenes (what is drawn).
Run: python cache.py [number of parts]; other stages call load().
"""
import json
import random
import sys
from dataclasses import asdict

import numpy as np
import torch
from diffusers import AutoencoderKL

import draw
import grammar
from common import DEVICE, WORK, WORLD, autocast, launch, note

PART, PARTS = 512, 12
GRID = draw.SIZE // 8


def load_vae():
    return AutoencoderKL.from_pretrained(WORK / "model/vae", torch_dtype=torch.float32).to(
        DEVICE).eval().requires_grad_(False)


def encode(vae, frames):
    """Latents [n, 4, GRID, GRID] of the frames of one clip."""
    image = torch.from_numpy(draw.render(frames)).to(DEVICE).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad(), autocast():
        mode = vae.encode(image.contiguous()).latent_dist.mode()
    return mode.float().cpu() * vae.config.scaling_factor


def make_part(vae, path, seed, camera=None, style="plain", pick=None, count=PART):
    """One part. pick(rng) chooses the scene; camera and style are those of the LoRA stages."""
    rng = random.Random(seed)
    latents = np.empty((count, draw.FRAMES, 4, GRID, GRID), np.float16)
    masks = np.empty((count, draw.FRAMES, GRID, GRID), np.uint8)
    scenes = []
    for i in range(count):
        scene = pick(rng) if pick else grammar.random_scene(rng)
        frames = draw.plan_clip(scene, rng, camera, style)
        latents[i] = encode(vae, frames).numpy()
        masks[i] = draw.thing_mask(frames, GRID)
        scenes.append(asdict(scene))
    with open(f"{path}.new", "wb") as file:
        np.savez(file, latents=latents, masks=masks, scenes=json.dumps(scenes))
    (path.parent / f"{path.name}.new").rename(path)
    note(f"{path.name}: {count} clips")


def scene_of(entry):
    return grammar.Scene([grammar.Thing(**t) for t in entry["things"]], entry["background"])


def load(paths):
    """(latents [n, 16, 4, g, g] fp16, masks [n, 16, g, g] bytes, scenes) of the parts."""
    latents, masks, scenes = [], [], []
    for path in paths:
        with np.load(path) as part:
            latents.append(torch.from_numpy(part["latents"]))
            masks.append(torch.from_numpy(part["masks"]))
            scenes += [scene_of(e) for e in json.loads(str(part["scenes"]))]
    return torch.cat(latents), torch.cat(masks), scenes


def part_paths(count=PARTS):
    return [WORK / f"clips-{i:02d}.npz" for i in range(count)]


def make_parts(rank, count):
    vae = load_vae()
    for i, path in enumerate(part_paths(count)):
        if i % WORLD == rank and not path.exists():
            make_part(vae, path, 300 + i)


if __name__ == "__main__":
    launch(make_parts, int(sys.argv[1]) if len(sys.argv) > 1 else PARTS)

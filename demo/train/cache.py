"""cache.py - stage 3: draws clips and keeps their latents, so that the VAE encodes them once.

The clips lie in parts of PART clips; a part that exists is not made again. Each part holds latents
(scaled, fp16), masks (which latent pixels belong to a thing) and for every clip a few captions as
token ids. Run: python cache.py [number of parts]; other stages use Clips.
"""
import sys

import numpy as np
import torch
from diffusers import AutoencoderKL

import draw
from common import CUDA, DEVICE, WORK, autocast, note
from scenes import CAPTIONS, GRID, any_scene, drawing_pool, draw_clip
from text import load_tokenizer, token_ids

PART, PARTS = 512, 24 if CUDA else 12
# What is encoded at once: frames.
TOGETHER = 512 if CUDA else 16


def load_vae():
    return AutoencoderKL.from_pretrained(WORK / "model/vae", torch_dtype=torch.float32).to(
        DEVICE).eval().requires_grad_(False)


def encode(vae, images):
    """Bytes [n, h, w, 3] -> scaled latents [n, 4, GRID, GRID]."""
    out = []
    for part in torch.from_numpy(images).split(TOGETHER):
        x = part.to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad(), autocast():
            out.append(vae.encode(x.contiguous()).latent_dist.mode().float())
    return torch.cat(out).cpu() * vae.config.scaling_factor


def make_part(pool, vae, path, seed, pick=any_scene, camera=None, style="plain", count=PART):
    """One part: drawn by the pool's processes, encoded here."""
    jobs = [(seed * 100000 + i, pick, camera, style) for i in range(count)]
    images, masks, told = zip(*pool.imap(draw_clip, jobs, chunksize=4))
    latents = encode(vae, np.concatenate(images)).half().numpy()
    ids = token_ids(load_tokenizer(), [text for lines in told for text, _ in lines]).cpu().numpy()
    with open(f"{path}.new", "wb") as file:
        np.savez(file, latents=latents.reshape(count, draw.FRAMES, 4, GRID, GRID),
                 masks=np.stack(masks),
                 ids=ids.reshape(count, CAPTIONS, -1).astype(np.int16),
                 motions=np.array([[m for _, m in lines] for lines in told], np.int16))
    (path.parent / f"{path.name}.new").rename(path)
    note(f"{path.name}: {count} clips")


def make_parts(jobs):
    """jobs: [(path, {make_part's arguments})]; those that exist are passed over."""
    jobs = [job for job in jobs if not job[0].exists()]
    if not jobs:
        return
    vae = load_vae()
    with drawing_pool() as pool:
        for path, arguments in jobs:
            make_part(pool, vae, path, **arguments)


def part_paths(count=PARTS):
    return [WORK / f"clips-{i:02d}.npz" for i in range(count)]


class Clips:
    """The clips of some parts on DEVICE; draws random batches with torch's generator.

    reader: the frozen text encoder, whose states [n, 77, 128] are kept for every caption; without
    one, batches hold token ids instead.
    """

    def __init__(self, paths, reader=None):
        parts = [np.load(path) for path in paths]

        def whole(name):
            return torch.from_numpy(np.concatenate([part[name] for part in parts])).to(DEVICE)
        self.latents, self.masks, self.ids = whole("latents"), whole("masks"), whole("ids")
        self.motions = whole("motions").long()
        self.spoken = self.ids[:, :, 1] != self.ids[:, :, -1]
        self.told = self.ids
        if reader:
            states = [reader.states(part).half() for part in self.ids.flatten(0, 1).split(512)]
            self.told = torch.cat(states).unflatten(0, self.ids.shape[:2])

    def pick(self, count):
        """Numbers of `count` clips and (states or ids, spoken, motion class) of a caption each."""
        clip = torch.randint(len(self.latents), (count,), device=DEVICE)
        line = torch.randint(CAPTIONS, (count,), device=DEVICE)
        told = self.told[clip, line]
        return clip, (told.float() if told.is_floating_point() else told.long(),
                      self.spoken[clip, line], self.motions[clip, line])

    def clips(self, count):
        """(x [count, 16, 4, g, g], masks [count, 16, g, g] in 0..1, told)."""
        clip, told = self.pick(count)
        return self.latents[clip].float(), self.masks[clip].float() / 255, told

    def frames(self, count):
        """(x [count, 4, g, g], masks [count, g, g] in 0..1, told)."""
        clip, told = self.pick(count)
        f = torch.randint(self.latents.shape[1], (count,), device=DEVICE)
        return self.latents[clip, f].float(), self.masks[clip, f].float() / 255, told


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    total = int(sys.argv[1]) if len(sys.argv) > 1 else PARTS
    make_parts([(path, {"seed": 300 + i}) for i, path in enumerate(part_paths(total))])

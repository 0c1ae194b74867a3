"""vae.py - stage 1: a small AutoencoderKL, trained on crops, then on whole frames.

Errors sit on the edges, so edges weigh more. The latents' spread is measured at the end and
written as scaling_factor. Run: python vae.py
"""
import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import draw
import grammar
from common import CUDA, DEVICE, WORK, Loop, autocast, finish, launch, note, save_half

FRAMES_FILE = WORK / "vae_frames.npy"
COUNT = 12288
CROP, WHOLE = 64, draw.SIZE
STEPS, WHOLE_FROM = 5000, 0.85
BATCH = 8


def new_model():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=draw.SIZE,
        block_out_channels=(32, 64, 64, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def draw_frames():
    """Single frames of all sorts: one or two objects, camera moves, styles."""
    if FRAMES_FILE.exists():
        return
    rng = random.Random(11)
    out = np.lib.format.open_memmap(str(FRAMES_FILE) + ".new", "w+", np.uint8,
                                    (COUNT, 3, draw.SIZE, draw.SIZE))
    for i in range(COUNT):
        camera = rng.choice(draw.CAMERAS) if rng.random() < 0.3 else None
        style = rng.choice(draw.STYLES[1:]) if rng.random() < 0.15 else "plain"
        frames = draw.plan_clip(grammar.random_scene(rng, two=0.2), rng, camera, style)
        f = rng.randrange(draw.FRAMES)
        out[i] = draw.render(frames[f:f + 1])[0].transpose(2, 0, 1)
    out.flush()
    (WORK / "vae_frames.npy.new").rename(FRAMES_FILE)
    note(f"{COUNT} frames drawn")


def edges(x):
    """Where the picture changes: absolute differences, spread by two pixels, 0..1."""
    dx = F.pad((x[:, :, :, 1:] - x[:, :, :, :-1]).abs(), (0, 1))
    dy = F.pad((x[:, :, 1:] - x[:, :, :-1]).abs(), (0, 0, 0, 1))
    strength = (dx + dy).mean(1, keepdim=True)
    return F.max_pool2d((strength * 4).clamp(max=1), 5, 1, 2)


def gradient_loss(a, b, weight):
    e = a - b
    dx = (e[:, :, :, 1:] - e[:, :, :, :-1]).abs() * weight[:, :, :, 1:]
    dy = (e[:, :, 1:] - e[:, :, :-1]).abs() * weight[:, :, 1:]
    return dx.mean() + dy.mean()


def batch_of(frames, rng, size, count):
    """Crops, three of four aimed at the middle of the frame where the objects are."""
    out = np.empty((count, 3, size, size), np.uint8)
    room = draw.SIZE - size
    for i in range(count):
        x, y = (int(np.clip(rng.normal(room / 2, room / 4), 0, room)) for _ in range(2))
        if rng.random() < 0.25:
            x, y = rng.integers(0, room + 1, 2)
        out[i] = frames[rng.integers(len(frames)), :, y:y + size, x:x + size]
    return torch.from_numpy(out).to(DEVICE).float() / 127.5 - 1


def losses(model, x):
    with autocast():
        mean, logvar = model.quant_conv(model.encoder(x)).chunk(2, 1)
    mean, logvar = mean.float(), logvar.float().clamp(-30, 20)
    z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
    with autocast():
        y = model.decoder(model.post_quant_conv(z))
    y = y.float()
    weight = 1 + 5 * edges(x)
    weight = weight / weight.mean(dim=(1, 2, 3), keepdim=True) ** 0.5
    error = y - x
    rec = (error.abs() * weight).mean() + 2 * (error ** 2 * weight).mean()
    rec = rec + 0.5 * gradient_loss(y, x, weight)
    kl = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    return rec, kl, (error ** 2).mean()


def measure_scale(model, frames):
    with torch.no_grad(), autocast():
        x = torch.from_numpy(frames[:512]).to(DEVICE).float() / 127.5 - 1
        z = torch.cat([model.encode(part).latent_dist.mode() for part in x.split(32)])
    return 1 / z.float().std().item()


def train(rank):
    torch.manual_seed(1)
    model = new_model().to(DEVICE)
    frames = np.load(FRAMES_FILE, mmap_mode="r")
    loop = Loop("vae", rank, {"vae": model}, STEPS, 1.6e-3, decay=0.998, batch=BATCH, hold=0.45)
    while not loop.done:
        rng = np.random.default_rng(loop.seed())
        torch.manual_seed(loop.seed())
        whole = loop.step >= WHOLE_FROM * STEPS
        x = batch_of(frames, rng, WHOLE if whole else CROP, BATCH // 4 if whole else BATCH)
        rec, kl, mse = losses(model, x)
        loop.update(rec + 5e-4 * kl, rec=rec, kl=kl, mse=mse)

    def write():
        save_half(model, WORK / "model/vae", scaling_factor=round(measure_scale(model, frames), 4))
    finish(loop, write)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    draw_frames()
    launch(train)
    note(f"vae written, cuda {CUDA}")

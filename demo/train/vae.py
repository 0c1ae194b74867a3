"""vae.py - stage 1: a small AutoencoderKL, trained on crops, then on whole frames.

Errors sit on the edges, so edges weigh more. The latents' spread is measured at the end and
written as scaling_factor. Run: python vae.py
"""
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import draw
from common import CUDA, DEVICE, WORK, Loop, autocast, finish, launch, note, save_half
from scenes import draw_frame, drawing_pool

FRAMES_FILE = WORK / "vae_frames.npy"
COUNT = 12288
CROP, WHOLE = 64, draw.SIZE
WHOLE_FROM = 0.85
STEPS, BATCH = (3000, 256) if CUDA else (5000, 8)


def new_model():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=draw.SIZE,
        block_out_channels=(32, 64, 64, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def draw_frames():
    """All frames [COUNT, 3, 128, 128] as bytes, in a file."""
    if FRAMES_FILE.exists():
        return
    with drawing_pool() as pool:
        frames = np.stack(pool.map(draw_frame, range(COUNT), chunksize=64))
    np.save(WORK / "vae_frames.new.npy", frames)
    (WORK / "vae_frames.new.npy").rename(FRAMES_FILE)
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


def batch_of(frames, size, count):
    """Crops, three of four aimed at the middle of the frame where the objects are."""
    room = draw.SIZE - size
    middle = (room / 2 + room / 4 * torch.randn(2, count, device=DEVICE)).clamp(0, room)
    aimed = torch.rand(count, device=DEVICE) < 0.75
    start = torch.where(aimed, middle, (room + 0.99) * torch.rand(2, count, device=DEVICE)).long()
    pick = torch.randint(len(frames), (count, 1, 1, 1), device=DEVICE)
    along = torch.arange(size, device=DEVICE)
    y, x = start.view(2, count, 1, 1, 1)
    rgb = torch.arange(3, device=DEVICE).view(1, 3, 1, 1)
    crops = frames[pick, rgb, y + along.view(1, 1, size, 1), x + along.view(1, 1, 1, size)]
    return crops.float() / 127.5 - 1


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
        z = [model.encode(part.float() / 127.5 - 1).latent_dist.mode()
             for part in frames[:512].split(32)]
    return 1 / torch.cat(z).float().std().item()


def train(rank):
    torch.manual_seed(1)
    model = new_model().to(DEVICE)
    frames = torch.from_numpy(np.load(FRAMES_FILE, mmap_mode="c")).to(DEVICE)
    loop = Loop("vae", rank, {"vae": model}, STEPS, 1.6e-3, decay=0.998, batch=BATCH, hold=0.45)

    def loss_of(size, count):
        rec, kl, mse = losses(model, batch_of(frames, size, count))
        return rec + 5e-4 * kl, {"rec": rec, "kl": kl, "mse": mse}
    loop.run(lambda: loss_of(CROP, BATCH), part=WHOLE_FROM)
    loop.run(lambda: loss_of(WHOLE, BATCH // 4))

    def write():
        save_half(model, WORK / "model/vae", scaling_factor=round(measure_scale(model, frames), 4))
    finish(loop, write)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    draw_frames()
    launch(train)
    note(f"vae written, cuda {CUDA}")

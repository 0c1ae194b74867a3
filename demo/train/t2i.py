"""t2i.py - stage 4: the UNet learns single frames from captions.

The captions hold motion words although a frame does not move: the frozen UNet must pass them on to
the motion module, which never sees text. Small probes, dropped afterwards, read the motion from
the features of every block and so keep the words alive there. Run: python t2i.py
"""
import torch
import torch.nn.functional as F
from torch import nn

import cache
import grammar
from common import CUDA, DEVICE, WORK, Loop, autocast, finish, launch, save_half
from diffusion import (LEVELS, Reader, draw_times, guided_answer, new_scheduler, new_unet, noised,
                       weighted_loss)

STEPS, BATCH, PEAK = (12000, 256, 1.5e-3) if CUDA else (16000, 32, 1e-3)
GUIDED_FROM = 0.15
PROBE = 0.03


class Probes(nn.Module):
    """One 1x1 convolution per block: the motion as ten classes at every place."""

    def __init__(self, unet):
        super().__init__()
        a, b, c = LEVELS
        blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
        self.heads = nn.ModuleList(
            nn.Conv2d(width, len(grammar.MOTIONS), 1) for width in (a, b, c, c, c, b, a))
        self.seen = [None] * len(blocks)
        for i, block in enumerate(blocks):
            block.register_forward_hook(self.keeper(i))

    def keeper(self, i):
        def keep(_module, _inputs, output):
            self.seen[i] = output[0] if isinstance(output, tuple) else output
        return keep

    def loss(self, classes):
        """classes [n], -100 where nothing is said or two things move differently."""
        total = 0.0
        for head, features in zip(self.heads, self.seen):
            with autocast():
                logits = head(features)
            wanted = classes.view(-1, 1, 1).expand(-1, *logits.shape[2:])
            total = total + F.cross_entropy(logits.float(), wanted, ignore_index=-100)
        return total / len(self.heads)


def train(rank):
    torch.manual_seed(4)
    unet = new_unet()
    probes = Probes(unet).to(DEVICE)
    reader = Reader()
    nothing = reader([""])
    clips = cache.Clips([p for p in cache.part_paths() if p.exists()], reader)
    loop = Loop("t2i", rank, {"unet": unet, "probes": probes}, STEPS, PEAK, decay=0.999,
                batch=BATCH, hold=0.5)

    def loss_of(guided):
        x, m, (states, spoken, motions) = clips.frames(BATCH)
        t = draw_times(BATCH)
        noisy, wanted = noised(x, torch.randn_like(x), t)

        def answer(states):
            with autocast():
                return unet(noisy, t, states).sample
        v = guided_answer(answer, states, nothing, spoken) if guided else answer(states)
        loss = weighted_loss(v, wanted, t, m)
        probe = probes.loss(motions)
        return loss + PROBE * probe, {"v": loss, "probe": probe}
    loop.run(lambda: loss_of(False), part=GUIDED_FROM, every=100)
    loop.run(lambda: loss_of(True), every=100, keep=500)

    def write():
        save_half(unet, WORK / "model/unet")
        new_scheduler().save_pretrained(WORK / "model/scheduler")
    finish(loop, write)


if __name__ == "__main__":
    launch(train)

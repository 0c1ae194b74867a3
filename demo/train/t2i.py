"""t2i.py - stage 4: the UNet learns single frames from captions.

The captions hold motion words although a frame does not move: the frozen UNet must pass them on to
the motion module, which never sees text. Small probes, dropped afterwards, read the motion from
the features of every block and so keep the words alive there. Run: python t2i.py
"""
import random

import torch
import torch.nn.functional as F
from torch import nn

import cache
import grammar
from common import CUDA, DEVICE, WORK, Loop, autocast, finish, launch, save_half
from diffusion import (LEVELS, Reader, draw_times, guided_answer, new_scheduler, new_unet, noised,
                       weighted_loss)

STEPS, BATCH, PEAK = 16000, 32, 1e-3
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


def motion_class(scene):
    if len(scene.things) != 1 or scene.things[0].motion is None:
        return -100
    return grammar.MOTIONS.index(scene.things[0].motion)


def batch_of(latents, masks, scenes, rng, count, empty=0.1):
    picks = [(rng.randrange(len(scenes)), rng.randrange(latents.shape[1])) for _ in range(count)]
    x = torch.stack([latents[i, f] for i, f in picks]).to(DEVICE).float()
    m = torch.stack([masks[i, f] for i, f in picks]).to(DEVICE).float() / 255
    told = [grammar.tell(scenes[i], rng, empty) for i, _ in picks]
    classes = torch.tensor([motion_class(said) for _, said in told], device=DEVICE)
    return x, m, [text for text, _ in told], classes


def train(rank):
    torch.manual_seed(4)
    unet = new_unet()
    probes = Probes(unet).to(DEVICE)
    reader = Reader()
    nothing = reader([""])
    latents, masks, scenes = cache.load([p for p in cache.part_paths() if p.exists()])
    batch = BATCH * 2 if CUDA else BATCH
    loop = Loop("t2i", rank, {"unet": unet, "probes": probes}, STEPS, PEAK, decay=0.999,
                batch=batch, hold=0.5)
    while not loop.done:
        rng = random.Random(loop.seed())
        torch.manual_seed(loop.seed())
        x, m, captions, classes = batch_of(latents, masks, scenes, rng, batch)
        t = draw_times(len(x))
        noisy, wanted = noised(x, torch.randn_like(x), t)
        states = reader(captions)

        def answer(states):
            with autocast():
                return unet(noisy, t, states).sample
        v = (answer(states) if loop.step < GUIDED_FROM * STEPS
             else guided_answer(answer, states, nothing, captions))
        loss = weighted_loss(v, wanted, t, m)
        probe = probes.loss(classes)
        loop.update(loss + PROBE * probe, every=100, v=loss, probe=probe)

    def write():
        save_half(unet, WORK / "model/unet")
        new_scheduler().save_pretrained(WORK / "model/scheduler")
    finish(loop, write)


if __name__ == "__main__":
    launch(train)

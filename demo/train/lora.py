"""lora.py - stage 6: eight motion LoRAs, two style LoRAs and one textual inversion.

Low-rank additions are put into the frozen model, trained on clips with a camera move or frames in
a style, and written in the key layouts the world uses: diffusers' for motion, kohya's for styles.
Run: python lora.py motion | style | embedding
"""
import random
import sys

import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

import cache
import draw
import grammar
from common import DEVICE, WORK, WORLD, Loop, autocast, finish, launch
from diffusion import Reader, draw_times, guided_answer, noised, plain_attention, weighted_loss
from motion import animated, clip_batch, clip_loss
from text import token_ids

MOTION_RANK, STYLE_RANK = 8, 8
MOTION_STEPS, STYLE_STEPS, EMBED_STEPS = 400, 500, 300
TOKEN = "<firefly>"
FIREFLY = grammar.Scene([grammar.Thing("yellow", "star", "still")], "night")


class Lora(nn.Module):
    """A layer y = base(x) + up(down(x)); up starts at zero."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        if isinstance(base, nn.Conv2d):
            self.down = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride,
                                  base.padding, bias=False)
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.normal_(self.down.weight, std=self.down.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def inject(model, wanted, rank):
    """Replace every Linear or Conv2d whose path passes wanted(path): {path: Lora}."""
    found = {}
    for path, module in list(model.named_modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)) and wanted(path):
            parent, _, leaf = path.rpartition(".")
            found[path] = Lora(module, rank).to(DEVICE)
            setattr(model.get_submodule(parent), leaf, found[path])
    return found


def half(tensor):
    return tensor.detach().half().contiguous().cpu()


class Holder(nn.Module):
    """The trainable matrices alone, for Loop."""

    def __init__(self, loras):
        super().__init__()
        self.parts = nn.ModuleList(nn.ModuleList([x.down, x.up]) for x in loras.values())


# ---- motion ---------------------------------------------------------------------------------

def camera_scene(rng):
    """Mostly things that stand still: what moves then is the camera."""
    scene = grammar.random_scene(rng, two=0)
    if rng.random() < 0.7:
        scene.things[0].motion = "still"
    return scene if grammar.allowed(scene) else camera_scene(rng)


def camera_part(camera):
    path = WORK / f"camera-{camera}.npz"
    if not path.exists():
        seed = 600 + draw.CAMERAS.index(camera)
        cache.make_part(cache.load_vae(), path, seed, camera, pick=camera_scene, count=160)
    return path


def is_temporal(path):
    return ".motion_modules." in path and ".attn" in path


def motion_keys(loras):
    """diffusers' published names: ...attn1.processor.to_q_lora.down.weight."""
    out = {}
    for path, lora in loras.items():
        attention, leaf = path.replace("to_out.0", "to_out").rsplit(".", 1)
        for side in ("down", "up"):
            out[f"unet.{attention}.processor.{leaf}_lora.{side}.weight"] = half(
                getattr(lora, side).weight)
    return out


def train_motion(rank):
    for camera in draw.CAMERAS:
        target = WORK / f"motion_lora/{camera}.safetensors"
        if not target.exists():
            train_camera(rank, camera, target)


def train_camera(rank, camera, target):
    torch.manual_seed(6)
    adapter = MotionAdapter.from_pretrained(WORK / "model/motion_adapter",
                                            torch_dtype=torch.float32)
    model, reader = animated(adapter), Reader()
    loras = inject(model, is_temporal, MOTION_RANK)
    latents, masks, scenes = cache.load([WORK / f"camera-{camera}.npz"])
    loop = Loop(f"lora-{camera}", rank, {"lora": Holder(loras)}, MOTION_STEPS, 2e-3, decay=0.98,
                batch=2, hold=0.5, weight_decay=0.0)
    while not loop.done:
        rng = random.Random(loop.seed())
        torch.manual_seed(loop.seed())
        x, m, captions = clip_batch(latents, masks, scenes, rng, 2)
        loop.update(clip_loss(model, reader, x, m, captions), every=100)

    def write():
        target.parent.mkdir(exist_ok=True)
        save_file(motion_keys(loras), target)
    finish(loop, write)


# ---- styles ---------------------------------------------------------------------------------

def style_part(style):
    path = WORK / f"style-{style}.npz"
    if not path.exists():
        seed = 700 + draw.STYLES.index(style)
        cache.make_part(cache.load_vae(), path, seed, style=style, count=160)
    return path


def in_unet(path):
    """What kohya's trainer adapts, with its convolutions: attentions and residual blocks."""
    return ((".attentions." in path and not path.endswith(("norm",)))
            or path.endswith(("conv1", "conv2", "conv_shortcut")))


def in_text(path):
    return ".encoder.layers." in path


def kohya_keys(prefix, loras):
    out = {}
    for path, lora in loras.items():
        name = prefix + path.replace(".", "_")
        out[f"{name}.lora_down.weight"] = half(lora.down.weight)
        out[f"{name}.lora_up.weight"] = half(lora.up.weight)
        out[f"{name}.alpha"] = torch.tensor(float(lora.down.weight.shape[0]), dtype=torch.float16)
    return out


def style_batch(latents, masks, scenes, rng, count):
    picks = [(rng.randrange(len(scenes)), rng.randrange(draw.FRAMES)) for _ in range(count)]
    x = torch.stack([latents[i, f] for i, f in picks]).to(DEVICE).float()
    m = torch.stack([masks[i, f] for i, f in picks]).to(DEVICE).float() / 255
    return x, m, [grammar.tell(scenes[i], rng, 0.1)[0] for i, _ in picks]


def frame_loss(unet, reader, x, m, captions):
    t = draw_times(len(x))
    noisy, wanted = noised(x, torch.randn_like(x), t)

    def answer(states):
        with autocast():
            return unet(noisy, t, states).sample
    states, nothing = (reader.encoder(token_ids(reader.tokenizer, lines)).last_hidden_state
                       for lines in (captions, [""]))
    v = guided_answer(answer, states, nothing, captions)
    return weighted_loss(v, wanted, t, m)


def frozen_unet():
    unet = UNet2DConditionModel.from_pretrained(WORK / "model/unet", torch_dtype=torch.float32)
    return plain_attention(unet.to(DEVICE)).requires_grad_(False)


def train_style(rank):
    for style in draw.STYLES[1:]:
        target = WORK / f"lora/{style}.safetensors"
        if target.exists():
            continue
        torch.manual_seed(7)
        unet, reader = frozen_unet(), Reader()
        image = inject(unet, in_unet, STYLE_RANK)
        words = inject(reader.encoder, in_text, 4)
        latents, masks, scenes = cache.load([WORK / f"style-{style}.npz"])
        loop = Loop(f"style-{style}", rank, {"unet": Holder(image), "text": Holder(words)},
                    STYLE_STEPS, 2e-3, decay=0.98, batch=24, hold=0.5, weight_decay=0.0)
        while not loop.done:
            rng = random.Random(loop.seed())
            torch.manual_seed(loop.seed())
            x, m, captions = style_batch(latents, masks, scenes, rng, 24)
            loop.update(frame_loss(unet, reader, x, m, captions), every=100)

        def write():
            target.parent.mkdir(exist_ok=True)
            save_file({**kohya_keys("lora_unet_", image), **kohya_keys("lora_te_", words)}, target)
        finish(loop, write)


# ---- embedding ------------------------------------------------------------------------------

class WithToken(nn.Module):
    """The frozen token table with one more, trainable row."""

    def __init__(self, table, start):
        super().__init__()
        self.table = table
        self.row = nn.Parameter(table.weight[start].clone().float())

    def forward(self, ids):
        known = self.table(ids.clamp(max=len(self.table.weight) - 1))
        return torch.where((ids == len(self.table.weight)).unsqueeze(-1), self.row, known)


def firefly_part():
    path = WORK / "firefly.npz"
    if not path.exists():
        def pick(rng):
            motion = rng.choice([m for m in grammar.MOTIONS if m != "falling"])
            return grammar.Scene([grammar.Thing("yellow", "star", motion)], "night")
        cache.make_part(cache.load_vae(), path, 800, pick=pick, count=64)
    return path


def train_embedding(rank):
    torch.manual_seed(8)
    unet, reader = frozen_unet(), Reader()
    start = reader.tokenizer("star").input_ids[1]
    reader.tokenizer.add_tokens(TOKEN)
    embeddings = reader.encoder.text_model.embeddings
    embeddings.token_embedding = WithToken(embeddings.token_embedding, start)
    row = embeddings.token_embedding.row
    latents, masks, scenes = cache.load([WORK / "firefly.npz"])
    loop = Loop("embedding", rank, {"text": reader.encoder}, EMBED_STEPS, 3e-2, decay=0.95,
                batch=24, hold=0.4, weight_decay=0.0)
    while not loop.done:
        rng = random.Random(loop.seed())
        torch.manual_seed(loop.seed())
        x, m, _ = style_batch(latents, masks, scenes, rng, 24)
        captions = [f"a {TOKEN}"] * len(x)
        loop.update(frame_loss(unet, reader, x, m, captions), every=50)

    def write():
        (WORK / "embedding").mkdir(exist_ok=True)
        save_file({TOKEN: half(row)}, WORK / "embedding/firefly.safetensors")
    finish(loop, write)


# ---- stages ---------------------------------------------------------------------------------

def prepare(rank):
    """The extra clips, shared out among the workers."""
    jobs = [(camera_part, c) for c in draw.CAMERAS] + [(style_part, s) for s in draw.STYLES[1:]]
    jobs.append((lambda _: firefly_part(), None))
    for i, (make, name) in enumerate(jobs):
        if i % WORLD == rank:
            make(name)


if __name__ == "__main__":
    stages = {"motion": train_motion, "style": train_style, "embedding": train_embedding}
    if len(sys.argv) != 2 or sys.argv[1] not in stages:
        raise SystemExit(__doc__)
    launch(prepare)
    launch(stages[sys.argv[1]])

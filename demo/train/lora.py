"""lora.py - stage 6: eight motion LoRAs, two style LoRAs and one textual inversion.

Low-rank additions are put into the frozen model, trained on clips with a camera move or frames in
a style, and written in the key layouts the world uses: diffusers' for motion, kohya's for styles.
Run: python lora.py motion | style | embedding
"""
import sys

import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

import cache
import draw
from common import CUDA, DEVICE, WORK, Loop, autocast, finish, launch
from diffusion import Reader, draw_times, guided_answer, noised, plain_attention, weighted_loss
from motion import animated, clip_loss
from scenes import camera_scene, firefly_scene
from text import token_ids

MOTION_RANK, STYLE_RANK = 8, 4
MOTION_STEPS, STYLE_STEPS, EMBED_STEPS = 400, 500, 300
MOTION_BATCH = 8 if CUDA else 2
CLIPS = 320 if CUDA else 160
STYLE_BATCH = 24
TOKEN = "<firefly>"


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
    nothing = reader([""])
    loras = inject(model, is_temporal, MOTION_RANK)
    clips = cache.Clips([WORK / f"camera-{camera}.npz"], reader)
    loop = Loop(f"lora-{camera}", rank, {"lora": Holder(loras)}, MOTION_STEPS, 2e-3, decay=0.98,
                batch=MOTION_BATCH, hold=0.5, weight_decay=0.0)
    loop.run(lambda: (clip_loss(model, nothing, *clips.clips(MOTION_BATCH)), {}), every=100)

    def write():
        target.parent.mkdir(exist_ok=True)
        save_file(motion_keys(loras), target)
    finish(loop, write)


# ---- styles ---------------------------------------------------------------------------------

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


def frame_loss(unet, reader, x, m, told):
    """Like stage 4's, through the text encoder, which is adapted too. told holds token ids."""
    ids, spoken, _ = told
    t = draw_times(len(x))
    noisy, wanted = noised(x, torch.randn_like(x), t)

    def answer(states):
        with autocast():
            return unet(noisy, t, states).sample
    states = reader.encoder(ids).last_hidden_state
    nothing = reader.encoder(token_ids(reader.tokenizer, [""])).last_hidden_state
    return weighted_loss(guided_answer(answer, states, nothing, spoken), wanted, t, m)


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
        words = inject(reader.encoder, in_text, STYLE_RANK)
        clips = cache.Clips([WORK / f"style-{style}.npz"])
        loop = Loop(f"style-{style}", rank, {"unet": Holder(image), "text": Holder(words)},
                    STYLE_STEPS, 2e-3, decay=0.98, batch=STYLE_BATCH, hold=0.5, weight_decay=0.0)
        loop.run(lambda: (frame_loss(unet, reader, *clips.frames(STYLE_BATCH)), {}), every=100,
                 graph=False)

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


def train_embedding(rank):
    torch.manual_seed(8)
    unet, reader = frozen_unet(), Reader()
    start = reader.tokenizer("star").input_ids[1]
    reader.tokenizer.add_tokens(TOKEN)
    embeddings = reader.encoder.text_model.embeddings
    embeddings.token_embedding = WithToken(embeddings.token_embedding, start)
    row = embeddings.token_embedding.row
    clips = cache.Clips([WORK / "firefly.npz"])
    ids = token_ids(reader.tokenizer, [f"a {TOKEN}"]).expand(STYLE_BATCH, -1)
    spoken = torch.ones(STYLE_BATCH, dtype=torch.bool, device=DEVICE)
    loop = Loop("embedding", rank, {"text": reader.encoder}, EMBED_STEPS, 3e-2, decay=0.95,
                batch=STYLE_BATCH, hold=0.4, weight_decay=0.0)

    def loss_of():
        x, m, _ = clips.frames(STYLE_BATCH)
        return frame_loss(unet, reader, x, m, (ids, spoken, None)), {}
    loop.run(loss_of, graph=False)

    def write():
        (WORK / "embedding").mkdir(exist_ok=True)
        save_file({TOKEN: half(row)}, WORK / "embedding/firefly.safetensors")
    finish(loop, write)


# ---- stages ---------------------------------------------------------------------------------

def prepare():
    """The extra clips."""
    jobs = [(WORK / f"camera-{camera}.npz",
             {"seed": 600 + i, "pick": camera_scene, "camera": camera, "count": CLIPS})
            for i, camera in enumerate(draw.CAMERAS)]
    jobs += [(WORK / f"style-{style}.npz", {"seed": 700 + i, "style": style, "count": CLIPS})
             for i, style in enumerate(draw.STYLES[1:])]
    jobs.append((WORK / "firefly.npz", {"seed": 800, "pick": firefly_scene, "count": 64}))
    cache.make_parts(jobs)


STAGES = {"motion": train_motion, "style": train_style, "embedding": train_embedding}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        raise SystemExit(__doc__)
    prepare()
    launch(STAGES[sys.argv[1]])

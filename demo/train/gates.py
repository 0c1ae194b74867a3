"""gates.py - after every stage the judge looks at its result; a bad one stops the training.

Run: python gates.py vae | text | frames (clips: evaluate.py). Each prints what was measured, keeps it in the
work folder for the README, and exits with 1 below its threshold.
"""
import json
import random
import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

import cache
import draw
import grammar
import text
from common import CUDA, DEVICE, WORK, autocast, note
from diffusion import Reader, new_scheduler, plain_attention

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import judge                                                                     # noqa: E402

if not CUDA:
    torch.set_num_threads(2)


def as_bytes(image):
    """[n, 3, h, w] in -1..1 -> numpy bytes [n, h, w, 3]."""
    image = (image.float().clamp(-1, 1) * 127.5 + 127.5).round().byte()
    return image.permute(0, 2, 3, 1).cpu().numpy()


def look(frame):
    """(colour, shape, background) of a single frame by the judge."""
    clip = frame[None]
    background = judge.background_of(clip)[0]
    masks = judge.things_in(clip)[0][:1]
    if not masks:
        return "none", "none", background
    colour = judge.colour_of(clip, masks)[0]
    return colour, judge.SHAPE_NAMES[int(judge.match(masks[0])[0].argmax())], background


def seen_thing(rng):
    """A one-object scene whose single frames show the thing, and in its own shape."""
    while True:
        scene = grammar.random_scene(rng, two=0)
        if scene.things[0].motion not in ("blinking", "bouncing"):
            return scene


def unseen_thing(rng):
    """A scene whose (colour, shape) or (shape, motion) no stage has seen."""
    while True:
        thing = grammar.Thing(rng.choice(grammar.COLOUR_NAMES), rng.choice(grammar.SHAPES),
                              rng.choice(grammar.MOTIONS))
        scene = grammar.Scene([thing], rng.choice(grammar.BACKGROUNDS))
        white = thing.colour == "white" and scene.background == "white"
        if grammar.held_out(thing) and not white:
            return scene


def share(rows):
    """[(got, wanted)] per question -> percent right."""
    return {k: round(100 * sum(g == w for g, w in v) / len(v), 1) for k, v in rows.items()}


def keep(name, result, limits):
    """Print and store a result; exit 1 if a share is below its limit."""
    print(name, json.dumps(result), flush=True)
    (WORK / f"gate-{name}.json").write_text(json.dumps(result))
    low = [k for k, v in limits.items() if result[k] < v]
    if low:
        raise SystemExit(f"{name}: below the gate: {', '.join(low)} (wanted {limits})")


def gate_vae(count=400):
    vae, rng = cache.load_vae(), random.Random(31)
    rows = {"colour": [], "shape": [], "background": []}
    error = []
    for _ in range(count):
        scene = seen_thing(rng)
        frames = draw.plan_clip(scene, rng)
        f = rng.randrange(draw.FRAMES)
        x = torch.from_numpy(draw.render(frames[f:f + 1])).to(DEVICE)
        x = x.permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad(), autocast():
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample.float()
        error.append(((x - y) ** 2).mean().item())
        thing = scene.things[0]
        wanted = (thing.colour, thing.shape, scene.background)
        for k, g, w in zip(rows, look(as_bytes(y)[0]), wanted):
            rows[k].append((g, w))
    psnr = torch.tensor(error).mean()
    result = {**share(rows), "psnr": round((10 * torch.log10(4 / psnr)).item(), 2)}
    keep("vae", result, {"colour": 99.5, "shape": 97.0, "background": 99.5})


def gate_text(count=2000):
    rng, reader = random.Random(32), Reader()
    book = text.code_book()
    texts, scenes = text.examples(rng, count)
    for scene in [unseen_thing(rng) for _ in range(count // 4)]:
        texts.append(grammar.caption(scene, rng))
        scenes.append(scene)
    sums = {}
    for i in range(0, len(texts), 100):
        ids = text.token_ids(reader.tokenizer, texts[i:i + 100])
        wanted = text.targets(book, ids, scenes[i:i + 100], reader.tokenizer.eos_token_id)
        right = text.read_right(book, reader(texts[i:i + 100]), wanted.to(DEVICE))
        for k, v in right.items():
            sums.setdefault(k, []).append(v.item())
    keep("text", {k: round(100 * sum(v) / len(v), 2) for k, v in sums.items()},
         {"colour": 99, "shape": 99, "motion": 99, "background": 99})


@torch.no_grad()
def sample_frames(unet, vae, reader, captions, guidance, steps=25, seed=0):
    """Single frames by DDIM: bytes [n, h, w, 3]."""
    scheduler = new_scheduler()
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(captions), 4, 16, 16, generator=generator).to(DEVICE)
    states = torch.cat([reader([""] * len(captions)), reader(captions)])
    for t in scheduler.timesteps:
        with autocast():
            v = unet(torch.cat([x, x]), t.to(DEVICE), states).sample.float()
        free, told = v.chunk(2)
        x = scheduler.step(free + guidance * (told - free), t, x).prev_sample
    with autocast():
        return as_bytes(vae.decode(x / vae.config.scaling_factor).sample)


def judge_frames(unet, count, guidance, pick, seed=33, keep_images=None):
    vae, reader, rng = cache.load_vae(), Reader(), random.Random(seed)
    rows = {"colour": [], "shape": [], "background": []}
    for start in range(0, count, 32):
        scenes = [pick(rng) for _ in range(32)]
        for scene in scenes:
            if scene.things[0].motion in ("blinking", "bouncing"):
                scene.things[0].motion = "still"
        captions = [grammar.caption(s, rng, plain=True) for s in scenes]
        frames = sample_frames(unet, vae, reader, captions, guidance, seed=seed + start)
        if keep_images is not None:
            keep_images.append(frames)
        for frame, scene in zip(frames, scenes):
            thing = scene.things[0]
            for k, g, w in zip(rows, look(frame),
                               (thing.colour, thing.shape, scene.background)):
                rows[k].append((g, w))
    return share(rows)


def gate_frames(count=192):
    unet = plain_attention(UNet2DConditionModel.from_pretrained(WORK / "model/unet").to(DEVICE))
    seen = judge_frames(unet, count, 7.5, seen_thing)
    unseen = judge_frames(unet, count // 2, 7.5, unseen_thing)
    result = {**seen, **{f"unseen {k}": v for k, v in unseen.items()}}
    keep("frames", result, {"colour": 95, "shape": 88, "background": 97})


if __name__ == "__main__":
    gate = globals().get(f"gate_{sys.argv[1]}") if len(sys.argv) == 2 else None
    if gate is None:
        raise SystemExit(__doc__)
    gate()
    note(f"gate {sys.argv[1]} passed")

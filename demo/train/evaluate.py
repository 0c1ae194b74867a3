"""evaluate.py - the judge's table: makes clips with diffusers' own AnimateDiffPipeline.

Prompts are never training captions: their wordings are plain, their scenes random, half of them
from the held-out combinations. Settings are the users' defaults: 25 steps, guidance 7.5.
Run: python evaluate.py [clips per group] [model folder]
"""
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AnimateDiffPipeline
from transformers import CLIPTokenizerFast

import grammar
from common import DEVICE, WORK, WORLD, launch
from gates import judge, share, unseen_thing

STEPS, GUIDANCE = 25, 7.5
LIMITS = {"background": 97, "colour": 97, "shape": 90, "motion": 93}
GAP = 5


def load_pipeline(folder=None):
    folder = Path(folder or WORK / "model")
    tokenizer = CLIPTokenizerFast.from_pretrained(folder / "tokenizer", model_max_length=77)
    pipe = AnimateDiffPipeline.from_pretrained(folder, tokenizer=tokenizer,
                                               torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(DEVICE)
    for part in (pipe.unet, pipe.vae):
        part.to(torch.bfloat16)
    return pipe


@torch.no_grad()
def make_clip(pipe, prompt, seed, negative="", steps=STEPS, guidance=GUIDANCE):
    """One clip of 16 frames as bytes [16, h, w, 3]."""
    told, free = pipe.encode_prompt(prompt, DEVICE, 1, guidance > 1, negative)
    half = torch.bfloat16
    out = pipe(prompt_embeds=told.to(half),
               negative_prompt_embeds=None if free is None else free.to(half),
               num_frames=16, num_inference_steps=steps, guidance_scale=guidance,
               generator=torch.Generator("cpu").manual_seed(seed), output_type="np")
    return (np.clip(out.frames[0], 0, 1) * 255).round().astype(np.uint8)


def any_seen(rng):
    return grammar.random_scene(rng, two=0)


def two_seen(rng):
    return grammar.random_scene(rng, two=1)


def judged(clip, scene):
    """Per question a list of (got, wanted); two things are matched by colour."""
    result = judge.judge(clip, len(scene.things))
    rows = {"background": [(result["background"], scene.background)],
            "colour": [], "shape": [], "motion": []}
    left = list(result["things"])
    for thing in scene.things:
        got = next((g for g in left if g["colour"] == thing.colour), left[0])
        left.remove(got)
        for k in ("colour", "shape", "motion"):
            rows[k].append((got[k], getattr(thing, k)))
    return rows, result


def run_group(pipe, pick, seed, count, rank=0, world=1, log=None):
    rng, rows = random.Random(seed), []
    for i in range(count):
        scene = pick(rng)
        prompt = grammar.caption(scene, rng, plain=True)
        if i % world != rank:
            continue
        clip = make_clip(pipe, prompt, seed * 1000 + i)
        answers, result = judged(clip, scene)
        rows.append(answers)
        wrong = {k: v for k, v in answers.items() if any(g != w for g, w in v)}
        if log and wrong:
            print(prompt, "|", seed * 1000 + i, json.dumps(wrong), json.dumps(result["things"]),
                  file=log, flush=True)
    return rows


def merge(rows):
    out = {}
    for answers in rows:
        for k, v in answers.items():
            out.setdefault(k, []).extend(v)
    return out


GROUPS = {"seen": (any_seen, 51), "unseen": (unseen_thing, 52), "two": (two_seen, 53)}


def table_worker(rank, count, folder):
    pipe = load_pipeline(folder)
    for name, (pick, seed) in GROUPS.items():
        path = WORK / f"table-{name}-{rank}.json"
        with open(WORK / f"wrong-{name}-{rank}.txt", "w") as log:
            rows = run_group(pipe, pick, seed, count if name != "two" else count // 3, rank,
                             WORLD, log)
        path.write_text(json.dumps(rows))


def table(count, folder):
    launch(table_worker, count, folder)
    result = {}
    for name in GROUPS:
        rows = []
        for rank in range(WORLD):
            rows += json.loads((WORK / f"table-{name}-{rank}.json").read_text())
        result[name] = {**share(merge(rows)), "clips": len(rows)}
        print(name, json.dumps(result[name]), flush=True)
    (WORK / "gate-clips.json").write_text(json.dumps(result))
    one = {k: (result["seen"][k] + result["unseen"][k]) / 2 for k in LIMITS}
    low = [k for k, v in LIMITS.items() if one[k] < v]
    low += [f"unseen {k}" for k in LIMITS if result["unseen"][k] < result["seen"][k] - GAP]
    if low:
        raise SystemExit(f"below the gate: {', '.join(low)}")


if __name__ == "__main__":
    table(int(sys.argv[1]) if len(sys.argv) > 1 else 100,
          sys.argv[2] if len(sys.argv) > 2 else None)

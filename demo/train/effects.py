"""effects.py - every switch does something: each is measured by the judge on generated clips.

Negative prompt, guidance scale, eight motion LoRAs, two opposite ones at half weight, two style
LoRAs, the embedding. Run: python effects.py [clips per case, default 20] [demo folder]
"""
import json
import random
import sys
from pathlib import Path

import numpy as np

import grammar
from common import WORK, WORLD, launch
from draw import CAMERAS
from evaluate import any_seen, judged, load_pipeline, make_clip
from gates import judge

# Where the picture must move for each camera: number, sign, least amount.
FLOW = {"zoom-in": ("zoom", 1, 0.08), "zoom-out": ("zoom", -1, 0.08), "pan-left": ("x", 1, 8),
        "pan-right": ("x", -1, 8), "tilt-up": ("y", 1, 8), "tilt-down": ("y", -1, 8),
        "rolling-clockwise": ("roll", -1, 8), "rolling-anticlockwise": ("roll", 1, 8)}


def still_prompt(rng):
    while True:
        scene = any_seen(rng)
        scene.things[0].motion = "still"
        if grammar.allowed(scene):
            return grammar.caption(scene, rng, plain=True)


def moved(flow, camera):
    number, sign, least = FLOW[camera]
    value = np.log(flow["zoom"]) if number == "zoom" else flow[number]
    return bool(sign * value > least)


def use(pipe, folder, **weights):
    """Exactly these LoRA files (name -> weight) are active."""
    pipe.unload_lora_weights()
    names = []
    for i, (name, _) in enumerate(weights.items()):
        pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=f"a{i}")
        names.append(f"a{i}")
    if names:
        pipe.set_adapters(names, list(weights.values()))


def motion_case(pipe, home, camera, count):
    use(pipe, home / "motion_lora", **{camera: 1.0})
    rng = random.Random(71)
    flows = [judge.camera_of(make_clip(pipe, still_prompt(rng), 7100 + i)) for i in range(count)]
    use(pipe, home)
    number = FLOW[camera][0]
    return {"right": 100 * np.mean([moved(f, camera) for f in flows]),
            f"mean {number}": float(np.mean([f[number] for f in flows]))}


def opposite_case(pipe, home, count):
    """Two opposite cameras at weight 0.5 each, against one alone at 0.5."""
    out = {}
    for a, b in (("pan-left", "pan-right"), ("zoom-in", "zoom-out")):
        for label, weights in ((f"{a} 0.5", {a: 0.5}), (f"{a} 0.5 + {b} 0.5", {a: 0.5, b: 0.5})):
            use(pipe, home / "motion_lora", **weights)
            rng = random.Random(72)
            flows = [judge.camera_of(make_clip(pipe, still_prompt(rng), 7200 + i))
                     for i in range(count)]
            number = FLOW[a][0]
            size = [abs(np.log(f["zoom"])) if number == "zoom" else abs(f[number]) for f in flows]
            out[f"{label}: mean |{number}|"] = float(np.mean(size))
    use(pipe, home)
    return out


def colour_now(clip):
    return judge.judge(clip)["things"][0]["colour"]


def negative_case(pipe, count):
    """A ball of no named colour, then the same seed with its colour as the negative prompt."""
    changed = []
    for i in range(count):
        prompt = "a ball standing still on a grey background"
        first = colour_now(make_clip(pipe, prompt, 7300 + i))
        second = colour_now(make_clip(pipe, prompt, 7300 + i, negative=first))
        changed.append(first != second)
    return {"colour named in the negative prompt disappears": 100 * np.mean(changed)}


def guidance_case(pipe, count):
    out = {}
    for guidance in (1.0, 2.0, 4.0, 7.5, 12.0):
        rng, rows = random.Random(74), []
        for i in range(count):
            scene = any_seen(rng)
            clip = make_clip(pipe, grammar.caption(scene, rng, plain=True), 7400 + i,
                             guidance=guidance)
            rows.append(all(g == w for v in judged(clip, scene)[0].values() for g, w in v))
        out[f"all right at {guidance}"] = 100 * np.mean(rows)
    return out


def edges_dark(clip):
    """Share of nearly black pixels on a light background."""
    return float((clip.max(-1) < 60).mean())


def style_case(pipe, home, count):
    out = {}
    for name, prompt, measure in (
            ("outline", "a {} standing still on a white background", edges_dark),
            ("night", "a {} standing still in the sky", lambda c: float(c.mean()))):
        for label, weights in (("without", {}), ("with", {name: 1.0})):
            use(pipe, home / "lora", **weights)
            values = [measure(make_clip(pipe, prompt.format(f"{c} star"), 7500 + i))
                      for i, c in zip(range(count), ["orange", "pink", "teal", "green"] * count)]
            out[f"{name}, {label}"] = float(np.mean(values))
    use(pipe, home)
    return out


def embedding_case(pipe, home, count):
    pipe.load_textual_inversion(home / "embedding", weight_name="firefly.safetensors")
    rows = {"colour yellow": [], "shape star": [], "background night": []}
    for i in range(count):
        result = judge.judge(make_clip(pipe, "a <firefly>", 7600 + i))
        thing = result["things"][0]
        rows["colour yellow"].append(thing["colour"] == "yellow")
        rows["shape star"].append(thing["shape"] == "star")
        rows["background night"].append(result["background"] == "night")
    return {k: 100 * np.mean(v) for k, v in rows.items()}


def run_cases(rank, count, home):
    pipe = load_pipeline(home / "model")
    jobs = [(f"motion {c}", lambda c=c: motion_case(pipe, home, c, count)) for c in CAMERAS]
    jobs += [("opposite", lambda: opposite_case(pipe, home, count // 2)),
             ("negative", lambda: negative_case(pipe, count)),
             ("guidance", lambda: guidance_case(pipe, count)),
             ("style", lambda: style_case(pipe, home, count // 2)),
             ("embedding", lambda: embedding_case(pipe, home, count))]
    for i, (name, job) in enumerate(jobs):
        if i % WORLD == rank:
            result = {k: round(float(v), 3) for k, v in job().items()}
            print(name, json.dumps(result), flush=True)
            (WORK / f"effect-{name.replace(' ', '-')}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    amount = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent.parent
    launch(run_cases, amount, folder)

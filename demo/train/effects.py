"""effects.py - every switch does something: each is measured by the judge on generated clips.

Eight motion LoRAs, two opposite ones at half weight, negative prompt, guidance scale, two style
LoRAs, the embedding. Clips come from makers.py. A run that was stopped goes on.
Run: [FFMPEG=program] python effects.py [clips per case, default 20] [demo folder]
"""
import json
import random
import sys
from pathlib import Path

import numpy as np

import grammar
from common import WORK, WORLD, launch
from draw import CAMERAS
from evaluate import any_seen, compared, one_thing
from gates import judge
from makers import HOME, Notes, new_maker

# Where the picture must move for each camera: number, sign, least amount.
FLOW = {"zoom-in": ("zoom", 1, 0.08), "zoom-out": ("zoom", -1, 0.08), "pan-left": ("x", 1, 8),
        "pan-right": ("x", -1, 8), "tilt-up": ("y", 1, 8), "tilt-down": ("y", -1, 8),
        "rolling-clockwise": ("roll", -1, 8), "rolling-anticlockwise": ("roll", 1, 8)}
OPPOSITE = (("pan-left", "pan-right"), ("tilt-up", "tilt-down"), ("zoom-in", "zoom-out"),
            ("rolling-clockwise", "rolling-anticlockwise"))
STEPS = 12                      # enough for an effect, and half the time of the default
GUIDANCE = (1.0, 2.0, 4.0, 7.5, 12.0)


# ---- what is measured of a clip -----------------------------------------------------------------

def camera(clip):
    return judge.camera_of(clip)


def ink(clip):
    """Share of nearly black pixels."""
    return float((clip.max(-1) < 60).mean())


def brightness(clip):
    return float(clip.mean())


def amount(flow, name):
    """How far the picture moved in the way of that camera: log of zoom, pixels, degrees."""
    number = FLOW[name][0]
    return float(np.log(flow["zoom"])) if number == "zoom" else float(flow[number])


def moved(flow, name):
    _, sign, least = FLOW[name]
    return sign * amount(flow, name) > least


# ---- cases --------------------------------------------------------------------------------------

def still_prompt(rng):
    while True:
        scene = any_seen(rng)
        scene.things[0].motion = "still"
        if grammar.allowed(scene):
            return grammar.caption(scene, rng, plain=True)


def still_flows(take, seed, count, **options):
    rng = random.Random(seed)
    return [take(camera, still_prompt(rng), seed * 100 + i, **options) for i in range(count)]


def motion_case(take, name, count):
    flows = still_flows(take, 71, count, motion_lora={name: 1.0})
    return {"right": 100 * np.mean([moved(f, name) for f in flows]),
            f"mean {FLOW[name][0]}": np.mean([amount(f, name) for f in flows])}


def opposite_case(take, first, second, count):
    """Two opposite cameras at weight 0.5 each, against one alone at 0.5 and at 1."""
    out = {}
    for label, weights in ((f"{first} 1", {first: 1.0}), (f"{first} 0.5", {first: 0.5}),
                           (f"{first} 0.5 + {second} 0.5", {first: 0.5, second: 0.5})):
        flows = still_flows(take, 71, count, motion_lora=weights)
        size = np.mean([abs(amount(f, first)) for f in flows])
        out[f"{label}: mean size of {FLOW[first][0]}"] = size
    return out


def colour_of(result):
    return result["things"][0]["colour"]


def negative_case(take, count):
    """A ball of no named colour, then the same seed with its colour as the negative prompt."""
    changed = []
    for i in range(count):
        prompt = "a ball standing still on a grey background"
        first = colour_of(take(one_thing, prompt, 7300 + i))
        second = colour_of(take(one_thing, prompt, 7300 + i, negative=first))
        changed.append(first != second)
    return {"colour named in the negative prompt disappears": 100 * np.mean(changed)}


def guidance_case(take, scale, count):
    rng, rows = random.Random(74), []
    for i in range(count):
        scene = any_seen(rng)
        prompt = grammar.caption(scene, rng, plain=True)
        result = take(one_thing, prompt, 7400 + i, guidance=scale)
        rows.append(all(g == w for v in compared(result, scene).values() for g, w in v))
    return {f"all right at {scale}": 100 * np.mean(rows)}


def style_case(take, name, prompt, measure, count):
    out = {}
    for label, weights in (("without", {}), ("with", {name: 1.0})):
        colours = ["orange", "pink", "teal", "green"] * count
        out[label] = np.mean([take(measure, prompt.format(f"{c} star"), 7500 + i, lora=weights)
                              for i, c in zip(range(count), colours)])
    return out


def embedding_case(take, count):
    rows = {"colour yellow": [], "shape star": [], "background night": []}
    for i in range(count):
        result = take(one_thing, "a <firefly>", 7600 + i, embedding=["firefly"])
        thing = result["things"][0]
        rows["colour yellow"].append(thing["colour"] == "yellow")
        rows["shape star"].append(thing["shape"] == "star")
        rows["background night"].append(result["background"] == "night")
    return {k: 100 * np.mean(v) for k, v in rows.items()}


def jobs(count):
    """[(name, function of take)]"""
    few = max(count // 2, 1)
    out = [(f"motion {c}", lambda t, c=c: motion_case(t, c, count)) for c in CAMERAS]
    out += [(f"opposite {a}", lambda t, a=a, b=b: opposite_case(t, a, b, few)) for a, b in OPPOSITE]
    out += [("negative prompt", lambda t: negative_case(t, few))]
    out += [(f"guidance {g}", lambda t, g=g: guidance_case(t, g, few)) for g in GUIDANCE]
    out += [("style outline", lambda t: style_case(
                t, "outline", "a {} standing still on a white background", ink, few)),
            ("style night", lambda t: style_case(
                t, "night", "a {} standing still in the sky", brightness, few)),
            ("embedding", lambda t: embedding_case(t, few))]
    return out


def run_cases(rank, count, home):
    maker, notes = new_maker(home), Notes(WORK / f"effects-{rank}.jsonl", home)

    def take(measure, prompt, seed, **options):
        return notes.take(measure, prompt, seed, maker.clip, steps=STEPS, **options)

    for i, (name, job) in enumerate(jobs(count)):
        if i % WORLD == rank:
            result = {k: round(float(v), 3) for k, v in job(take).items()}
            print(name, json.dumps(result), flush=True)
            (WORK / f"effect-{name.replace(' ', '-')}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    launch(run_cases, int(sys.argv[1]) if len(sys.argv) > 1 else 20,
           Path(sys.argv[2]) if len(sys.argv) > 2 else HOME)

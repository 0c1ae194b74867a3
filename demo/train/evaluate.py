"""evaluate.py - the judge's table over clips of one and of two things, made at the defaults.

Prompts are never training captions: their wordings are plain, their scenes random, half of them
from the held-out combinations. Clips come from makers.py. A run that was stopped goes on.
Run: [FFMPEG=program] python evaluate.py [clips per group, default 100] [demo folder]
"""
import json
import random
import sys
from pathlib import Path

import grammar
from common import WORK, WORLD, launch
from gates import judge, share, unseen_thing
from makers import HOME, Notes, new_maker

LIMITS = {"background": 97, "colour": 97, "shape": 90, "motion": 93}
GAP = 5


def any_seen(rng):
    return grammar.random_scene(rng, two=0)


def two_seen(rng):
    return grammar.random_scene(rng, two=1)


GROUPS = {"seen": (any_seen, 51), "unseen": (unseen_thing, 52), "two": (two_seen, 53)}


def one_thing(clip):
    """What the judge sees, as plain values."""
    return judge.judge(clip, 1)


def two_things(clip):
    return judge.judge(clip, 2)


def compared(result, scene):
    """Per question a list of (got, wanted); two things are matched by colour."""
    rows = {"background": [(result["background"], scene.background)],
            "colour": [], "shape": [], "motion": []}
    left = list(result["things"])
    for thing in scene.things:
        got = next((g for g in left if g["colour"] == thing.colour), left[0])
        left.remove(got)
        for k in ("colour", "shape", "motion"):
            rows[k].append((got[k], getattr(thing, k)))
    return rows


def prompts_of(group, count):
    """[(scene, prompt, seed)], the same for every run."""
    pick, seed = GROUPS[group]
    rng = random.Random(seed)
    scenes = []
    for i in range(count):
        scene = pick(rng)
        scenes.append((scene, grammar.caption(scene, rng, plain=True), seed * 1000 + i))
    return scenes


def run_group(maker, notes, group, count, rank=0, world=1, log=None):
    rows = []
    for i, (scene, prompt, seed) in enumerate(prompts_of(group, count)):
        if i % world != rank:
            continue
        measure = one_thing if len(scene.things) == 1 else two_things
        answers = compared(notes.take(measure, prompt, seed, maker.clip), scene)
        rows.append(answers)
        wrong = {k: v for k, v in answers.items() if any(g != w for g, w in v)}
        if log and wrong:
            print(prompt, "|", seed, json.dumps(wrong), file=log, flush=True)
    return rows


def merge(rows):
    out = {}
    for answers in rows:
        for k, v in answers.items():
            out.setdefault(k, []).extend(v)
    return out


def table_worker(rank, count, home):
    maker, notes = new_maker(home), Notes(WORK / f"clips-{rank}.jsonl", home)
    for name in GROUPS:
        with open(WORK / f"wrong-{name}-{rank}.txt", "w") as log:
            rows = run_group(maker, notes, name, count if name != "two" else count // 3, rank,
                             WORLD, log)
        (WORK / f"table-{name}-{rank}.json").write_text(json.dumps(rows))


def table(count, home):
    launch(table_worker, count, home)
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
          Path(sys.argv[2]) if len(sys.argv) > 2 else HOME)

"""scenes.py - what the stages draw, one clip or frame at a time, in processes of their own.

Called by cache.py and vae.py through drawing_pool(). numpy only: a drawing process starts at once.
"""
import multiprocessing
import random

import draw
import grammar

GRID = draw.SIZE // 8
CAPTIONS = 4


def drawing_pool():
    return multiprocessing.get_context("spawn").Pool()


def any_scene(rng):
    return grammar.random_scene(rng)


def camera_scene(rng):
    """Mostly things that stand still: what moves then is the camera."""
    scene = grammar.random_scene(rng, two=0)
    if rng.random() < 0.7:
        scene.things[0].motion = "still"
    return scene if grammar.allowed(scene) else camera_scene(rng)


def firefly_scene(rng):
    motion = rng.choice([m for m in grammar.MOTIONS if m != "falling"])
    return grammar.Scene([grammar.Thing("yellow", "star", motion)], "night")


def motion_class(scene):
    """-100 where nothing is said or two things move differently."""
    if len(scene.things) != 1 or scene.things[0].motion is None:
        return -100
    return grammar.MOTIONS.index(scene.things[0].motion)


def draw_clip(job):
    """(frames, masks, [(caption, motion class)]) of one clip."""
    seed, pick, camera, style = job
    rng = random.Random(seed)
    scene = pick(rng)
    frames = draw.plan_clip(scene, rng, camera, style)
    told = [grammar.tell(scene, rng) for _ in range(CAPTIONS)]
    return (draw.render(frames), draw.thing_mask(frames, GRID),
            [(text, motion_class(said)) for text, said in told])


def draw_frame(i):
    """A single frame [3, 128, 128] of any sort: one or two objects, camera moves, styles."""
    rng = random.Random(1100000 + i)
    camera = rng.choice(draw.CAMERAS) if rng.random() < 0.3 else None
    style = rng.choice(draw.STYLES[1:]) if rng.random() < 0.15 else "plain"
    frames = draw.plan_clip(grammar.random_scene(rng, two=0.2), rng, camera, style)
    f = rng.randrange(draw.FRAMES)
    return draw.render(frames[f:f + 1])[0].transpose(2, 0, 1)

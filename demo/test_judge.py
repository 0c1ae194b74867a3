"""test_judge.py - the judge against drawn clips whose content is known. numpy only.

Right answers must be found, wrong ones refused: every drawn clip is also compared with a scene
that differs in one thing. Prints one line per case, `ok - ...` or `not ok - ...`; exit 1 on a failure.

    python3 demo/test_judge.py [clips, default 60]
"""
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "train"))
import draw                                                                      # noqa: E402
import grammar                                                                   # noqa: E402
import judge                                                                     # noqa: E402

CAMERA_MOVES = {"zoom-in": ("zoom", 1.2, 9), "zoom-out": ("zoom", 0, 0.83),
                "pan-left": ("x", 20, 99), "pan-right": ("x", -99, -20),
                "tilt-up": ("y", 20, 99), "tilt-down": ("y", -99, -20),
                "rolling-clockwise": ("roll", -90, -20), "rolling-anticlockwise": ("roll", 20, 90)}
results = []


def check(name, ok, detail=""):
    results.append(bool(ok))
    print(f"ok - {name}" if ok else f"not ok - {name}: {detail}")


def one_scene(i, rng):
    """Goes through all shapes, motions, colours and backgrounds in turn, held-out ones too."""
    thing = grammar.Thing(grammar.COLOUR_NAMES[i % 10], grammar.SHAPES[i * 3 % 8],
                          grammar.MOTIONS[(i + i // 10) % 10])
    place = grammar.BACKGROUNDS[(i * 5 + i // 8) % 8]
    if thing.colour == "white" and place == "white":
        place = "black"
    return grammar.Scene([thing], place)


def seen(clip, count=1):
    result = judge.judge(clip, count)
    return result["background"], result["things"]


def finds_what_is_drawn(count):
    rng = random.Random(61)
    for i in range(count):
        scene = one_scene(i, rng)
        thing = scene.things[0]
        background, things = seen(draw.render(draw.plan_clip(scene, rng)))
        got = (things[0]["colour"], things[0]["shape"], things[0]["motion"], background)
        want = (thing.colour, thing.shape, thing.motion, scene.background)
        check("sees " + " ".join(want), got == want, got)


def refuses_what_is_not_drawn(count):
    """The same clip in a wrong order, colour or without its object must not pass."""
    rng = random.Random(62)
    opposite = {"left": "right", "right": "left", "rising": "falling", "falling": "rising",
                "growing": "shrinking", "shrinking": "growing"}
    for i, motion in enumerate(opposite):
        scene = one_scene(i + 3, rng)
        scene.things[0].motion = motion
        clip = draw.render(draw.plan_clip(scene, rng))
        got = seen(clip[::-1])[1][0]["motion"]
        check(f"{motion} played backwards is {opposite[motion]}", got == opposite[motion], got)
        mixed = clip[np.random.default_rng(i).permutation(16)]
        got = seen(mixed)[1][0]["motion"]
        check(f"{motion} in a random order is no motion", got in ("none", "still"), got)
        got = seen(np.repeat(clip[7:8], 16, 0))[1][0]["motion"]
        check(f"one frame of {motion} is standing still", got == "still", got)
    for i in range(count):
        scene = one_scene(i, rng)
        if scene.things[0].colour in ("white", "brown"):
            continue
        clip = draw.render(draw.plan_clip(scene, rng))
        got = seen(clip[..., ::-1])[1][0]["colour"]
        same = scene.things[0].colour in ("green", "purple", "pink")
        check(f"{scene.things[0].colour} with red and blue exchanged is another colour",
              got != scene.things[0].colour or same, got)
    for name in grammar.BACKGROUNDS:
        empty = draw.render(draw.plan_clip(grammar.Scene([], name), rng))
        background, things = seen(empty)
        check(f"empty {name} holds nothing", background == name and things[0]["shape"] == "none",
              (background, things))
    noise = np.random.default_rng(5).integers(0, 256, (16, 128, 128, 3)).astype(np.uint8)
    check("noise holds no motion", seen(noise)[1][0]["motion"] == "none")


def tells_two_things_apart():
    rng = random.Random(63)
    for i in range(8):
        scene = grammar.random_scene(rng, two=1)
        while any(t.motion in ("blinking", "spinning") for t in scene.things):
            scene = grammar.random_scene(rng, two=1)
        things = seen(draw.render(draw.plan_clip(scene, rng)), 2)[1]
        got = sorted((t["colour"], t["shape"], t["motion"]) for t in things)
        want = sorted((t.colour, t.shape, t.motion) for t in scene.things)
        check(f"two things: {want[0]} and {want[1]}", got == want, got)


def feels_the_camera():
    rng = random.Random(64)
    for i, (camera, (number, low, high)) in enumerate(CAMERA_MOVES.items()):
        scene = grammar.Scene([grammar.Thing("red", grammar.SHAPES[i], "still")],
                              grammar.BACKGROUNDS[i])
        got = judge.camera_of(draw.render(draw.plan_clip(scene, rng, camera)))
        check(f"camera {camera}", low < got[number] < high, got)
    got = judge.camera_of(draw.render(draw.plan_clip(scene, rng)))
    check("no camera move", abs(got["x"]) + abs(got["y"]) + abs(got["roll"]) < 3, got)


if __name__ == "__main__":
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    finds_what_is_drawn(clips)
    refuses_what_is_not_drawn(20)
    tells_two_things_apart()
    feels_the_camera()
    sys.exit(0 if all(results) else 1)

"""draw.py - draws the clips: signed distances, anti-aliased, lit, with a soft shadow. numpy only.

Called by vae.py, cache.py and the judge's test; knows nothing of captions or models. plan_clip()
turns a Scene into numbers per frame (place, size, angle ...), render() turns numbers into bytes.
Distances: Inigo Quilez, "2D distance functions".
"""
import math
from dataclasses import dataclass

import numpy as np

from grammar import COLOURS

SIZE, FRAMES = 128, 16
CAMERAS = ["zoom-in", "zoom-out", "pan-left", "pan-right", "tilt-up", "tilt-down",
           "rolling-clockwise", "rolling-anticlockwise"]
STYLES = ["plain", "outline", "night"]


@dataclass
class Sprite:
    """One object in one frame; squash < 1 is flatter, hidden ones are not drawn."""
    shape: str
    paint: np.ndarray
    x: float
    y: float
    radius: float
    angle: float = 0.0
    squash: float = 1.0
    hidden: bool = False


@dataclass
class Frame:
    """All of one frame: backdrop with its free numbers, camera, style, objects."""
    background: str
    phase: float
    level: float
    sprites: list
    zoom: float = 1.0
    roll: float = 0.0
    pan_x: float = 0.0
    pan_y: float = 0.0
    style: str = "plain"


# ---- plans ----------------------------------------------------------------------------------

def sprite_track(thing, rng, lane):
    """The object's Sprites, one per frame. lane: None, or (x, y, lies across) of a small lane."""
    u = rng.uniform
    small = lane is not None
    across = small and lane[2]
    cx, cy = (64 + u(-10, 10), 64 + u(-10, 10)) if not small else lane[:2]
    radius = u(19, 22) if small else u(24, 30)
    paint = np.clip([c + u(-8, 8) for c in COLOURS[thing.colour]], 0, 255).astype(np.float32) / 255
    angle0, turn = math.radians(u(-6, 6)), math.radians(u(11.5, 14.5))
    reach_x = u(20, 24) if small and not across else u(46, 58)
    reach_y = u(20, 24) if across else u(46, 58)
    scale, grown = (1.4, 25) if small else (u(1.6, 1.8), u(33, 37))
    hop = 20 if across else u(38, 46)
    motion = thing.motion
    if motion in ("left", "right", "rising", "falling"):
        radius = min(radius, 27)
        if not small:
            cx, cy = (64 + u(-5, 5), cy) if motion in ("left", "right") else (cx, 64 + u(-5, 5))
    track = []
    for f in range(FRAMES):
        s = f / (FRAMES - 1) - 0.5
        one = Sprite(thing.shape, paint, cx, cy, radius, angle0)
        if motion in ("left", "right"):
            one.x = cx + reach_x * (s if motion == "right" else -s)
        elif motion in ("rising", "falling"):
            one.y = cy + reach_y * (s if motion == "falling" else -s)
        elif motion in ("growing", "shrinking"):
            one.radius = grown * scale ** ((s if motion == "growing" else -s) - 0.5)
        elif motion == "spinning":
            one.angle = angle0 + turn * f
        elif motion == "bouncing":
            lift = abs(math.sin(math.pi * f / 8))
            one.y = cy + hop * (0.5 - lift)
            one.squash = 1.0 - 0.16 * max(0.0, 1 - 3 * lift)
        elif motion == "blinking":
            one.hidden = f % 8 >= 4
        track.append(one)
    return track


def camera_track(camera, rng):
    """Per frame {zoom, roll, pan_x, pan_y}. The names speak of the camera, so the picture goes
    the other way: pan-left moves the things to the right, rolling-clockwise turns them back."""
    if camera is None:
        return [{}] * FRAMES
    kind, way = camera.split("-")
    sign = 1 if way in ("in", "right", "down", "clockwise") else -1
    steps = [sign * (f / (FRAMES - 1) - 0.5) for f in range(FRAMES)]
    if kind == "zoom":
        ratio = rng.uniform(1.5, 1.7)
        return [{"zoom": 1.03 * ratio ** s} for s in steps]
    if kind == "rolling":
        turn = math.radians(rng.uniform(40, 50))
        return [{"roll": turn * s} for s in steps]
    reach = rng.uniform(36, 44)
    return [{"pan_x" if kind == "pan" else "pan_y": reach * s} for s in steps]


def plan_clip(scene, rng, camera=None, style="plain"):
    """The 16 Frames of one clip."""
    lanes = [None]
    if len(scene.things) == 2:
        a, b = 36 + rng.uniform(-3, 3), 92 + rng.uniform(-3, 3)
        if rng.random() < 0.5:
            a, b = b, a
        mid, across = 64 + rng.uniform(-3, 3), rng.random() < 0.5
        lanes = [(mid, a, True), (mid, b, True)] if across else [(a, mid, False), (b, mid, False)]
    tracks = [sprite_track(t, rng, lane) for t, lane in zip(scene.things, lanes)]
    phase, level = rng.uniform(0, 2 * math.pi), rng.uniform(-3, 3)
    return [Frame(scene.background, phase, level, [t[f] for t in tracks], style=style, **moved)
            for f, moved in enumerate(camera_track(camera, rng))]


# ---- shapes, in units of the radius, y down -------------------------------------------------

def box(x, y, half_x, half_y):
    dx, dy = np.abs(x) - half_x, np.abs(y) - half_y
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)


def ball(x, y):
    return np.hypot(x, y) - 0.95


def square(x, y):
    return box(x, y, 0.70, 0.70) - 0.12


def triangle(x, y):
    k, size = math.sqrt(3), 0.86
    x, y = np.abs(x) - size, -(y - 0.12) + size / k
    flip = x + k * y > 0
    x, y = np.where(flip, (x - k * y) / 2, x), np.where(flip, (-k * x - y) / 2, y)
    x = x - np.clip(x, -2 * size, 0)
    return -np.hypot(x, y) * np.sign(y) - 0.12


def star(x, y):
    radius, inner = 1.08, 0.50
    kx, ky = math.cos(math.pi / 5), -math.sin(math.pi / 5)
    x, y = np.abs(x), -y
    for side in (kx, -kx):
        over = 2 * np.maximum(side * x + ky * y, 0)
        x, y = x - over * side, y - over * ky
    x, y = np.abs(x), y - radius
    bx, by = inner * -ky, inner * kx - 1
    h = np.clip((x * bx + y * by) / (bx * bx + by * by), 0, radius)
    return np.hypot(x - bx * h, y - by * h) * np.sign(y * bx - x * by) - 0.04


def heart(x, y):
    x, y = np.abs(x) / 1.75, (0.97 - y) / 1.75
    lobe = np.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    m = 0.5 * np.maximum(x + y, 0)
    tip = np.minimum(x ** 2 + (y - 1) ** 2, (x - m) ** 2 + (y - m) ** 2)
    return np.where(x + y > 1, lobe, np.sqrt(tip) * np.sign(x - y)) * 1.75


def ring(x, y):
    return np.abs(np.hypot(x, y) - 0.66) - 0.27


def cross(x, y):
    return np.minimum(box(x, y, 0.88, 0.26), box(x, y, 0.26, 0.88)) - 0.06


def moon(x, y):
    return np.maximum(np.hypot(x + 0.08, y) - 0.95, 0.74 - np.hypot(x - 0.40, y + 0.10))


DISTANCES = {"ball": ball, "square": square, "triangle": triangle, "star": star, "heart": heart,
             "ring": ring, "cross": cross, "moon": moon}
STRIPED = ("ball", "ring")                  # round ones: a darker band shows that they turn


# ---- pixels ---------------------------------------------------------------------------------

def smooth(x, low, high):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, t):
    return a + (b - a) * t


def rgb(*values):
    return np.array(values, np.float32) / 255


def profile(y, top, bottom):
    """A vertical gradient over the rows 0..127, going on a little outside."""
    return mix(rgb(*top), rgb(*bottom), np.clip(y / 127, -0.3, 1.3)[..., None])


def hill(base, y, line, upper, lower):
    """Ground below a slightly wavy line; it gets a little darker downwards."""
    ground = mix(rgb(*upper), rgb(*lower), np.clip((y - line) / 45, 0, 1)[..., None])
    return mix(base, ground, np.clip(y - line + 0.5, 0, 1)[..., None])


def clouds(base, x, y, phase, strength):
    puffs = np.zeros_like(x)
    for i in range(3):
        px = 64 + 70 * math.sin(phase + 2.1 * i)
        py = 22 + 34 * i + 8 * math.cos(phase * 3 + i)
        puffs = puffs + np.exp(-(((x - px) / 26) ** 2 + ((y - py) / 10) ** 2))
    return mix(base, rgb(255, 255, 255), (strength * np.minimum(puffs, 1))[..., None])


def backdrop(frame, x, y):
    """x, y: world coordinates [h, w] -> [h, w, 3]."""
    wave = 3 * np.sin(x / 21 + frame.phase) + frame.level
    centre = (((x - 64) ** 2 + (y - 64) ** 2) / 8192)[..., None]
    kind = frame.background
    if kind == "white":
        return rgb(250, 250, 250) - 0.06 * centre
    if kind == "black":
        return rgb(24, 24, 28) - 0.04 * centre
    if kind == "grey":
        return rgb(140, 140, 144) - 0.10 * centre
    if kind == "sky":
        return clouds(profile(y, (100, 165, 238), (165, 210, 246)), x, y, frame.phase, 0.36)
    if kind == "meadow":
        base = profile(y, (120, 180, 240), (178, 216, 246))
        return hill(base, y, 78 + wave, (150, 205, 120), (100, 170, 85))
    if kind == "sunset":
        base = profile(y, (110, 75, 150), (255, 170, 120))
        return hill(base, y, 100 + wave, (90, 50, 85), (60, 35, 65))
    if kind == "night":
        base = profile(y, (12, 16, 52), (44, 56, 118))
        return hill(base, y, 102 + wave, (14, 18, 40), (8, 10, 26))
    base = profile(y, (240, 190, 120), (252, 226, 170))
    return hill(base, y, 82 + wave, (232, 196, 146), (212, 172, 122))


def local(one, px, py):
    """Offsets in units of the radius -> the object's own coordinates, squashed and turned."""
    u, v = px * one.squash, (py - (1 - one.squash)) / one.squash
    cos, sin = math.cos(one.angle), math.sin(one.angle)
    return u * cos + v * sin, -u * sin + v * cos


def lit_body(one, u, px, py, depth):
    """The painted surface [h, w, 3]: band, light from the upper left, dark rim, highlight."""
    body = one.paint
    if one.shape in STRIPED:
        band = (1 - smooth(np.abs(u), 0.16, 0.24))[..., None]
        stripe = rgb(225, 100, 100) if body.min() > 0.85 else body * 0.6
        body = mix(body, stripe, band)
    light = (1.02 - 0.20 * smooth(px + py, -0.9, 1.3))[..., None]
    rim = (0.20 * smooth(depth, -0.22, 0.0) * smooth(px + py, -0.2, 0.8))[..., None]
    spot = 0.50 * np.exp(-((px + 0.32) ** 2 + (py + 0.38) ** 2) / 0.035)[..., None]
    return mix(body * light * (1 - rim), np.float32(1), spot)


def paint(canvas, x, y, scale, one, flat):
    """Draw one object with its shadow into the canvas [h, w, 3], in place."""
    px, py = (x - one.x) / one.radius, (y - one.y) / one.radius
    u, v = local(one, px, py)
    shape = DISTANCES[one.shape]
    depth = shape(u, v)
    d = depth * one.radius * scale
    if flat:
        ink = (d > -3.2 * scale)[..., None]
        surface = np.where(ink, np.float32(0.06), one.paint)
        canvas[:] = mix(canvas, surface, np.clip(1.3 - d, 0, 1)[..., None])
        return
    shadow = 0.38 * (1 - smooth(shape(*local(one, px - 0.14, py - 0.20)), -0.25, 0.22))
    canvas *= (1 - shadow)[..., None]
    surface = lit_body(one, u, px, py, depth)
    canvas[:] = mix(canvas, surface, np.clip(0.5 - d, 0, 1)[..., None])


def night_palette(image):
    """Moonlight: dim and blue."""
    grey = image.mean(-1, keepdims=True)
    return mix(image, grey, 0.45) * rgb(75, 100, 180) + rgb(6, 9, 30)


def world(frame, size=SIZE):
    """World coordinates x, y of a grid of size x size picture points, through the camera."""
    grid = ((np.arange(size) + 0.5) * (SIZE / size) - 64).astype(np.float32) / frame.zoom
    cos, sin = math.cos(frame.roll), math.sin(frame.roll)
    x = 64 + frame.pan_x + grid[None, :] * cos - grid[:, None] * sin
    y = 64 + frame.pan_y + grid[None, :] * sin + grid[:, None] * cos
    return x, y


def render_frame(frame, base=None):
    """[SIZE, SIZE, 3] floats in 0..1. base: the empty backdrop, if it is known already."""
    x, y = world(frame)
    canvas = (backdrop(frame, x, y) if base is None else base).copy()
    for one in frame.sprites:
        if one.hidden:
            continue
        near = np.hypot(x - one.x, y - one.y) < one.radius * 1.55 + 3
        rows, columns = np.nonzero(near.any(1))[0], np.nonzero(near.any(0))[0]
        if len(rows) == 0:
            continue
        cut = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        paint(canvas[cut], x[cut], y[cut], frame.zoom, one, frame.style == "outline")
    if frame.style == "night":
        canvas = night_palette(canvas)
    return np.clip(canvas, 0, 1)


def render(frames):
    """Bytes [n, SIZE, SIZE, 3] of the frames of one clip."""
    still = all((f.zoom, f.roll, f.pan_x, f.pan_y) == (1, 0, 0, 0) for f in frames)
    base = backdrop(frames[0], *world(frames[0])) if still else None
    return np.stack([np.rint(render_frame(f, base) * 255) for f in frames]).astype(np.uint8)


def thing_mask(frames, size):
    """Bytes [n, size, size]: 255 where a thing or its rim covers that part of the picture."""
    out = np.zeros((len(frames), size, size), np.uint8)
    for cover, frame in zip(out, frames):
        x, y = world(frame, size)
        for one in frame.sprites:
            if not one.hidden:
                cover[np.hypot(x - one.x, y - one.y) < one.radius + 7] = 255
    return out

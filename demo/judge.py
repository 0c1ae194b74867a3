"""judge.py - says what a clip shows: colours, shapes, motions, background, camera. numpy only.

Reads raw rgb24 frames and nothing else: no model, no drawing program. How it sees: the background
is known from the border; pixels that are neither background nor its shadow are the object; its
colour is the median, its shape the best match in polar coordinates, its motion a line through
place, size and angle over time.

    python3 demo/judge.py clip.rgb                       what is in it
    python3 demo/judge.py clip.rgb red ball left sky     exit 1 if it is something else
    python3 demo/judge.py --camera clip.rgb              movement of the whole picture
"""
import json
import math
import sys

import numpy as np

SIZE, FRAMES = 128, 16
# The colour of a lit object, not of its paint: the drawing's light takes a little away.
COLOURS = {
    "red": (214, 44, 40), "orange": (241, 137, 22), "yellow": (241, 208, 42),
    "green": (45, 159, 64), "teal": (22, 178, 178), "blue": (40, 88, 221),
    "purple": (135, 59, 197), "pink": (241, 126, 179), "brown": (126, 76, 40),
    "white": (236, 236, 236)}
# Colours of the border at rows 6, 38, 70, 94, 118, the first of them the top.
ROWS = (6, 38, 70, 94, 118)
BACKGROUNDS = {
    "white": ((242,) * 3, (242,) * 3, (242,) * 3, (242,) * 3, (240,) * 3),
    "black": ((15, 15, 19), (18, 18, 22), (19, 19, 23), (18, 18, 22), (15, 15, 19)),
    "grey": ((118, 118, 122), (126, 126, 130), (128, 128, 132), (126, 126, 130), (119, 119, 123)),
    "sky": ((110, 173, 240), (134, 188, 243), (158, 203, 246), (176, 214, 248), (193, 224, 250)),
    "meadow": ((177, 216, 245), (190, 223, 247), (203, 229, 248), (133, 193, 107),
               (106, 174, 89)),
    "sunset": ((117, 80, 149), (153, 103, 141), (190, 127, 133), (217, 145, 128), (78, 44, 76)),
    "night": ((14, 18, 55), (22, 28, 72), (30, 38, 88), (36, 46, 101), (11, 14, 33)),
    "desert": ((226, 225, 214), (231, 227, 209), (236, 228, 204), (219, 183, 131),
               (206, 165, 112))}
MOTIONS = ("left", "right", "rising", "falling", "growing", "shrinking", "spinning", "bouncing",
           "blinking", "still")
RADII, ANGLES, REACH = 24, 72, 2.3


# ---- shapes ---------------------------------------------------------------------------------

def polygon(points):
    """Inside test by crossings, for arrays of places."""
    def inside(x, y):
        hit = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
            if ay != by:
                cut = (ay > y) != (by > y)
                hit ^= cut & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        return hit
    return inside


def round_points(radii, start):
    step = 2 * math.pi / len(radii)
    return [(r * math.cos(start + i * step), r * math.sin(start + i * step))
            for i, r in enumerate(radii)]


def heart(x, y):
    lobes = np.hypot(np.abs(x) - 0.43, y + 0.34) < 0.64
    return lobes | ((np.abs(x) + np.abs(y + 0.04) < 1.0) & (y > -0.3))


SHAPES = {
    "ball": lambda x, y: np.hypot(x, y) < 0.95,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.81,
    "triangle": polygon(round_points([1.12] * 3, -math.pi / 2)),
    "star": polygon(round_points([1.10, 0.52] * 5, -math.pi / 2)),
    "heart": heart,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.66) < 0.27,
    "cross": lambda x, y: ((np.maximum(np.abs(x), 3 * np.abs(y)) < 0.94)
                           | (np.maximum(np.abs(y), 3 * np.abs(x)) < 0.94)),
    "moon": lambda x, y: (np.hypot(x + 0.08, y) < 0.95) & (np.hypot(x - 0.40, y + 0.10) > 0.74)}
SHAPE_NAMES = tuple(SHAPES)
# After this many degrees the outline looks the same; 0: it never changes, the band is looked at.
SYMMETRY = {"ball": 0, "square": 90, "triangle": 120, "star": 72, "heart": 360, "ring": 0,
            "cross": 90, "moon": 360}


def polar(mask):
    """A mask around its own centre, scaled to unit area: [RADII, ANGLES], and (x, y, radius)."""
    ys, xs = np.nonzero(mask)
    cx, cy, scale = xs.mean(), ys.mean(), math.sqrt(len(xs) / math.pi)
    r = (np.arange(RADII) + 0.5) / RADII * REACH * scale
    a = np.arange(ANGLES) * 2 * math.pi / ANGLES
    px = np.rint(cx + r[:, None] * np.cos(a)).astype(int)
    py = np.rint(cy + r[:, None] * np.sin(a)).astype(int)
    ok = (px >= 0) & (px < mask.shape[1]) & (py >= 0) & (py < mask.shape[0])
    out = np.zeros((RADII, ANGLES))
    out[ok] = mask[py[ok], px[ok]]
    return out, (float(cx), float(cy), float(scale))


def shape_table():
    """Every shape in every rotation: [8, ANGLES, RADII * ANGLES], rings weighed by their area."""
    y, x = (np.mgrid[0:400, 0:400] - 199.5) / 130
    rows = []
    for inside in SHAPES.values():
        one = polar(inside(x, y))[0]
        rows.append([np.roll(one, k, 1).ravel() for k in range(ANGLES)])
    return np.array(rows)


TABLE = shape_table()
AREA = np.repeat((np.arange(RADII) + 0.5), ANGLES)


def match(mask):
    """Per shape the best overlap (intersection over union) and the angle it was found at."""
    view = polar(mask)[0].ravel()
    both = np.minimum(TABLE, view) @ AREA
    either = np.maximum(TABLE, view) @ AREA
    overlap = both / either
    return overlap.max(1), overlap.argmax(1) * 360 / ANGLES


# ---- seeing ---------------------------------------------------------------------------------

def read_clip(path, size=SIZE):
    data = np.fromfile(path, np.uint8)
    frame = size * size * 3
    if len(data) == 0 or len(data) % frame:
        raise SystemExit(f"{path}: {len(data)} bytes are not frames of {size}x{size} rgb24")
    return data.reshape(-1, size, size, 3)


def border_profile(clip):
    """Per row the colour at the left and at the right border, median over time: two [h, 3]."""
    left = np.median(clip[:, :, :5], axis=(0, 2))
    right = np.median(clip[:, :, -5:], axis=(0, 2))
    return left, right


def background_of(clip):
    """The nearest of the eight backgrounds, and the distance in levels."""
    left, right = border_profile(clip.astype(np.float32))
    seen = [(left[max(0, r - 2):r + 3].mean(0) + right[max(0, r - 2):r + 3].mean(0)) / 2
            for r in ROWS]
    far = {name: float(np.mean([np.abs(s - np.array(c)).mean() for s, c in zip(seen, rows)]))
           for name, rows in BACKGROUNDS.items()}
    best = min(far, key=far.get)
    return best, far[best]


def shifted_all(mask, grow):
    """3x3 dilation (grow) or erosion of a mask."""
    edge = np.pad(mask, 1, constant_values=not grow)
    parts = [edge[i:i + mask.shape[0], j:j + mask.shape[1]] for i in range(3) for j in range(3)]
    return np.logical_or.reduce(parts) if grow else np.logical_and.reduce(parts)


def components(mask):
    """Connected parts as masks, the largest first. Labels flow along rows, then columns."""
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = label
        for axis in (0, 1):
            for flip in (False, True):
                label = spread(label, axis, flip)
        if np.array_equal(before, label):
            break
    names, counts = np.unique(label[label > 0], return_counts=True)
    return [label == n for n in names[np.argsort(-counts)]]


def spread(label, axis, backwards):
    """Every run of non-zero labels along the axis takes the largest label seen so far in it."""
    rows = np.moveaxis(label, axis, 1)
    rows = rows[:, ::-1] if backwards else rows
    free = rows == 0
    run = np.cumsum(free, axis=1) + np.arange(rows.shape[0])[:, None] * (rows.shape[1] + 1)
    key = run * np.int64(label.size + 1) + rows
    best = np.maximum.accumulate(key.ravel()).reshape(rows.shape)
    out = np.where(free, 0, best - run * np.int64(label.size + 1))
    out = out[:, ::-1] if backwards else out
    return np.moveaxis(out, 1, axis)


def distance_to(frame, back):
    """Per pixel the distance in levels to the background, or to a shadow on it."""
    k = (frame * back).sum(2) / np.maximum((back * back).sum(2), 1)
    off = np.abs(frame - k[:, :, None] * back).max(2)
    light = np.abs(frame - back).max(2)
    return np.where((k > 0.58) & (k < 1.0), off * 1.6, light)


def things_in(clip):
    """Per frame the list of object masks of at least 120 pixels."""
    clip = clip.astype(np.float32)
    left, right = border_profile(clip)
    t = np.linspace(0, 1, clip.shape[2])[None, :, None]
    back = left[:, None] * (1 - t) + right[:, None] * t
    floor = 56.0 if background_of(clip)[0] == "sky" else 36.0        # clouds are no things
    out = []
    for frame in clip:
        far = distance_to(frame, back)
        for rows in (2, 4, 6):                                      # hills are wavy
            far = np.minimum(far, distance_to(frame, np.roll(back, rows, 0)))
            far = np.minimum(far, distance_to(frame, np.roll(back, -rows, 0)))
        mask = far > max(floor, 0.30 * np.percentile(far, 98))
        mask = shifted_all(shifted_all(mask, False), True)
        out.append([m for m in components(mask)[:4] if m.sum() >= 120])
    return out


def colour_of(clip, masks):
    """Nearest colour to the median of the inner pixels over all frames."""
    inner = [frame[shifted_all(m, False)] for frame, m in zip(clip, masks) if m is not None]
    pixels = np.concatenate([p for p in inner if len(p)] or [np.zeros((1, 3))])
    seen = np.median(pixels, axis=0)

    def far(name):
        want = np.array(COLOURS[name], float)
        tint = np.abs((seen - seen.mean()) - (want - want.mean())).sum()
        return tint + 0.5 * abs(seen.mean() - want.mean())
    return min(COLOURS, key=far), [int(v) for v in seen]


def band_angle(frame, mask):
    """The direction, modulo 180 degrees, of the darker band across a round thing."""
    ys, xs = np.nonzero(shifted_all(mask, False))
    if len(xs) < 50:
        return 0.0
    level = frame[ys, xs].astype(float).mean(1)
    odd = np.clip(0.84 - level / np.median(level), 0, 0.3)
    x, y = xs - xs.mean(), ys - ys.mean()
    return math.degrees(0.5 * math.atan2((odd * 2 * x * y).sum(), (odd * (x * x - y * y)).sum()))


def unwrapped(angles, period):
    """Angles that jump by less than half a period from one to the next."""
    out = [angles[0]]
    for a in angles[1:]:
        out.append(out[-1] + (a - out[-1] + period / 2) % period - period / 2)
    return out


# ---- judging --------------------------------------------------------------------------------

def line(values, times):
    """Change over 16 frames by a straight line, and the rms distance from it."""
    slope, start = np.polyfit(times, values, 1)
    rest = values - (slope * times + start)
    return float(slope * (FRAMES - 1)), float(np.sqrt((rest ** 2).mean()))


def motion_of(clip, masks, shape):
    """(name, numbers). Each motion has a measure that reaches 1 where a person would see it."""
    shown = np.array([m is not None for m in masks])
    if shown.sum() < 4:
        return "none", {"shown": float(shown.mean())}
    times = np.nonzero(shown)[0].astype(float)
    where = np.array([polar(m)[1] for m in masks if m is not None])
    period = SYMMETRY[shape]
    if period:
        index = SHAPE_NAMES.index(shape)
        angles = [match(m)[1][index] for m in masks if m is not None]
    else:
        angles = [band_angle(f, m) for f, m in zip(clip, masks) if m is not None]
    dx, off_x = line(where[:, 0], times)
    dy, off_y = line(where[:, 1], times)
    growth, off_r = line(np.log(where[:, 2]), times)
    turn, off_a = line(np.array(unwrapped(angles, period or 180)), times)
    hop = np.abs(np.sin(np.pi * times / 8))
    lift = where[:, 1] - where[:, 1].mean()
    beat = -np.corrcoef(hop, lift)[0, 1] if lift.std() > 1 else 0.0
    height = float(where[:, 1].max() - where[:, 1].min())
    numbers = {"shown": float(shown.mean()), "dx": dx, "dy": dy, "growth": math.exp(growth),
               "turn": turn, "hop": height, "beat": float(beat),
               "speed": math.hypot(dx, dy) / (FRAMES - 1), "off": max(off_x, off_y)}
    changes = int((shown[1:] != shown[:-1]).sum())
    if 0.2 < shown.mean() < 0.85 and changes >= 2:
        return "blinking", numbers
    if beat > 0.75 and height > 14:
        return "bouncing", numbers
    strength = {"left": -dx / 20, "right": dx / 20, "rising": -dy / 20, "falling": dy / 20,
                "growing": growth / 0.25, "shrinking": -growth / 0.25,
                "spinning": abs(turn) / 70 if off_a < 30 else 0.0}
    name = max(strength, key=strength.get)
    loose = {"left": off_x, "right": off_x, "rising": off_y, "falling": off_y}.get(name, 0)
    if strength[name] < 1:
        return ("still" if max(off_x, off_y) < 5 and strength[name] < 0.7 else "none"), numbers
    return (name if loose < 5 else "none"), numbers


def follow(found, count):
    """Sort the masks of all frames into `count` tracks by nearness to the last place."""
    tracks = [[] for _ in range(count)]
    last = [None] * count
    for masks in found:
        masks = list(masks[:count])
        places = [np.array(polar(m)[1][:2]) for m in masks]
        taken = [None] * count
        for i in range(count):
            free = [j for j in range(len(masks)) if j not in taken]
            if not free:
                continue
            near = [0.0 if last[i] is None else np.hypot(*(places[j] - last[i])) for j in free]
            j = free[int(np.argmin(near))]
            if count == 1 or last[i] is None or min(near) < 30:
                taken[i], last[i] = j, places[j]
        for i in range(count):
            tracks[i].append(None if taken[i] is None else masks[taken[i]])
    return tracks


def judge(clip, count=1):
    """What a clip [frames, h, w, 3] shows: {"background", "things": [{colour, shape, motion}]}."""
    found = things_in(clip)
    biggest = max((m[0].sum() for m in found if m), default=0)
    found = [[m for m in masks if m.sum() > 0.18 * biggest] for masks in found]
    name, far = background_of(clip)
    result = {"background": name, "background_off": round(far, 1), "things": []}
    for masks in follow(found, count):
        seen = [m for m in masks if m is not None]
        if not seen:
            result["things"].append({"colour": "none", "shape": "none", "motion": "none"})
            continue
        colour, pixel = colour_of(clip, masks)
        scores = np.mean([match(m)[0] for m in seen], axis=0)
        shape = SHAPE_NAMES[int(scores.argmax())]
        motion, numbers = motion_of(clip, masks, shape)
        result["things"].append({
            "colour": colour, "pixel": pixel, "shape": shape,
            "overlap": round(float(scores.max()), 3), "motion": motion,
            **{k: round(v, 2) for k, v in numbers.items()}})
    return result


# ---- camera ---------------------------------------------------------------------------------

def halve(image):
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))


def soften(image):
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image


def sample_at(image, x, y):
    """Bilinear, the border goes on outside."""
    h, w = image.shape
    x, y = np.clip(x, 0, w - 1.001), np.clip(y, 0, h - 1.001)
    i, j = x.astype(int), y.astype(int)
    u, v = x - i, y - j
    return ((image[j, i] * (1 - u) + image[j, i + 1] * u) * (1 - v)
            + (image[j + 1, i] * (1 - u) + image[j + 1, i + 1] * u) * v)


def register(a, b, rounds=12):
    """The similarity (tx, ty, zoom, roll) that carries picture a to b, by Gauss-Newton."""
    h, w = a.shape
    y, x = np.mgrid[0:h, 0:w].astype(float)
    cx, cy = (w - 1) / 2, (h - 1) / 2
    u, v = x - cx, y - cy
    p = np.zeros(4)
    inner = (np.abs(u) < w / 2 - 4) & (np.abs(v) < h / 2 - 4)
    for _ in range(rounds):
        wx = cx + (1 + p[2]) * u - p[3] * v + p[0]
        wy = cy + p[3] * u + (1 + p[2]) * v + p[1]
        seen = sample_at(b, wx, wy)
        gx = sample_at(b, wx + 0.5, wy) - sample_at(b, wx - 0.5, wy)
        gy = sample_at(b, wx, wy + 0.5) - sample_at(b, wx, wy - 0.5)
        rows = np.stack([gx, gy, gx * u + gy * v, -gx * v + gy * u], -1)[inner]
        rest = (a - seen)[inner]
        p = p + np.linalg.lstsq(rows.T @ rows + 1e-3 * np.eye(4), rows.T @ rest, rcond=None)[0]
    return p


def camera_of(clip):
    """Movement of the whole picture from the first to the last frame, summed over pairs:
    x and y in pixels (right and down positive), zoom as a factor, roll in degrees clockwise."""
    small = [soften(soften(halve(f.astype(float).mean(2)))) for f in clip]
    total = np.zeros(4)
    for a, b in zip(small, small[1:]):
        total += register(a, b)
    return {"x": round(float(2 * total[0]), 1), "y": round(float(2 * total[1]), 1),
            "zoom": round(float(np.exp(total[2])), 3), "roll": round(math.degrees(total[3]), 1)}


def main(arguments):
    camera = "--camera" in arguments
    words = [a for a in arguments if not a.startswith("--")]
    if not words:
        raise SystemExit(__doc__)
    clip = read_clip(words[0])
    if camera:
        print(json.dumps(camera_of(clip)))
        return 0
    result = judge(clip)
    print(json.dumps(result))
    thing = result["things"][0]
    told = {thing["colour"], thing["shape"], thing["motion"], result["background"]}
    return 0 if set(words[1:]) <= told else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

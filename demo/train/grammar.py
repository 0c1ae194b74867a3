"""grammar.py - the little world in words: colours, shapes, motions, backgrounds and captions.

Used by draw.py (what to draw), text.py (what to read) and every training stage. A Scene says what
a clip holds; caption() says it in one of many wordings. Some combinations are held out: no stage
of the training ever sees them, so that judging them shows what the model understood.
"""
import random
from dataclasses import dataclass

COLOURS = {
    "red": (222, 44, 40), "orange": (250, 140, 20), "yellow": (250, 215, 40),
    "green": (45, 165, 65), "teal": (20, 185, 185), "blue": (40, 90, 230),
    "purple": (140, 60, 205), "pink": (250, 130, 185), "brown": (130, 78, 40),
    "white": (245, 245, 245),
}
SHAPES = ["ball", "square", "triangle", "star", "heart", "ring", "cross", "moon"]
MOTIONS = ["left", "right", "rising", "falling", "growing", "shrinking", "spinning", "bouncing",
           "blinking", "still"]
BACKGROUNDS = ["white", "black", "grey", "sky", "meadow", "sunset", "night", "desert"]
COLOUR_NAMES = list(COLOURS)

COLOUR_WORDS = {name: [name] for name in COLOURS} | {
    "teal": ["teal", "teal", "turquoise", "cyan"], "purple": ["purple", "purple", "violet"]}
SHAPE_WORDS = {
    "ball": ["ball", "ball", "circle", "sphere"], "square": ["square", "square", "box", "cube"],
    "triangle": ["triangle"], "star": ["star"], "heart": ["heart"],
    "ring": ["ring", "ring", "donut"], "cross": ["cross", "cross", "plus"],
    "moon": ["moon", "moon", "crescent"]}
MOTION_WORDS = {
    "left": ["rolling left", "rolling left", "rolling to the left", "moving left",
             "sliding to the left", "going left"],
    "right": ["rolling right", "rolling right", "rolling to the right", "moving right",
              "sliding to the right", "going right"],
    "rising": ["rising", "rising", "rising up", "moving up", "floating up", "going up"],
    "falling": ["falling", "falling", "falling down", "moving down", "dropping", "going down"],
    "growing": ["growing", "growing", "getting bigger", "becoming larger"],
    "shrinking": ["shrinking", "shrinking", "getting smaller", "becoming smaller"],
    "spinning": ["spinning", "spinning", "rotating", "turning around"],
    "bouncing": ["bouncing", "bouncing", "bouncing up and down", "jumping"],
    "blinking": ["blinking", "blinking", "flashing", "blinking on and off"],
    "still": ["standing still", "standing still", "not moving", "resting"]}
BACKGROUND_WORDS = {
    "white": ["on a white background", "on white", "in front of a white wall"],
    "black": ["on a black background", "on black", "in front of a black wall"],
    "grey": ["on a grey background", "on grey", "in front of a grey wall"],
    "sky": ["in the sky", "on a sky background", "in front of the sky", "in a blue sky"],
    "meadow": ["on a meadow", "on a meadow background", "in front of a green meadow", "on grass"],
    "sunset": ["at sunset", "on a sunset background", "in the evening"],
    "night": ["at night", "on a night background", "in the dark night"],
    "desert": ["in the desert", "on a desert background", "on sand"]}
# Words that change nothing: the reader learns to pass over them.
OPENINGS = ["a clip of", "a video of", "an animation of", "a picture of", "there is", "we see",
            "a cartoon of", "a rendering of", "look at"]
FILLERS = ["shiny", "little", "big", "nice", "cute", "beautiful", "bright", "soft", "glossy",
           "lovely", "pretty", "simple"]
TAILS = ["high quality", "best quality", "masterpiece", "8k", "smooth", "detailed", "3d",
         "studio light", "soft shadow", "digital art"]

# Never drawn in training: 8 of 80 (colour, shape) and 8 of 80 (shape, motion) pairs.
HELD_COLOUR_SHAPE = {
    ("red", "star"), ("orange", "moon"), ("yellow", "square"), ("green", "heart"),
    ("teal", "triangle"), ("blue", "ring"), ("purple", "ball"), ("pink", "cross")}
HELD_SHAPE_MOTION = {
    ("ball", "rising"), ("square", "left"), ("triangle", "shrinking"), ("star", "falling"),
    ("heart", "bouncing"), ("ring", "growing"), ("cross", "right"), ("moon", "spinning")}


@dataclass
class Thing:
    """One object; a field is None where the caption does not name it."""
    colour: str | None
    shape: str | None
    motion: str | None


@dataclass
class Scene:
    things: list[Thing]
    background: str | None


def held_out(thing):
    return ((thing.colour, thing.shape) in HELD_COLOUR_SHAPE
            or (thing.shape, thing.motion) in HELD_SHAPE_MOTION)


def allowed(scene):
    """White on white cannot be seen; held-out pairs are for the judge alone."""
    if scene.background == "white" and any(t.colour == "white" for t in scene.things):
        return False
    return not any(held_out(t) for t in scene.things)


def random_scene(rng, two=0.12):
    """A training scene with every field set."""
    while True:
        count = 2 if rng.random() < two else 1
        things = [Thing(rng.choice(COLOUR_NAMES), rng.choice(SHAPES), rng.choice(MOTIONS))
                  for _ in range(count)]
        scene = Scene(things, rng.choice(BACKGROUNDS))
        same = count == 2 and (things[0].colour == things[1].colour
                               or things[0].shape == things[1].shape)
        if allowed(scene) and not same:
            return scene


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def thing_text(thing, rng, plain):
    """The object with its motion, in one of six orders of words."""
    colour = rng.choice(COLOUR_WORDS[thing.colour]) if thing.colour else ""
    shape = rng.choice(SHAPE_WORDS[thing.shape]) if thing.shape else rng.choice(
        ["thing", "object", "shape"])
    motion = rng.choice(MOTION_WORDS[thing.motion]) if thing.motion else ""
    if not plain and rng.random() < 0.2:
        colour = (rng.choice(FILLERS) + " " + colour).strip()
    noun = (colour + " " + shape).strip()
    form = 0 if plain else rng.randrange(6)
    if form <= 2 or not motion:
        return (article(noun) + " " + motion).strip()
    if form == 3:
        return f"{article(noun)} that is {motion}"
    if form == 4 and colour:
        return f"{article(shape)}, {colour}, {motion}"
    return f"{motion} {noun}"


def caption(scene, rng, plain=False):
    """One wording of the scene. plain: the ordinary order, as in the README's examples."""
    text = " and ".join(thing_text(t, rng, plain) for t in scene.things)
    if not plain and rng.random() < 0.15:
        text = rng.choice(OPENINGS) + " " + text
    place = rng.choice(BACKGROUND_WORDS[scene.background]) if scene.background else ""
    if place:
        front = not plain and rng.random() < 0.2
        text = f"{place}, {text}" if front else text + rng.choice([" ", " ", ", "]) + place
    if not plain and rng.random() < 0.08:
        text += ", " + rng.choice(TAILS)
    return text


def tell(scene, rng, empty=0.1):
    """(caption, what it says) of a drawn scene.

    No motion named means standing still and no background named means the sky, so a short prompt
    has one answer, not a mixture; only such scenes may be told so. Colour and shape left out stay
    open. A fragment ("red", "at night") names one thing and leaves the rest open, as words of a
    negative prompt do.
    """
    if rng.random() < empty:
        return "", NOTHING
    if len(scene.things) == 1 and rng.random() < 0.05:
        return fragment(scene, rng)
    spoken = [Thing(t.colour, t.shape, t.motion) for t in scene.things]
    meant = [Thing(t.colour, t.shape, t.motion) for t in scene.things]
    if len(spoken) == 1:
        if spoken[0].motion == "still" and rng.random() < 0.3:
            spoken[0].motion = None
        if rng.random() < 0.03:
            spoken[0].colour = meant[0].colour = None
        if rng.random() < 0.03:
            spoken[0].shape = meant[0].shape = None
    place = None if scene.background == "sky" and rng.random() < 0.3 else scene.background
    return caption(Scene(spoken, place), rng), Scene(meant, scene.background)


def fragment(scene, rng):
    thing, kind = scene.things[0], rng.randrange(4)
    if kind == 0:
        return rng.choice(COLOUR_WORDS[thing.colour]), Scene([Thing(thing.colour, None, None)], None)
    if kind == 1:
        word = rng.choice(SHAPE_WORDS[thing.shape])
        return word, Scene([Thing(None, thing.shape, None)], None)
    if kind == 2:
        word = rng.choice(MOTION_WORDS[thing.motion])
        return word, Scene([Thing(None, None, thing.motion)], None)
    words = rng.choice(BACKGROUND_WORDS[scene.background])
    return words, Scene([Thing(None, None, None)], scene.background)


NOTHING = Scene([], None)


if __name__ == "__main__":
    generator = random.Random(1)
    for _ in range(20):
        print(tell(random_scene(generator), generator))

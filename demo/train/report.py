"""report.py - writes what was measured into demo/README.md, between its marks, and the curves.

Reads the curves, gates, tables, effects and times that the stages left in the work folder.
Run: python report.py
"""
import json

from PIL import Image, ImageDraw

from common import WORK
from makers import HOME

STAGES = [("vae", "rec"), ("text", "loss"), ("t2i", "v"), ("motion", "loss")]
QUESTIONS = ("background", "colour", "shape", "motion")


def read(name):
    path = WORK / name
    return json.loads(path.read_text()) if path.exists() else None


def curves(path):
    """Four small plots side by side: loss (log scale) against steps."""
    import math
    wide, high, gap = 220, 130, 16
    image = Image.new("RGB", (len(STAGES) * (wide + gap) + gap, high + 3 * gap), "white")
    pen = ImageDraw.Draw(image)
    for i, (stage, key) in enumerate(STAGES):
        points = [(p["step"], p[key]) for p in read(f"{stage}.curve.json") or []]
        left, top = gap + i * (wide + gap), 2 * gap
        pen.rectangle([left, top, left + wide, top + high], outline=(200, 200, 200))
        if len(points) < 2:
            continue
        low, up = (math.log(f(v for _, v in points)) for f in (min, max))
        last = points[-1][0]
        line = [(left + wide * s / last,
                 top + high * (up - math.log(v)) / max(up - low, 1e-6)) for s, v in points]
        pen.line(line, fill=(40, 90, 200), width=1)
        pen.text((left, 6), f"{stage}: {points[0][1]:.3f} to {points[-1][1]:.4f}, {last} steps",
                 fill=(0, 0, 0))
    image.save(path)


def table_of(lines):
    """A table; nothing where it has no row."""
    return "\n".join(lines) if len(lines) > 2 else ""


def judge_table():
    table = read("gate-clips.json") or {}
    names = {"seen": "one thing, seen combination", "unseen": "one thing, unseen combination",
             "two": "two things"}
    lines = ["| prompts | clips | background | colour | shape | motion |",
             "|---|---|---|---|---|---|"]
    for key, row in table.items():
        cells = " | ".join(f"{row[q]:.1f} %" for q in QUESTIONS)
        lines.append(f"| {names[key]} | {row['clips']} | {cells} |")
    return table_of(lines)


def gate_table():
    lines = ["| after stage | the judge measured |", "|---|---|"]
    for name in ("vae", "text", "frames"):
        row = read(f"gate-{name}.json")
        if row:
            lines.append(f"| {name} | " + ", ".join(f"{k} {v}" for k, v in row.items()) + " |")
    return table_of(lines)


def effect_table():
    lines = ["| switch | measured |", "|---|---|"]
    for path in sorted(WORK.glob("effect-*.json")):
        row = json.loads(path.read_text())
        kind, _, name = path.stem.removeprefix("effect-").partition("-")
        kind = {"motion": "motion LoRA", "opposite": "two motion LoRAs:"}.get(kind, kind)
        lines.append(f"| {kind} {name.replace('-prompt', ' prompt')} | "
                     + ", ".join(f"{k} {v:.3g}" for k, v in row.items()) + " |")
    return table_of(lines)


def time_table():
    path = WORK / "times.txt"
    lines = ["| stage | minutes |", "|---|---|"]
    for line in path.read_text().splitlines() if path.exists() else []:
        name, seconds, _ = line.split()
        lines.append(f"| {name} | {int(seconds) / 60:.0f} |")
    return table_of(lines)


def main():
    curves(HOME / "curves.png")
    readme = (HOME / "README.md").read_text()
    for mark, make in (("judge", judge_table), ("gates", gate_table), ("effects", effect_table),
                       ("times", time_table)):
        head, rest = readme.split(f"<!-- {mark} -->\n")
        table, after = make(), rest.split("<!-- end -->", 1)[1]
        readme = f"{head}<!-- {mark} -->\n{table}{table and chr(10)}<!-- end -->{after}"
    (HOME / "README.md").write_text(readme)


if __name__ == "__main__":
    main()

"""package.py - puts the trained parts into demo/ as they are shipped, with model_index.json.

Run: python package.py [target folder, default demo/]
"""
import json
import shutil
import sys
from pathlib import Path

from common import WORK, note

LIMIT = 24_000_000
INDEX = {
    "_class_name": "AnimateDiffPipeline", "_diffusers_version": "0.37.1",
    "feature_extractor": [None, None], "image_encoder": [None, None],
    "motion_adapter": ["diffusers", "MotionAdapter"], "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"]}


def write_index():
    (WORK / "model/model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")


def package(target):
    write_index()
    for name in ("model", "motion_lora", "lora", "embedding"):
        if (WORK / name).exists():
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(WORK / name, target / name)
    for config in target.glob("model/*/config.json"):
        fields = json.loads(config.read_text())
        fields.pop("_name_or_path", None)
        config.write_text(json.dumps(fields, indent=2) + "\n")
    size = sum(f.stat().st_size for n in ("model", "motion_lora", "lora", "embedding")
               for f in (target / n).rglob("*") if f.is_file())
    note(f"{size} bytes in {target}")
    if size > LIMIT:
        raise SystemExit(f"{size} bytes are more than {LIMIT}")


if __name__ == "__main__":
    package(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)

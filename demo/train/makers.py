"""makers.py - two ways to make a clip for the judge: this project's ffmpeg, or diffusers.

The judge's tables are about what users get, so ffmpeg is the way where it is built; $FFMPEG names it.
diffusers' own AnimateDiffPipeline serves on a GPU machine without ffmpeg and as a check that both show
the same. Both take what differs from the defaults:

    clip(prompt, seed, negative="", steps=25, guidance=7.5, motion_lora={name: weight},
         lora={name: weight}, embedding=[name]) -> bytes [16, 128, 128, 3]
"""
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np

HOME = Path(__file__).resolve().parent.parent
FRAMES, SIZE = 16, 128
STEPS, GUIDANCE = 25, 7.5


def escaped(value):
    """A value inside a filter's arguments: the characters that end it get a backslash, twice."""
    once = re.sub(r"([\\':])", r"\\\1", str(value))
    return re.sub(r"([\\'\[\],;])", r"\\\1", once)


class Ffmpeg:
    """Clips from `ffmpeg -f lavfi -i animatediff=...`; one process per clip."""

    def __init__(self, program, home=HOME, threads=1):
        self.program, self.home, self.threads = program, Path(home), threads

    def files(self, folder, weights):
        return "|".join(f"{self.home / folder / name}.safetensors@{weight}"
                        for name, weight in weights.items())

    def clip(self, prompt, seed, negative="", steps=STEPS, guidance=GUIDANCE, motion_lora=None,
             lora=None, embedding=()):
        given = {"prompt": prompt, "negative_prompt": negative, "seed": seed, "steps": steps,
                 "guidance_scale": guidance, "threads": self.threads, "model": self.home / "model",
                 "motion_lora": self.files("motion_lora", motion_lora or {}),
                 "lora": self.files("lora", lora or {}),
                 "embedding": "|".join(f"<{name}>@{self.home / 'embedding' / name}.safetensors"
                                       for name in embedding)}
        graph = ":".join(f"{k}={escaped(v)}" for k, v in given.items() if v != "")
        done = subprocess.run([self.program, "-v", "error", "-f", "lavfi", "-i",
                               f"animatediff={graph}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
                              capture_output=True)
        if done.returncode:
            raise SystemExit(f"ffmpeg: {done.stderr.decode()}")
        return np.frombuffer(done.stdout, np.uint8).reshape(FRAMES, SIZE, SIZE, 3)


class Diffusers:
    """Clips from diffusers' AnimateDiffPipeline on whatever device torch finds."""

    def __init__(self, home=HOME):
        import torch
        from diffusers import AnimateDiffPipeline
        from transformers import CLIPTokenizerFast
        self.torch, self.home = torch, Path(home)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.type = torch.bfloat16 if self.device == "cuda" else torch.float32
        folder = self.home / "model"
        tokenizer = CLIPTokenizerFast.from_pretrained(folder / "tokenizer", model_max_length=77)
        self.pipe = AnimateDiffPipeline.from_pretrained(folder, tokenizer=tokenizer,
                                                        torch_dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.to(self.device)
        for part in (self.pipe.unet, self.pipe.vae):
            part.to(self.type)
        self.active = self.learnt = None

    def use(self, files):
        """Exactly these LoRA files, [(folder, name, weight)], are active."""
        if files == self.active:
            return
        self.pipe.unload_lora_weights()
        for i, (folder, name, _) in enumerate(files):
            self.pipe.load_lora_weights(self.home / folder, weight_name=f"{name}.safetensors",
                                        adapter_name=f"a{i}")
        if files:
            self.pipe.set_adapters([f"a{i}" for i in range(len(files))], [w for _, _, w in files])
        self.active = files

    def clip(self, prompt, seed, negative="", steps=STEPS, guidance=GUIDANCE, motion_lora=None,
             lora=None, embedding=()):
        self.use([("motion_lora", n, w) for n, w in (motion_lora or {}).items()]
                 + [("lora", n, w) for n, w in (lora or {}).items()])
        for name in embedding if self.learnt is None else ():
            self.pipe.load_textual_inversion(self.home / "embedding",
                                             weight_name=f"{name}.safetensors")
            self.learnt = name
        with self.torch.no_grad():
            told, free = self.pipe.encode_prompt(prompt, self.device, 1, guidance > 1, negative)
            out = self.pipe(prompt_embeds=told.to(self.type),
                            negative_prompt_embeds=None if free is None else free.to(self.type),
                            num_frames=FRAMES, num_inference_steps=steps, guidance_scale=guidance,
                            generator=self.torch.Generator("cpu").manual_seed(seed),
                            output_type="np")
        return (np.clip(out.frames[0], 0, 1) * 255).round().astype(np.uint8)


def new_maker(home=HOME):
    """ffmpeg where $FFMPEG names it, else diffusers."""
    program = os.environ.get("FFMPEG")
    return Ffmpeg(program, home) if program else Diffusers(home)


class Notes:
    """What was measured of each clip, kept line by line, so that a run goes on where it ended.

    The key of a clip holds the model's bytes: another model's notes are not taken for this one's.
    """

    def __init__(self, path, home=HOME):
        self.path = Path(path)
        weights = sorted((Path(home) / "model").rglob("*.safetensors"))
        self.model = hashlib.sha256(b"".join(p.read_bytes() for p in weights)).hexdigest()[:12]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.known = {row["key"]: row["value"] for row in map(json.loads, lines)}

    def take(self, measure, prompt, seed, make, **options):
        """measure(make(prompt, seed, **options)), from the notes if it is there."""
        name = getattr(measure, "__name__", "")
        key = json.dumps([self.model, name, prompt, seed, options], sort_keys=True)
        if key not in self.known:
            value = measure(make(prompt, seed, **options))
            with open(self.path, "a") as out:
                out.write(json.dumps({"key": key, "value": value}, default=float) + "\n")
            self.known[key] = value
        return self.known[key]

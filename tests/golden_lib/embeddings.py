"""embeddings.py - textual inversions: embeddings/, embeddings.json, .safetensors, .rgb.

Random vectors in the three forms of files that people share, read by the pipeline's own
load_textual_inversion; ids and text states of prompts with their tokens, and one clip. Tokens are
lower case: of one with capitals this pipeline finds the first vector and forgets the others.
"""
import json

import numpy as np
import torch

from . import reference
from .pins import GOLDEN, float64_by_default, store

FOLDER = GOLDEN / "embeddings"
WIDTH = 32                                                      # of models/plain
TOKENS = [("<one>", "one.safetensors"), ("<three>", "three.safetensors"), ("two-vec", "two.pt")]

PROMPTS = [
    ("one", "a photo of <one>"), ("three", "a photo of <three>, at night"),
    ("two", "a photo of two-vec"), ("all", "<three><one> two-vec<three>"),
    ("inside_words", "a<one>b two-vector"), ("indexed", "a <three>_1 b <three>_2, two-vec_1"),
    ("not_indexed", "a <one>_1 b"), ("apostrophe", "the <one>'s cat"),
    ("other_case", "a <ONE> b"), ("cut_inside", "a " * 73 + "<three> b"),
    ("beyond", "a " * 76 + "<one>"), ("none", "a red ball"),
]

OPTIONS = {"model": "models/plain", "motion_adapter": "models/plain-motion", "scheduler": "ddim",
           "beta_schedule": "linear", "steps": "4", "seed": "52", "size": "32x32", "frames": "4",
           "guidance_scale": "6", "prompt": "a ball like <one> and <three>",
           "negative_prompt": "two-vec"}


def vectors(seed, *shape):
    """As large as the token table's."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return 2 / WIDTH ** 0.5 * torch.randn(*shape, generator=generator)


def write_files():
    FOLDER.mkdir(exist_ok=True)
    store({"<one>": vectors(1, WIDTH)}, FOLDER / "one.safetensors")
    store({"emb_params": vectors(2, 3, WIDTH).half()}, FOLDER / "three.safetensors")
    torch.save({"string_to_token": {"*": 265},
                "string_to_param": {"*": torch.nn.Parameter(vectors(3, 2, WIDTH))},
                "name": "golden", "step": 7, "sd_checkpoint": None, "sd_checkpoint_name": None},
               FOLDER / "two.pt")
    (FOLDER / "two.pt").chmod(0o644)
    store({"two-vec": vectors(3, 2, WIDTH)}, FOLDER / "two.safetensors")


def load():
    pipe = reference.load(OPTIONS)
    for token, file in TOKENS:
        pipe.load_textual_inversion(FOLDER / file, token=token)
    return pipe


def encode(pipe, prompt):
    """As the pipeline does: 77 ids and the text states in double."""
    text = pipe.maybe_convert_prompt(prompt, pipe.tokenizer)
    ids = pipe.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    with float64_by_default():
        states = pipe.text_encoder(torch.tensor([ids])).last_hidden_state[0]
    return ids, states


def write():
    write_files()
    pipe = load()
    frames = reference.render(pipe, OPTIONS, torch.float64)
    (GOLDEN / "embeddings.rgb").write_bytes(np.ascontiguousarray(frames).tobytes())
    rows, tensors = [], {}
    for name, prompt in PROMPTS:
        ids, states = encode(pipe, prompt)
        rows.append({"name": name, "text": prompt, "ids": ids})
        tensors[name] = states.float().contiguous()
    store(tensors, GOLDEN / "embeddings.safetensors")
    embedding = "|".join(f"{token}@embeddings/{file}" for token, file in TOKENS)
    embedding = embedding.replace(".pt", ".safetensors")        # the same vectors
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows)
    options = json.dumps({**OPTIONS, "embedding": embedding})
    (GOLDEN / "embeddings.json").write_text(
        '{"prompts":[\n' + lines + f'\n],\n"clip":{{"options":{options},'
        '"file":"embeddings.rgb"}}\n')
    print(f"  {len(rows)} prompts, one clip")

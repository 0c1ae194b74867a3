"""formats.py - the same weights as other programs store them: names, types, folders, links.

models.py calls these after save_pretrained. Each function says whose layout it writes.
"""
import hashlib
import json
import os
import shutil

import torch
from safetensors.torch import load_file

from .pins import GOLDEN, store

FOLDER = GOLDEN / "models"


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def own_bytes(path):
    """Bytes of the regular files below, links not followed."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink())


def with_scheduler(model, name, scheduler):
    """A second folder that differs in its scheduler file only; the rest are links to the first."""
    folder = FOLDER / name
    folder.mkdir()
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        (folder / part).symlink_to(f"../{model}/{part}")
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((FOLDER / model / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    write_json(folder / "model_index.json", index)


def mix_types(module):
    """Every third tensor half, every third bfloat16: such files exist and load."""
    for i, p in enumerate(module.parameters()):
        p.data = p.data.to((torch.float32, torch.float16, torch.bfloat16)[i % 3])


def rename(path, new_name):
    """The same file with other keys."""
    store({new_name(k): v for k, v in load_file(path).items()}, path)


def old_vae_names(path):
    """diffusers up to 0.16: the attention of the autoencoder's mid blocks."""
    table = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old(key):
        for new, name in table.items():
            if ".attentions.0." in key:
                key = key.replace(f".{new}.", f".{name}.")
        return key

    rename(path, old)
    assert sum(".proj_attn." in k for k in load_file(path)) == 4


def without_prefix(path):
    """transformers from 5.6 on, and single files made by NovelAI."""
    rename(path, lambda key: key.removeprefix("text_model."))


def adapter_file(adapter, name):
    """A motion adapter as one file without a config (AnimateDiff-Lightning is distributed so)."""
    store({k: v.contiguous() for k, v in adapter.state_dict().items()}, FOLDER / name)


def original_adapter_file(adapter, name):
    """The layout of guoyww/AnimateDiff: other names inside a module, and two equal tables."""
    out = {}
    for key, value in adapter.state_dict().items():
        head, tail = key.split(".motion_modules.")
        number, tail = tail.split(".", 1)
        prefix = f"{head}.motion_modules.{number}.temporal_transformer."
        if tail.endswith("pos_embed.pe"):
            block = tail.removesuffix("pos_embed.pe")
            # computed in float32 there; diffusers ignores the stored values and computes its own
            table = positions(*value.shape[1:])
            out[f"{prefix}{block}attention_blocks.0.pos_encoder.pe"] = table
            out[f"{prefix}{block}attention_blocks.1.pos_encoder.pe"] = table.clone()
            continue
        for new, original in (("attn1.", "attention_blocks.0."), ("attn2.", "attention_blocks.1."),
                              ("norm1.", "norms.0."), ("norm2.", "norms.1."),
                              ("norm3.", "ff_norm.")):
            tail = tail.replace("." + new, "." + original)
        out[prefix + tail] = value.contiguous()
    store(out, FOLDER / name)


def positions(length, channels):
    """The positional table, from the class that makes it."""
    from diffusers.models.embeddings import SinusoidalPositionalEmbedding
    return SinusoidalPositionalEmbedding(channels, max_seq_length=length).pe.clone()


def motion_lora(adapter, name, rank, seed):
    """A motion LoRA as published for diffusers: no alpha, one pair per projection."""
    generator = torch.Generator("cpu").manual_seed(seed)
    out = {}
    for key, w in adapter.state_dict().items():
        path, dot, tail = key.rpartition(".to_")
        if not dot or not tail.endswith("weight"):
            continue
        letter = tail.split(".")[0]                               # q, k, v, out
        pair = f"unet.{path}.processor.to_{letter}_lora"
        out[f"{pair}.down.weight"] = torch.randn(
            (rank, w.shape[1]), generator=generator) / w.shape[1] ** 0.5
        out[f"{pair}.up.weight"] = torch.randn((w.shape[0], rank), generator=generator) / rank
    store(out, GOLDEN / name)


def picture_lora(parts, name, rank, seed, kohya):
    """A LoRA for every linear layer and convolution of the UNet and the text encoder's layers.

    kohya: names of kohya's trainer, which writes an alpha; else diffusers' own of today, which are
    PEFT's, and without convolutions. One alpha for all: diffusers mixes different ones up.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    out = {}
    for part, prefix in (("unet", "lora_unet_"), ("text_encoder", "lora_te_")):
        for path, layer in parts[part].named_modules():
            w = getattr(layer, "weight", None)
            if w is None or w.ndim not in (2, 4) or "embeddings" in path:
                continue
            if w.ndim == 4 and not kohya or not {"attentions", "resnets", "samplers", "layers"} & {
                    p.removeprefix("up").removeprefix("down") for p in path.split(".")}:
                continue
            fan = w[0].numel()
            down = torch.randn((rank, *w.shape[1:]), generator=generator) / fan ** 0.5
            up = torch.randn((w.shape[0], rank, *(1,) * (w.ndim - 2)), generator=generator) / rank
            if kohya:
                stem = prefix + path.replace(".", "_")
                out[f"{stem}.lora_down.weight"] = down.half()
                out[f"{stem}.lora_up.weight"] = up.half()
                out[f"{stem}.alpha"] = torch.tensor(rank / 2, dtype=torch.float16)
            else:
                out[f"{part}.{path}.lora_A.weight"] = down
                out[f"{part}.{path}.lora_B.weight"] = up
    store(out, GOLDEN / name)


def hub_cache(source, name):
    """models--owner--name/{blobs,refs,snapshots/<commit>}: the files are links into blobs."""
    root = FOLDER / name
    commit = hashlib.sha1(name.encode()).hexdigest()
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs/main").write_text(commit)
    for file in sorted(p for p in source.rglob("*") if p.is_file()):
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        if not blob.exists():
            shutil.copyfile(file, blob)
        link = root / "snapshots" / commit / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))

"""ldm.py - one file in the layout of CompVis' latent diffusion: every Stable Diffusion 1.x checkpoint.

`to_ldm` turns the tensors of a diffusers folder round; `proved` lets diffusers read the file and
compares all tensors, so the layout is diffusers' word, not ours. `names_of_sd15` lists what a
checkpoint of the published size holds. models.py calls this.
"""
import re

import torch

from . import formats
from .pins import GOLDEN, store

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
          "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
WHOLE = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
         "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}


# ---- names --------------------------------------------------------------------------------------

def unet_name(key, plain_up):
    """plain_up: numbers of the up blocks without attention."""
    layer, leaf = key.rsplit(".", 1)
    if layer in WHOLE:
        return f"{WHOLE[layer]}.{leaf}"
    if m := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", key):
        kind, i, rest = m[1], int(m[2]), m[3]
        place = f"middle_block.{2 * i if kind == 'resnets' else 1}"
        return f"{place}.{inside(kind, rest)}"
    way, block, kind, i, rest = re.fullmatch(
        r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", key).groups()
    block, i = int(block), int(i)
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op.{leaf}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{1 if block in plain_up else 2}.conv.{leaf}"
    n = 3 * block + i + (way == "down")
    place = f"{'input' if way == 'down' else 'output'}_blocks.{n}.{int(kind == 'attentions')}"
    return f"{place}.{inside(kind, rest)}"


def inside(kind, rest):
    if kind == "attentions":
        return rest
    name, leaf = rest.rsplit(".", 1)
    return f"{RESNET[name]}.{leaf}"


def vae_name(key):
    for pattern, to in (
            (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
            (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
            (r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}"),
            (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
            (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
            (r"mid_block\.attentions\.0", "mid.attn_1"), (r"attn_1\.group_norm", "attn_1.norm"),
            (r"\.to_([qkv])\.", r".\1."), (r"\.to_out\.0\.", ".proj_out."),
            ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out")):
        key = re.sub(pattern, to, key)
    return key


def vae_tensor(key, value):
    """The attention's matrices are 1x1 convolutions there."""
    flat = value.ndim == 2 and ".attentions." in key
    return value[:, :, None, None] if flat else value


# ---- files --------------------------------------------------------------------------------------

def to_ldm(unet, vae, text, plain_up):
    """State dicts -> one; the text encoder's position_ids as old files have them."""
    out = {"model.diffusion_model." + unet_name(k, plain_up): v for k, v in unet.items()}
    out |= {"first_stage_model." + vae_name(k): vae_tensor(k, v) for k, v in vae.items()}
    out |= {"cond_stage_model.transformer." + k: v for k, v in text.items()}
    out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = \
        torch.arange(77)[None]
    return out


def clutter(tensors):
    """What training leaves in a file: averages under flat names, tables, counters."""
    first = next(iter(tensors))
    flat = "".join(first.removeprefix("model.").split("."))
    return {"model_ema." + flat: torch.zeros(4), "model_ema.decay": torch.tensor(0.9999),
            "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
            "betas": torch.zeros(8), "alphas_cumprod": torch.zeros(8), "logvar": torch.zeros(8),
            "first_stage_model.loss.logvar": torch.zeros(1)}


def write(parts, name):
    """models/NAME.safetensors of a whole model, models/NAME-vae.safetensors of its autoencoder
    alone and without a prefix, as vae-ft-mse-840000 has it."""
    states = [{k: v.contiguous() for k, v in parts[p].state_dict().items()}
              for p in ("unet", "vae", "text_encoder")]
    plain_up = [i for i, b in enumerate(parts["unet"].config.up_block_types) if "Cross" not in b]
    tensors = to_ldm(*states, plain_up)
    vae = {vae_name(k): vae_tensor(k, v) for k, v in states[1].items()}
    store(tensors | clutter(tensors), formats.FOLDER / f"{name}.safetensors")
    store(vae, formats.FOLDER / f"{name}-vae.safetensors")
    proved(formats.FOLDER / f"{name}.safetensors", formats.FOLDER / name, states)


def proved(file, folder, states):
    """diffusers reads the same tensors out of it."""
    from diffusers import StableDiffusionPipeline
    pipe = read(StableDiffusionPipeline, file, folder)
    for part, wanted in zip((pipe.unet, pipe.vae, pipe.text_encoder), states):
        found = part.state_dict()
        assert set(found) == set(wanted)
        assert all(torch.equal(found[k], wanted[k].float()) for k in wanted)


def read(cls, file, folder, **parts):
    return cls.from_single_file(str(file), config=str(folder), local_files_only=True,
                                torch_dtype=torch.float32, safety_checker=None,
                                feature_extractor=None, requires_safety_checker=False, **parts)


def names_of_sd15():
    """ldm_sd15.json: every name and shape of a checkpoint of Stable Diffusion 1.5."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    with init_empty_weights():
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=[128, 256, 512, 512], layers_per_block=2,
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
        text = CLIPTextModel(CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    states = [m.state_dict() for m in (unet, vae, text)]
    assert [len(s) for s in states] == [686, 248, 196]
    tensors = to_ldm(*states, [0])
    lines = ",\n".join(f'"{k}":{list(v.shape)}' for k, v in tensors.items())
    (GOLDEN / "ldm_sd15.json").write_text("{" + lines + "}\n")

"""models.py - the miniature models of the clips: tests/golden/models/.

Random weights in every tensor, sizes and options as different as the classes allow, each saved by
the classes' own save_pretrained. formats.py then turns some of them into what old programs, hubs
and other repositories write. Each model says below why it is there; clips.py uses them.
"""
import math
import shutil
import tempfile
from pathlib import Path

import torch

from . import bpe, ckpt, formats, ldm, peft_lora
from .pins import GOLDEN

FOLDER = GOLDEN / "models"
TOKENS = len(bpe.vocabulary([])) + bpe.MERGES

# what Stable Diffusion 1.5 repositories hold: not every field, and a fp16-era class name
SD15_SCHEDULER = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    "clip_sample": False,
}
LEVELS = {"beta_start": 0.00085, "beta_end": 0.012}


# ---- random weights -----------------------------------------------------------------------------

def shake(module, generator):
    """Draw every parameter: a matrix keeps the variance of its input, nothing is zero.

    A fresh MotionAdapter has zeroed output projections and would change nothing; a fresh text
    encoder tells prompts hardly apart unless its token embeddings are large.
    """
    for name, p in module.named_parameters():
        n = torch.randn(p.shape, generator=generator)
        if "token_embedding" in name:
            value = 2 * n / math.sqrt(p.shape[1])
        elif p.ndim >= 2:
            value = n / math.sqrt(math.prod(p.shape[1:]))
        elif name.endswith("weight"):
            value = 1 + 0.2 * n
        else:
            value = 0.1 * n
        p.data.copy_(value)
    return module.eval()


def calibrate(parts, levels=36.0):
    """Scale the decoder's last convolution so that frames are neither grey nor clipped."""
    from . import reference
    conv = parts["vae"].decoder.conv_out
    conv.bias.data.zero_()
    video = reference.render_raw(parts)                        # [f, 3, h, w], 1.0 = 127.5 levels
    spread = (video - video.mean(dim=(0, 2, 3), keepdim=True)).std()
    gain = levels / 127.5 / spread
    conv.weight.data *= gain
    conv.bias.data = -gain * video.mean(dim=(0, 2, 3))


# ---- parts --------------------------------------------------------------------------------------

def unet(levels, width, **options):
    """levels: a letter per level, X with cross attention, P plain."""
    from diffusers import UNet2DConditionModel
    names = {"X": "CrossAttn{}Block2D", "P": "{}Block2D"}
    return UNet2DConditionModel(
        sample_size=8, cross_attention_dim=width, **options,
        down_block_types=[names[k].format("Down") for k in levels],
        up_block_types=[names[k].format("Up") for k in reversed(levels)])


def motion_adapter(unet_, **options):
    """An adapter that fits the UNet."""
    from diffusers import MotionAdapter
    return MotionAdapter(block_out_channels=unet_.config.block_out_channels,
                         motion_layers_per_block=unet_.config.layers_per_block,
                         motion_norm_num_groups=unet_.config.norm_num_groups, **options)


def autoencoder(channels, layers, groups, **options):
    from diffusers import AutoencoderKL
    return AutoencoderKL(block_out_channels=channels, layers_per_block=layers,
                         norm_num_groups=groups, sample_size=64, **options,
                         down_block_types=["DownEncoderBlock2D"] * len(channels),
                         up_block_types=["UpDecoderBlock2D"] * len(channels))


def text_encoder(width, layers, heads, act="quick_gelu"):
    """With the bos, eos and pad ids of the real config, which are wrong there too."""
    from transformers import CLIPTextConfig, CLIPTextModel
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=TOKENS, hidden_size=width, intermediate_size=4 * width, hidden_act=act,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=77,
        bos_token_id=0, eos_token_id=2, pad_token_id=1))


def tokenizer():
    """The class that model folders name; it writes vocab.json and merges.txt as they have them."""
    from transformers import CLIPTokenizer
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bpe.write_files(folder, bpe.small_merges())
        return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"),
                             model_max_length=77)


def draw(seed, unet_, motion, vae, text, types=None):
    """Fill and calibrate; types: part -> what it is stored as (its values are rounded to that)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    parts = {"unet": unet_, "motion_adapter": motion, "vae": vae, "text_encoder": text}
    for part in parts.values():
        shake(part, generator)
    parts["tokenizer"] = tokenizer()
    calibrate(parts)
    for name, dtype in (types or {}).items():
        parts[name].to(dtype)
    return parts


def save_base(folder, parts, scheduler, **options):
    """A Stable Diffusion folder, as diffusers writes it."""
    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline(
        **{k: parts[k] for k in ("unet", "vae", "text_encoder", "tokenizer")},
        scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.save_pretrained(folder, **options)


def half(*names):
    return {name: torch.float16 for name in names or ("unet", "motion_adapter", "vae",
                                                      "text_encoder")}


# ---- the models ---------------------------------------------------------------------------------

def plain():
    """The ordinary case: a base folder in float32, a v2 motion adapter folder beside it.

    Around it: the same model with other scheduler files (links), and LoRAs.
    """
    from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler)
    u = unet("XP", 32, block_out_channels=[16, 32], layers_per_block=1, attention_head_dim=4,
             norm_num_groups=4)
    m = motion_adapter(u, motion_num_attention_heads=2, motion_max_seq_length=32)
    parts = draw(1, u, m, autoencoder([8, 16, 16, 16], 1, 4), text_encoder(32, 2, 2))
    save_base(FOLDER / "plain", parts, PNDMScheduler(steps_offset=1))
    formats.write_json(FOLDER / "plain/scheduler/scheduler_config.json", SD15_SCHEDULER)
    m.save_pretrained(FOLDER / "plain-motion")

    formats.with_scheduler("plain", "plain-zero-snr", DDIMScheduler(
        **LEVELS, beta_schedule="linear", prediction_type="v_prediction", clip_sample=False,
        timestep_spacing="trailing", rescale_betas_zero_snr=True))
    formats.with_scheduler("plain", "plain-order-3", DPMSolverMultistepScheduler(
        **LEVELS, beta_schedule="linear", solver_order=3, solver_type="heun",
        timestep_spacing="leading", steps_offset=1))
    formats.with_scheduler("plain", "plain-prk", PNDMScheduler(
        **LEVELS, beta_schedule="linear", skip_prk_steps=False, set_alpha_to_one=True))
    formats.motion_lora(m, "loras/pan.safetensors", rank=4, seed=11)
    formats.motion_lora(m, "loras/zoom.safetensors", rank=2, seed=12)
    formats.picture_lora(parts, "loras/kohya.safetensors", rank=4, seed=13, kohya=True)
    formats.picture_lora(parts, "loras/peft.safetensors", rank=2, seed=14, kohya=False)


def v1():
    """The first motion modules: no mid block, 24 positions; fp16 variant files, adapter one file.

    A single file says nothing about heads, so it has the 8 that released ones have. The same
    adapter stands there once more in the layout of the original repository.
    """
    from diffusers import PNDMScheduler
    u = unet("XXP", 24, block_out_channels=[16, 32, 32], layers_per_block=1, attention_head_dim=2,
             norm_num_groups=8)
    m = motion_adapter(u, motion_num_attention_heads=8, motion_max_seq_length=24,
                       use_motion_mid_block=False)
    parts = draw(2, u, m, autoencoder([8, 8, 16, 16], 1, 4), text_encoder(24, 3, 3), half())
    save_base(FOLDER / "v1", parts, PNDMScheduler(steps_offset=1), variant="fp16")
    formats.write_json(FOLDER / "v1/scheduler/scheduler_config.json", SD15_SCHEDULER)
    formats.adapter_file(m, "v1-motion.safetensors")
    formats.original_adapter_file(m, "v1-motion-original.safetensors")


def levels():
    """Something different on every level; the UNet in bfloat16 shards, the rest of mixed types."""
    from diffusers import EulerDiscreteScheduler
    u = unet("XXXP", 24, block_out_channels=[16, 24, 32, 32], layers_per_block=[1, 1, 2, 1],
             attention_head_dim=[1, 2, 4, 4], transformer_layers_per_block=[1, 2, 1, 1],
             use_linear_projection=True, norm_num_groups=8)
    m = motion_adapter(u, motion_num_attention_heads=[2, 3, 4, 8], motion_max_seq_length=20)
    parts = draw(3, u, m, autoencoder([8, 16, 16, 16], 1, 8, scaling_factor=0.5),
                 text_encoder(24, 2, 3, "gelu"),
                 {"unet": torch.bfloat16, "motion_adapter": torch.bfloat16})
    formats.mix_types(parts["vae"])
    formats.mix_types(parts["text_encoder"])
    save_base(FOLDER / "levels", parts, EulerDiscreteScheduler(
        **LEVELS, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1),
        max_shard_size="300KB")
    m.save_pretrained(FOLDER / "levels-motion")


def saved():
    """A saved AnimateDiffPipeline: the UNet holds the motion weights already, and better ones.

    The motion_adapter folder beside it is what training started from; using it is a mistake.
    The autoencoder has three levels: one latent is 4 pixels wide.
    """
    from diffusers import AnimateDiffPipeline, EulerDiscreteScheduler
    u = unet("XX", 32, block_out_channels=[16, 24], layers_per_block=1, attention_head_dim=2,
             norm_num_groups=4)
    m = motion_adapter(u, motion_num_attention_heads=4, motion_max_seq_length=16,
                       motion_transformer_layers_per_block=2)
    parts = draw(4, u, m, autoencoder([8, 16, 16], 1, 4), text_encoder(32, 2, 4), half())
    pipe = AnimateDiffPipeline(**parts, scheduler=EulerDiscreteScheduler(
        **LEVELS, beta_schedule="linear", timestep_spacing="trailing"))
    generator = torch.Generator("cpu").manual_seed(41)
    for name, p in pipe.unet.named_parameters():
        if "motion_modules" in name and p.ndim >= 2:
            p.data += 0.3 * p.float().std() * torch.randn(p.shape, generator=generator)
    pipe.save_pretrained(FOLDER / "saved")


def old():
    """Names of other years: autoencoder attention as diffusers 0.16 wrote it, text encoder without
    `text_model.`, as transformers 5.6 writes it."""
    from diffusers import PNDMScheduler
    u = unet("PX", 24, block_out_channels=[16, 32], layers_per_block=1, attention_head_dim=4,
             norm_num_groups=8)
    m = motion_adapter(u, motion_num_attention_heads=4, motion_max_seq_length=32)
    parts = draw(5, u, m, autoencoder([8, 16, 16, 16], 1, 8), text_encoder(24, 2, 2), half())
    save_base(FOLDER / "old", parts, PNDMScheduler(**LEVELS, beta_schedule="linear",
                                                    skip_prk_steps=True, steps_offset=1))
    m.save_pretrained(FOLDER / "old-motion")
    formats.old_vae_names(FOLDER / "old/vae/diffusion_pytorch_model.safetensors")
    formats.without_prefix(FOLDER / "old/text_encoder/model.safetensors")


def hub():
    """A download cache: every file is a link into blobs/. The UNet was distilled (one tensor more,
    which text-to-video loads and does not use)."""
    from diffusers import LCMScheduler
    u = unet("XP", 32, block_out_channels=[16, 32], layers_per_block=1, attention_head_dim=2,
             norm_num_groups=4, time_cond_proj_dim=16)
    m = motion_adapter(u, motion_num_attention_heads=8, motion_max_seq_length=32)
    types = dict.fromkeys(("unet", "motion_adapter", "vae", "text_encoder"), torch.bfloat16)
    parts = draw(6, u, m, autoencoder([8, 16, 16, 16], 1, 4), text_encoder(32, 2, 2), types)
    with tempfile.TemporaryDirectory() as scratch:
        save_base(Path(scratch) / "base", parts, LCMScheduler(
            **LEVELS, beta_schedule="linear", steps_offset=1))
        formats.hub_cache(Path(scratch) / "base", "models--golden--tiny")
        m.save_pretrained(Path(scratch) / "motion")
        formats.hub_cache(Path(scratch) / "motion", "models--golden--tiny-motion")


def single():
    """One file in the layout of latent diffusion, and the same model as a folder; its motion
    modules in the original repository's layout. A single file has no configs, so heads, groups and
    layers are Stable Diffusion 1.5's."""
    from diffusers import PNDMScheduler
    u = unet("XP", 64, block_out_channels=[32, 32], layers_per_block=2, attention_head_dim=8,
             norm_num_groups=32)
    u.register_to_config(sample_size=64)
    m = motion_adapter(u, motion_num_attention_heads=8, motion_max_seq_length=32)
    a = autoencoder([32, 32, 32, 32], 1, 32)
    a.register_to_config(sample_size=512)
    parts = draw(7, u, m, a, text_encoder(64, 1, 1), half())
    save_base(FOLDER / "single", parts, PNDMScheduler(steps_offset=1))
    formats.write_json(FOLDER / "single/scheduler/scheduler_config.json", SD15_SCHEDULER)
    formats.original_adapter_file(m, "single-motion.safetensors")
    formats.picture_lora(parts, "loras/single.safetensors", rank=1, seed=15, kohya=True)
    ldm.write(parts, "single")
    ldm.names_of_sd15()


MODELS = (plain, v1, levels, saved, old, hub, single)


def write():
    """All models anew; returns nothing, says the size of each."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for make in MODELS:
        make()
    peft_lora.write()
    ckpt.write()
    for file in FOLDER.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(0o644)
    total = 0
    for folder in sorted(FOLDER.iterdir()):
        size = formats.own_bytes(folder)
        total += size
        print(f"  models/{folder.name}: {size / 1e6:.2f} MB")
        assert size < 2.2e6, folder
    print(f"  models together: {total / 1e6:.2f} MB")
    assert total < 17.5e6

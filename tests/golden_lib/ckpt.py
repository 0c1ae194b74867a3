"""ckpt.py - files of torch.save as their authors published them: a checkpoint, motion modules, LoRAs.

The same tensors as in the safetensors files beside them, wrapped and named as pytorch_lightning and
the original repository do; diffusers has read the checkpoint's. models.py calls this.
"""
import torch
from safetensors.torch import load_file

from . import formats, ldm
from .pins import GOLDEN

CHECKPOINT = formats.FOLDER / "single-bare.ckpt"
MOTION = formats.FOLDER / "v1-motion-original.ckpt"
PAN = GOLDEN / "loras/pan-original.ckpt"
DOMAIN = GOLDEN / "loras/domain.ckpt"


def save(what, path):
    torch.save(what, path)
    path.chmod(0o644)
    print(f"  {path.relative_to(GOLDEN)}: {path.stat().st_size / 1e6:.2f} MB")


def checkpoint():
    """As pytorch_lightning saves: weights are one entry of many. Without its autoencoder, and an
    optimizer's numbers beside it."""
    tensors = load_file(formats.FOLDER / "single.safetensors")
    tensors = {k: v for k, v in tensors.items() if not k.startswith("first_stage_model.")}
    state = {0: {"step": 7, "exp_avg": torch.zeros(3)}}
    save({"epoch": 3, "global_step": 470000, "pytorch-lightning_version": "1.4.2",
          "state_dict": tensors, "callbacks": {}, "lr_schedulers": [],
          "optimizer_states": [{"state": state, "param_groups": [{"lr": 1e-4, "params": [0]}]}]},
         CHECKPOINT)
    proved(tensors)


def proved(tensors):
    """diffusers reads the same UNet and text encoder out of it as out of the safetensors file."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    folder = formats.FOLDER / "single"
    other = ldm.read(StableDiffusionPipeline, folder.with_suffix(".safetensors"), folder)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    pipe = ldm.read(StableDiffusionPipeline, CHECKPOINT, folder, vae=vae)
    for part in ("unet", "text_encoder"):
        a, b = (getattr(p, part).state_dict() for p in (pipe, other))
        assert set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)
    assert len(tensors) > 300


def motion():
    """As mm_sd_v15.ckpt: a wrapper around names from distributed training."""
    tensors = load_file(formats.FOLDER / "v1-motion-original.safetensors")
    save({"epoch": 1, "global_step": 10,
          "state_dict": {"module." + k: v for k, v in tensors.items()}}, MOTION)


def original(key):
    """A motion module's names in the original repository."""
    for new, old in ((".transformer_blocks", ".temporal_transformer.transformer_blocks"),
                     (".attn1", ".attention_blocks.0"), (".attn2", ".attention_blocks.1")):
        key = key.replace(new, old)
    return key.removeprefix("unet.")


def motion_lora():
    """As v2_lora_PanLeft.ckpt: no wrapper, no alpha."""
    tensors = load_file(GOLDEN / "loras/pan.safetensors")
    save({original(k): v for k, v in tensors.items()}, PAN)


def domain_adapter():
    """As v3_sd15_adapter.ckpt: a LoRA of the pictures' attentions, named as processors."""
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(formats.FOLDER / "plain/unet")
    generator, rank, out = torch.Generator("cpu").manual_seed(17), 3, {}
    for path, layer in unet.named_modules():
        head, _, leaf = path.rpartition(".to_")
        if not head or not hasattr(layer, "weight"):
            continue
        w = layer.weight
        pair = f"{head}.processor.to_{leaf.removesuffix('.0')}_lora"
        out[f"{pair}.down.weight"] = torch.randn(
            (rank, w.shape[1]), generator=generator) / w.shape[1] ** 0.5
        out[f"{pair}.up.weight"] = torch.randn((w.shape[0], rank), generator=generator) / rank
    assert len(out) == 2 * 8 * sum(k.endswith("attn1") for k, _ in unet.named_modules())
    save(out, DOMAIN)


def write():
    checkpoint()
    motion()
    motion_lora()
    domain_adapter()

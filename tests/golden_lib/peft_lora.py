"""peft_lora.py - a LoRA as diffusers saves it today: PEFT's settings are in the file's header.

Ranks and alphas differ from layer to layer by patterns, the text encoder's are scaled by the root
of the rank; nothing of that is in the tensors. Made for models/plain with its motion modules, by
diffusers' own writer; models.py calls this.
"""
import torch

from . import reference
from .pins import GOLDEN

FILE = GOLDEN / "loras/settings.safetensors"
MODEL = {"model": "models/plain", "motion_adapter": "models/plain-motion"}


def configs():
    from peft import LoraConfig
    # not the proj_in of motion modules: diffusers calls it in a way that PEFT does not know
    layers = r".*\.(to_q|to_k|to_v|to_out\.0)|.*\.attentions\.\d+\.proj_in"
    unet = LoraConfig(
        r=4, lora_alpha=6, target_modules=layers, init_lora_weights=False,
        # in the order of the file, which is sorted: of two that fit, the first counts
        rank_pattern={"^mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 1,
                      "attn1.to_k": 2, "proj_in": 3},
        alpha_pattern={"^up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0": -3,
                       "attn2.to_v": 1, "motion_modules.0.transformer_blocks.0.attn1.to_q": 2,
                       "to_out.0": 9})
    text = LoraConfig(r=4, lora_alpha=3, target_modules=["q_proj", "v_proj", "fc1"],
                      use_rslora=True, init_lora_weights=False)
    return {"unet": unet, "text_encoder": text}


def write():
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict
    pipe = reference.load(MODEL)
    generator = torch.Generator("cpu").manual_seed(16)
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    for name, config in configs().items():
        parts[name].add_adapter(config)
        for key, p in parts[name].named_parameters():
            if ".lora_" in key:
                p.data = torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5 / 2
    states = {n: get_peft_model_state_dict(m) for n, m in parts.items()}
    states["text_encoder"] = convert_state_dict_to_diffusers(states["text_encoder"])
    wanted = {n: scales(m) for n, m in parts.items()}
    pipe.save_lora_weights(
        FILE.parent, unet_lora_layers=states["unet"],
        text_encoder_lora_layers=states["text_encoder"], weight_name=FILE.name,
        **{k: tidy(v) for k, v in _collate_lora_metadata(parts).items()})
    FILE.chmod(0o644)
    again = reference.load(MODEL | {"lora": f"loras/{FILE.name}"})
    assert wanted == {n: scales(getattr(again, n)) for n in parts}
    print(f"  loras/{FILE.name}: {FILE.stat().st_size / 1e6:.2f} MB")


def scales(model):
    """Layer -> alpha / rank, or / sqrt(rank): all that was trained, and as it was."""
    return {n: list(m.scaling.values()) for n, m in model.named_modules() if hasattr(m, "scaling")}


def tidy(settings):
    """Sets in one order, and no path of the machine that made it."""
    settings = {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()}
    return settings | {"base_model_name_or_path": None}

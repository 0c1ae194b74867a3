"""reference.py - diffusers' AnimateDiffPipeline, driven by the filter's options.

options -> pipeline -> frames. The options are those of the filter `animatediff`, as strings, with
paths relative to tests/golden. Weights come from the stored files by the library's own loaders.
In double precision everything but the schedulers is double (they keep their own float32 tables and
some round the sample to float32 on the way); noise is drawn in float32 and widened, because a draw
in double would be another sequence of numbers. clips.py and models.py call this.
"""
import json
from contextlib import contextmanager

import numpy as np
import torch

from .pins import GOLDEN, float64_by_default

SCHEDULERS = {
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
}

# filter option -> (field of the scheduler's config, how to read the option)
FIELDS = {
    "beta_schedule": ("beta_schedule", str),
    "timestep_spacing": ("timestep_spacing", str),
    "prediction_type": ("prediction_type", str),
    "steps_offset": ("steps_offset", int),
    "original_steps": ("original_inference_steps", int),
    "clip_sample": ("clip_sample", lambda text: bool(int(text))),
    "use_karras_sigmas": ("use_karras_sigmas", lambda text: bool(int(text))),
}

SAMPLING = {"model", "motion_adapter", "vae", "tokenizer", "lora", "motion_lora", "scheduler",
            "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "eta", "clip_skip",
            "size", "frames"}


# ---- loading ------------------------------------------------------------------------------------

def folder_of(model):
    """Of a single file: the folder with the configs of the same model."""
    return (GOLDEN / model).with_suffix("") if model.endswith(".safetensors") else GOLDEN / model


def scheduler(options):
    """Class.from_pretrained(model, subfolder="scheduler", **overrides)."""
    import diffusers
    file = folder_of(options["model"]) / "scheduler/scheduler_config.json"
    name, overrides = SCHEDULERS.get(options.get("scheduler"), (None, {}))
    name = name or json.loads(file.read_text())["_class_name"]
    for option, (field, read) in FIELDS.items():
        if option in options:
            overrides = {**overrides, field: read(options[option])}
    return getattr(diffusers, name).from_pretrained(file.parent, **overrides)


def motion_adapter(path):
    """A folder, or one file of either layout (the original's tables are left out, as diffusers)."""
    from diffusers import MotionAdapter
    from safetensors.torch import load_file
    if path.is_dir():
        return MotionAdapter.from_pretrained(path)
    tensors = {diffusers_name(k): v for k, v in load_file(path).items() if "pos_encoder" not in k}
    levels = 1 + max(int(k.split(".")[1]) for k in tensors if k.startswith("down_blocks."))
    adapter = MotionAdapter(
        block_out_channels=[tensors[f"down_blocks.{i}.motion_modules.0.norm.weight"].numel()
                            for i in range(levels)],
        motion_layers_per_block=1 + ("down_blocks.0.motion_modules.1.norm.weight" in tensors),
        motion_norm_num_groups=8, motion_max_seq_length=32,
        use_motion_mid_block=any(k.startswith("mid_block.") for k in tensors))
    missing, unexpected = adapter.load_state_dict(tensors, strict=False)
    assert not unexpected and all(k.endswith("pos_embed.pe") for k in missing)
    return adapter


def single_file(path, folder, parts):
    """A pipeline whose picture model diffusers reads from one file."""
    from diffusers import AnimateDiffPipeline, StableDiffusionPipeline
    from . import ldm
    base = ldm.read(StableDiffusionPipeline, path, folder)
    return AnimateDiffPipeline(**{"vae": base.vae, "text_encoder": base.text_encoder,
                                  "tokenizer": base.tokenizer, "unet": base.unet, **parts})


def autoencoder(path):
    """A folder; or one file, whose config is that of the model with its name."""
    from diffusers import AutoencoderKL
    if path.is_dir():
        return AutoencoderKL.from_pretrained(path)
    folder = path.with_name(path.stem.removesuffix("-vae"))
    return AutoencoderKL.from_single_file(str(path), config=str(folder), subfolder="vae",
                                          local_files_only=True)


def diffusers_name(key):
    """scripts/convert_animatediff_motion_module_to_diffusers.py of diffusers, word for word."""
    return (key.replace(".norms.0", ".norm1").replace(".norms.1", ".norm2")
            .replace(".ff_norm", ".norm3").replace(".attention_blocks.0", ".attn1")
            .replace(".attention_blocks.1", ".attn2").replace(".temporal_transformer", ""))


def text_encoder(folder):
    """Only needed where the pinned transformers does not know the file's names."""
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel
    model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({f"text_model.{k}": v for k, v in tensors.items()})
    return model.eval()


def load(options):
    """The pipeline of these options in float32."""
    from diffusers import AnimateDiffPipeline
    from transformers import CLIPTokenizerFast
    unknown = set(options) - SAMPLING - set(FIELDS)
    assert not unknown, unknown
    folder = folder_of(options["model"])
    parts = {"scheduler": scheduler(options)}
    if "motion_adapter" in options:
        parts["motion_adapter"] = motion_adapter(GOLDEN / options["motion_adapter"])
    if "vae" in options:
        parts["vae"] = autoencoder(GOLDEN / options["vae"])
    if folder.name == "old":
        parts["text_encoder"] = text_encoder(folder / "text_encoder")
    variant = "fp16" if (folder / "text_encoder/model.fp16.safetensors").exists() else None
    if options["model"].endswith(".safetensors"):
        pipe = single_file(GOLDEN / options["model"], folder, parts)
    else:
        pipe = AnimateDiffPipeline.from_pretrained(folder, **parts, variant=variant,
                                                   torch_dtype=torch.float32)
    # the loader insists on the slow class, whose normalisation is another one
    pipe.tokenizer = CLIPTokenizerFast.from_pretrained(folder / "tokenizer", model_max_length=77)
    # loaders leave what they do not cast in the file's type: a UNet made of a half adapter, say
    pipe.to(torch.float32)
    load_loras(pipe, [options.get("lora", ""), options.get("motion_lora", "")])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def lora_file(path):
    """Of the original repository's: scripts/convert_animatediff_motion_lora_to_diffusers.py."""
    if path.suffix != ".ckpt":
        return path
    tensors = torch.load(path, weights_only=True)
    return {f"unet.{diffusers_name(k)}": v for k, v in tensors.items() if "pos_encoder" not in k}


def load_loras(pipe, lists):
    """Lists of the form path[@scale]|path[@scale]"""
    names, scales = [], []
    for i, item in enumerate(filter(None, "|".join(lists).split("|"))):
        path, _, scale = item.partition("@")
        pipe.load_lora_weights(lora_file(GOLDEN / path), adapter_name=f"lora{i}")
        names.append(f"lora{i}")
        scales.append(float(scale or 1))
    if names:
        pipe.set_adapters(names, scales)


# ---- running ------------------------------------------------------------------------------------

@contextmanager
def float32_noise():
    """Inside: pipeline and schedulers draw noise in float32 and cast it to what they asked for."""
    import importlib
    from diffusers.utils import torch_utils
    original = torch_utils.randn_tensor

    def drawn(shape, generator=None, device=None, dtype=None, layout=None):
        return original(shape, generator, device, torch.float32, layout).to(dtype)

    schedulers = ("ddim", "euler_discrete", "euler_ancestral_discrete", "dpmsolver_multistep",
                  "lcm")
    modules = [importlib.import_module("diffusers.pipelines.animatediff.pipeline_animatediff")]
    modules += [importlib.import_module(f"diffusers.schedulers.scheduling_{n}") for n in schedulers]
    for m in modules:
        m.randn_tensor = drawn
    try:
        yield
    finally:
        for m in modules:
            m.randn_tensor = original


def call_arguments(options):
    """The pipeline's arguments; what is not given is left to the filter's defaults."""
    arguments = dict(
        prompt=options.get("prompt", ""), negative_prompt=options.get("negative_prompt", ""),
        num_frames=int(options.get("frames", 16)),
        num_inference_steps=int(options.get("steps", 25)),
        guidance_scale=float(options.get("guidance_scale", 7.5)),
        eta=float(options.get("eta", 0)),
        generator=torch.Generator("cpu").manual_seed(int(options["seed"])))
    if "size" in options:
        arguments["width"], arguments["height"] = map(int, options["size"].split("x"))
    if "clip_skip" in options:
        arguments["clip_skip"] = int(options["clip_skip"])
    return arguments


def render(pipe, options, dtype):
    """Frames as the pipeline makes them: uint8 [f, h, w, 3]."""
    pipe.to(dtype)
    forward = type(pipe.text_encoder).forward

    def in_double(*args, **kwargs):
        with float64_by_default():
            return forward(pipe.text_encoder, *args, **kwargs)

    if dtype == torch.float64:
        pipe.text_encoder.forward = in_double
    try:
        with float32_noise():
            frames = pipe(**call_arguments(options), output_type="pil").frames[0]
    finally:
        pipe.text_encoder.__dict__.pop("forward", None)
    return np.stack([np.asarray(f) for f in frames])


def render_raw(parts):
    """For calibration: a clip of parts in memory, before clipping, [f, 3, h, w]."""
    from diffusers import AnimateDiffPipeline, DDIMScheduler
    pipe = AnimateDiffPipeline(**parts, scheduler=DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1))
    pipe.set_progress_bar_config(disable=True)
    latents = pipe("a red ball rolling left", num_frames=8, num_inference_steps=8, width=64,
                   height=64, generator=torch.Generator("cpu").manual_seed(0),
                   output_type="latent").frames
    return pipe.decode_latents(latents)[0].transpose(0, 1)

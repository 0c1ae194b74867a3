"""blocks.py - layers and small networks with formula weights: blocks.json, blocks.safetensors.

The networks are diffusers' and transformers' own classes, run in double precision. The table of
cases stands at the end; `run` turns one case into tensors. fill.py holds weights and inputs.
"""
import json

import torch

from . import fill
from .pins import GOLDEN, float64_by_default, store

TEXT = {"a": 0.23, "c": 1.0}        # inputs named text, everywhere
DEFAULT = {"a": 0.11, "c": 0.5}     # every other input


def given(shape, wave=None):
    """An input described by the formula X(shape; a, c)."""
    return {"shape": list(shape), **(wave or DEFAULT)}


def literal(values, shape=None):
    """An input written out: token ids, timesteps."""
    return {"shape": [len(values)] if shape is None else list(shape), "values": list(values)}


def tensor(spec):
    """The tensor an input description stands for."""
    if "values" in spec:
        return torch.tensor(spec["values"]).reshape(spec["shape"])
    return fill.wave(spec["shape"], spec["a"], spec["c"])


# ---- one function per kind: (config, inputs as tensors) -> outputs ------------------------------

def resnet(config, x):
    from diffusers.models.resnet import ResnetBlock2D
    m = ResnetBlock2D(in_channels=config["in_channels"], out_channels=config["out_channels"],
                      temb_channels=config["temb_channels"], groups=config["groups"],
                      eps=config["eps"])
    return {"out": fill.fill_module(m)(x["x"], x.get("temb"))}


def transformer2d(config, x):
    from diffusers.models.transformers.transformer_2d import Transformer2DModel
    m = Transformer2DModel(num_attention_heads=config["heads"],
                           attention_head_dim=config["channels"] // config["heads"],
                           in_channels=config["channels"], num_layers=config["layers"],
                           cross_attention_dim=config["cross_attention_dim"],
                           norm_num_groups=config["groups"],
                           use_linear_projection=config["use_linear_projection"])
    out = fill.fill_module(m)(x["x"], encoder_hidden_states=x["text"], return_dict=False)
    return {"out": out[0]}


def motion(config, x):
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
    m = AnimateDiffTransformer3D(num_attention_heads=config["heads"],
                                 attention_head_dim=config["channels"] // config["heads"],
                                 in_channels=config["channels"], num_layers=config["layers"],
                                 norm_num_groups=config["groups"],
                                 positional_embeddings="sinusoidal",
                                 num_positional_embeddings=config["max_seq_length"])
    return {"out": fill.fill_module(m)(x["x"], num_frames=config["frames"])}


def unet(config, x):
    """The caller repeats each text row once per frame, as the pipeline does."""
    from diffusers import UNetMotionModel
    m = fill.fill_module(UNetMotionModel.from_config(config))
    text = x["text"].repeat_interleave(x["sample"].shape[2], dim=0)
    out = m(x["sample"], x["timestep"][0].double(), encoder_hidden_states=text, return_dict=False)
    return {"out": out[0]}


def autoencoder(config):
    from diffusers import AutoencoderKL
    return fill.fill_module(AutoencoderKL.from_config(config))


def vae_decode(config, x):
    return {"out": autoencoder(config).decode(x["x"], return_dict=False)[0]}


def vae_encode_moments(config, x):
    posterior = autoencoder(config).encode(x["x"], return_dict=False)[0]
    return {"out": posterior.parameters}


def clip(config, x):
    """out: all layers; skip1, skip2: the pipeline's clip_skip, with the final norm applied."""
    from transformers import CLIPTextConfig, CLIPTextModel
    # bos, eos and pad decide only about the pooled output, which nothing here uses
    m = CLIPTextModel(CLIPTextConfig(**config, bos_token_id=0, eos_token_id=1, pad_token_id=1))
    with float64_by_default():
        result = fill.fill_module(m)(x["ids"], output_hidden_states=True)
    norm = m.text_model.final_layer_norm
    outputs = {"out": result.last_hidden_state}
    for skip in range(1, config["num_hidden_layers"]):
        outputs[f"skip{skip}"] = norm(result.hidden_states[-(skip + 1)])
    return outputs


KINDS = {f.__name__: f for f in
         (resnet, transformer2d, motion, unet, vae_decode, vae_encode_moments, clip)}


# ---- configurations -----------------------------------------------------------------------------

def unet_config(**changes):
    """UNetMotionModel's complete config with everything but `changes` at its default."""
    from diffusers import UNetMotionModel
    return {k: v for k, v in UNetMotionModel(**changes).config.items() if not k.startswith("_")}


def vae_config(channels, layers, groups):
    n = len(channels)
    return {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "act_fn": "silu",
            "down_block_types": ["DownEncoderBlock2D"] * n,
            "up_block_types": ["UpDecoderBlock2D"] * n,
            "block_out_channels": channels, "layers_per_block": layers,
            "norm_num_groups": groups, "sample_size": 16, "scaling_factor": 0.18215}


def down(kinds):
    """'XP' -> a down block with cross attention, then a plain one."""
    return [{"X": "CrossAttnDownBlockMotion", "P": "DownBlockMotion"}[k] for k in kinds]


def up(kinds):
    return [{"X": "CrossAttnUpBlockMotion", "P": "UpBlockMotion"}[k] for k in kinds]


def two_levels(**changes):
    """The network of the reference vectors G4: 32 and 64 channels, attention on the first level."""
    return unet_config(**{**dict(
        sample_size=8, block_out_channels=[32, 64], down_block_types=down("XP"),
        up_block_types=up("PX"), layers_per_block=2, norm_num_groups=8, cross_attention_dim=16,
        num_attention_heads=4, motion_num_attention_heads=8, motion_max_seq_length=8), **changes})


def four_levels(**changes):
    """Four levels with a different head count on each, as different as the class allows."""
    return unet_config(**{**dict(
        sample_size=8, block_out_channels=[16, 24, 32, 32], down_block_types=down("XXXP"),
        up_block_types=up("PXXX"), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12,
        num_attention_heads=[1, 2, 4, 4], motion_num_attention_heads=[2, 3, 4, 8],
        motion_max_seq_length=16, use_linear_projection=True), **changes})


def unet_inputs(batch, frames, height, width, timestep, text_length, text_width):
    return {"sample": given([batch, 4, frames, height, width]),
            "timestep": literal([timestep]),
            "text": given([batch, text_length, text_width], TEXT)}


def clip_config(**changes):
    return {**dict(vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                   num_attention_heads=2, max_position_embeddings=7, hidden_act="quick_gelu",
                   layer_norm_eps=1e-5), **changes}


# ---- the table: (name, kind, config, inputs) ----------------------------------------------------

def layer_cases():
    r = dict(in_channels=8, out_channels=16, temb_channels=12, groups=4, eps=1e-5)
    temb = given([2, 12], {"a": 0.2, "c": 0.1})
    yield "resnet_8_16", "resnet", r, {"x": given([2, 8, 3, 5]), "temb": temb}
    yield ("resnet_16_16", "resnet", {**r, "in_channels": 16},
           {"x": given([2, 16, 4, 3]), "temb": temb})
    yield ("resnet_24_8_groups_8", "resnet",
           {**r, "in_channels": 24, "out_channels": 8, "groups": 8},
           {"x": given([2, 24, 5, 4]), "temb": temb})
    v = {**r, "temb_channels": None, "eps": 1e-6}
    yield "resnet_vae_8_16", "resnet", v, {"x": given([1, 8, 5, 3])}
    yield "resnet_vae_16_16", "resnet", {**v, "in_channels": 16}, {"x": given([2, 16, 3, 3])}

    t = dict(channels=16, heads=2, groups=4, layers=1, cross_attention_dim=6,
             use_linear_projection=False)
    text = given([2, 5, 6], TEXT)
    x = {"x": given([2, 16, 3, 4]), "text": text}
    yield "transformer2d_conv", "transformer2d", t, x
    yield ("transformer2d_odd_size", "transformer2d", t,
           {"x": given([2, 16, 5, 7]), "text": text})
    yield ("transformer2d_linear", "transformer2d", {**t, "use_linear_projection": True}, x)
    yield "transformer2d_two_layers", "transformer2d", {**t, "layers": 2}, x
    yield ("transformer2d_three_heads", "transformer2d",
           {**t, "channels": 24, "heads": 3, "layers": 2, "use_linear_projection": True},
           {"x": given([2, 24, 3, 5]), "text": given([2, 77, 6], TEXT)})
    yield ("transformer2d_head_of_40", "transformer2d",
           {**t, "channels": 80, "heads": 2, "groups": 8, "cross_attention_dim": 20},
           {"x": given([1, 80, 3, 3]), "text": given([1, 9, 20], TEXT)})


def motion_cases():
    m = dict(channels=16, heads=2, groups=4, max_seq_length=16, layers=1, frames=3, batch=2)

    def case(name, size, **changes):
        c = {**m, **changes}
        return name, "motion", c, {"x": given([c["batch"] * c["frames"], c["channels"], *size])}

    yield case("motion_reference", (2, 3), max_seq_length=8)
    yield case("motion_1_frame", (3, 2), frames=1)
    yield case("motion_8_frames", (2, 3), frames=8)
    yield case("motion_16_frames", (3, 3), frames=16)
    yield case("motion_v1_length", (3, 5), frames=8, batch=1, max_seq_length=24)
    yield case("motion_32_frames", (2, 2), frames=32, batch=1, max_seq_length=32)
    yield case("motion_two_layers", (2, 3), frames=3, layers=2)
    yield case("motion_two_layers_16_frames", (2, 2), frames=16, layers=2, channels=24, heads=3)
    yield case("motion_head_of_40", (2, 2), frames=16, batch=1, channels=80, heads=2, groups=8)


def unet_cases():
    g4 = unet_inputs(2, 3, 6, 6, 501, 5, 16)
    yield "unet_mid", "unet", two_levels(), g4
    yield "unet_no_mid", "unet", two_levels(use_motion_mid_block=False), g4
    yield "unet_odd_size", "unet", two_levels(), unet_inputs(2, 3, 5, 7, 501, 5, 16)
    yield ("unet_v1", "unet",
           two_levels(use_motion_mid_block=False, motion_max_seq_length=24, norm_num_groups=4),
           unet_inputs(1, 8, 8, 6, 981, 77, 16))
    yield ("unet_fractional_timestep", "unet", two_levels(layers_per_block=1),
           unet_inputs(1, 2, 4, 4, 861.206909, 7, 16))
    yield ("unet_timestep_0", "unet", two_levels(layers_per_block=1),
           unet_inputs(1, 2, 4, 4, 0, 7, 16))
    yield "unet_four_levels", "unet", four_levels(), unet_inputs(2, 2, 8, 8, 37, 6, 12)
    yield ("unet_four_levels_odd_size", "unet", four_levels(),
           unet_inputs(1, 4, 9, 7, 999, 6, 12))
    yield ("unet_lists", "unet",
           four_levels(layers_per_block=[1, 2, 1, 2], transformer_layers_per_block=2,
                       temporal_transformer_layers_per_block=[1, 2, 1, 1],
                       use_linear_projection=False),
           unet_inputs(1, 3, 9, 7, 249.75, 6, 12))
    yield ("unet_layers_per_level", "unet",
           four_levels(transformer_layers_per_block=[1, 2, 1, 1], norm_num_groups=8,
                       transformer_layers_per_mid_block=2, mid_block_layers=2,
                       temporal_transformer_layers_per_mid_block=2),
           unet_inputs(1, 2, 7, 5, 720, 6, 12))
    yield ("unet_three_levels", "unet",
           unet_config(sample_size=8, block_out_channels=[8, 16, 16],
                       down_block_types=down("PXX"), up_block_types=up("XXP"),
                       layers_per_block=2, norm_num_groups=4, cross_attention_dim=[8, 8, 8],
                       num_attention_heads=2, motion_num_attention_heads=[1, 2, 4],
                       motion_max_seq_length=32, use_motion_mid_block=False),
           unet_inputs(1, 3, 5, 7, 601, 4, 8))


def vae_cases():
    small = vae_config([16, 32], 2, 4)
    yield ("vae_encode_moments", "vae_encode_moments", small,
           {"x": given([1, 3, 6, 10])})
    yield "vae_decode", "vae_decode", small, {"x": given([2, 4, 3, 5])}
    four = vae_config([8, 16, 16, 24], 1, 8)
    yield "vae_decode_four_levels", "vae_decode", four, {"x": given([1, 4, 3, 4])}
    yield ("vae_encode_moments_four_levels", "vae_encode_moments", four,
           {"x": given([1, 3, 24, 16])})
    yield ("vae_encode_moments_odd_size", "vae_encode_moments", small,
           {"x": given([1, 3, 7, 9])})


def clip_cases():
    ids = {"ids": literal([18, 3, 7, 1, 19, 19, 19], [1, 7])}
    yield "clip_quick_gelu", "clip", clip_config(), ids
    yield "clip_three_layers_gelu", "clip", clip_config(num_hidden_layers=3, hidden_act="gelu"), ids
    yield ("clip_three_layers_quick_gelu", "clip",
           clip_config(num_hidden_layers=3, hidden_size=24, num_attention_heads=3,
                       intermediate_size=96, max_position_embeddings=77, vocab_size=40),
           {"ids": literal([38, *range(30), *[39] * 46], [1, 77])})


def cases():
    for part in (layer_cases, motion_cases, unet_cases, vae_cases, clip_cases):
        yield from part()


def write():
    """Evaluate every case and store it."""
    listed, stored = [], {}
    for name, kind, config, inputs in cases():
        out = KINDS[kind](config, {k: tensor(v) for k, v in inputs.items()})
        assert all(o.dtype == torch.float64 and o.isfinite().all() for o in out.values()), name
        stored.update({f"{name}.{k}": o.float().contiguous() for k, o in out.items()})
        listed.append({"name": name, "kind": kind, "config": config, "inputs": inputs,
                       "outputs": {k: f"{name}.{k}" for k in out}})
    assert len({c["name"] for c in listed}) == len(listed)
    store(stored, GOLDEN / "blocks.safetensors")
    lines = ",\n".join(json.dumps(c) for c in listed)
    (GOLDEN / "blocks.json").write_text('{"cases":[\n' + lines + "\n]}\n")
    print(f"  {len(listed)} cases, {len(stored)} tensors")

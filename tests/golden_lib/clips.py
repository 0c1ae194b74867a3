"""clips.py - whole clips, prompt to pixels: clips.json, clips/*.rgb, trace.safetensors.

One row of `cases` is one call of the filter; reference.py runs it through diffusers. Every clip is
made in double precision; a run in float32 says how far rounding alone moves it, and runs with
something changed say that the clip would notice a mistake there.
"""
import copy
import json

import numpy as np
import torch

from . import formats, reference
from .pins import GOLDEN, store

FOLDER = GOLDEN / "clips"
TRACED = "ddim"


def snapshot(name):
    """The model path inside a download cache."""
    return str(next((GOLDEN / "models" / name / "snapshots").iterdir()).relative_to(GOLDEN))


def plain(**options):
    return {"model": "models/plain", "motion_adapter": "models/plain-motion", **options}


def v1(**options):
    return {"model": "models/v1", "motion_adapter": "models/v1-motion.safetensors", **options}


def levels(**options):
    return {"model": "models/levels", "motion_adapter": "models/levels-motion", **options}


def old(**options):
    return {"model": "models/old", "motion_adapter": "models/old-motion", **options}


def hub(**options):
    return {"model": snapshot("models--golden--tiny"),
            "motion_adapter": snapshot("models--golden--tiny-motion"), **options}


def saved(**options):
    return {"model": "models/saved", **options}


def single(**options):
    return {"model": "models/single.safetensors", "tokenizer": "models/single/tokenizer",
            "motion_adapter": "models/single-motion.safetensors", **options}


def demo(**options):
    return {"model": "../../demo/model", **options}


BAD = "worst quality, low quality, blurry"


def scheduler_cases():
    """Every scheduler by name, with what can be set about it spread over them."""
    yield "ddim", plain(
        scheduler="ddim", beta_schedule="linear", steps=8, seed=42, size="64x64", frames=16,
        prompt="a red ball rolling left", negative_prompt=BAD)
    yield "euler_ancestral", plain(
        scheduler="euler_ancestral", beta_schedule="linear", steps=12, seed=7, size="64x64",
        frames=16, guidance_scale=8.5, prompt="a cat sleeping in the warm afternoon sun")
    yield "saved_pipeline", saved(
        beta_schedule="linear", steps=4, seed=3, size="64x64", frames=8, guidance_scale=1.0,
        prompt="waves breaking on black rocks, cinematic")
    yield "ddim_eta_clipped", v1(
        scheduler="ddim", beta_schedule="linear", eta=0.5, clip_sample=1, steps=6, seed=1234,
        timestep_spacing="trailing", size="72x56", frames=8, guidance_scale=5,
        prompt="a knight in shining armour on a black horse", negative_prompt="ugly, deformed")
    yield "euler_clip_skip", plain(
        scheduler="euler", beta_schedule="scaled_linear", timestep_spacing="leading", steps=7,
        steps_offset=1, clip_skip=1, seed=99, size="48x64", frames=8, guidance_scale=6,
        prompt="a fish swimming between the corals", negative_prompt="text, watermark")
    yield "euler_karras_v", old(
        scheduler="euler", beta_schedule="linear", use_karras_sigmas=1, steps=9, seed=5,
        prediction_type="v_prediction", size="64x48", frames=8, prompt="smoke from a chimney")
    yield "euler_sample", plain(
        scheduler="euler", beta_schedule="linear", timestep_spacing="trailing", steps=5, seed=6,
        prediction_type="sample", size="64x64", frames=4, guidance_scale=3,
        prompt="a lighthouse at night, oil painting")
    yield "dpmpp_2m", levels(
        scheduler="dpmpp_2m", beta_schedule="scaled_linear", steps=10, seed=2147483648,
        size="64x64", frames=16, guidance_scale=7, prompt="a robot painting a portrait",
        negative_prompt="lowres, error, cropped")
    yield "dpmpp_2m_karras_1_frame", plain(
        scheduler="dpmpp_2m", beta_schedule="scaled_linear", use_karras_sigmas=1, steps=12,
        seed=8, size="96x80", frames=1, prompt="A Black Cat, walking through FRESH snow!")
    yield "dpmpp_2m_sde", old(
        scheduler="dpmpp_2m_sde", beta_schedule="squaredcos_cap_v2", steps=9, seed=31,
        size="64x64", frames=8, guidance_scale=4.5,
        prompt="snow falling on a small village at night", negative_prompt=BAD)
    # not with cosine betas: their Karras timesteps repeat at the start and diffusers fails
    yield "dpmpp_2m_sde_karras", plain(
        scheduler="dpmpp_2m_sde", beta_schedule="linear", use_karras_sigmas=1, steps=7, seed=32,
        size="64x64", frames=4, guidance_scale=5, timestep_spacing="trailing",
        prediction_type="v_prediction", prompt="rain running down a window pane")
    yield "lcm", hub(
        scheduler="lcm", beta_schedule="linear", original_steps=40, steps=4, seed=17,
        size="64x64", frames=16, guidance_scale=1.5, prompt="a dog running along the beach")
    yield "lcm_v_no_guidance", plain(
        scheduler="lcm", beta_schedule="linear", original_steps=50, steps=7, seed=18,
        prediction_type="v_prediction", size="56x72", frames=8, guidance_scale=1.0,
        prompt="ink spreading in a glass of water")
    yield "pndm_from_file", plain(
        beta_schedule="scaled_linear", steps=8, seed=21, size="64x64", frames=8,
        prompt="a dancer turning on an empty stage", negative_prompt="blurry")
    yield "unipc", levels(
        scheduler="unipc", beta_schedule="linear", timestep_spacing="leading", steps_offset=3,
        steps=8, seed=22, size="72x56", frames=8, prompt="northern lights over a frozen lake")
    yield "heun", v1(
        scheduler="heun", beta_schedule="scaled_linear", timestep_spacing="trailing", steps=5,
        seed=23, size="64x64", frames=8, guidance_scale=4, prompt="un chat noir dort sur le toit")
    yield "lms", saved(
        scheduler="lms", beta_schedule="linear", timestep_spacing="linspace", steps=9, seed=24,
        size="48x40", frames=16, guidance_scale=5,
        prompt="\u4e00\u53ea\u7ea2\u8272\u7684\u7403\u5411\u5de6\u6eda\u52a8")
    yield "kdpm2", hub(
        scheduler="kdpm2", beta_schedule="squaredcos_cap_v2", steps=6, seed=25, size="64x64",
        frames=8, guidance_scale=3.5, prompt="a candle flame moving in the draught")


def other_cases():
    """What a scheduler file can hold, file layouts, adapters, lengths and sizes."""
    yield "zero_snr_from_file", plain(
        model="models/plain-zero-snr", beta_schedule="linear", steps=6, seed=26, size="64x64",
        frames=8, guidance_scale=5, prompt="a volcano throwing fire into the night")
    yield "order_3_from_file", plain(
        model="models/plain-order-3", beta_schedule="linear", steps=16, seed=27, size="56x56",
        frames=8, guidance_scale=6, prompt="a paper boat in a puddle after the rain")
    yield "unipc_karras_order_3", plain(
        model="models/plain-order-3", scheduler="unipc", beta_schedule="linear",
        use_karras_sigmas=1, prediction_type="v_prediction", steps=9, seed=28, size="64x64",
        frames=4, prompt="a book whose pages turn in the wind")
    yield "runge_kutta_pndm_from_file", plain(
        model="models/plain-prk", beta_schedule="linear", steps=6, seed=29, size="64x64", frames=4,
        guidance_scale=4, prediction_type="v_prediction",
        prompt="stars turning around the north pole")
    yield "heun_karras_sample", plain(
        scheduler="heun", beta_schedule="linear", use_karras_sigmas=1, prediction_type="sample",
        steps=4, seed=30, size="40x64", frames=8, guidance_scale=2.5, prompt="a glass marble")
    yield "lms_karras_v", old(
        scheduler="lms", beta_schedule="scaled_linear", use_karras_sigmas=1, steps=7, seed=33,
        prediction_type="v_prediction", size="64x64", frames=4, guidance_scale=3,
        timestep_spacing="trailing", prompt="clouds moving quickly over the desert")
    yield "kdpm2_karras", plain(
        scheduler="kdpm2", beta_schedule="linear", use_karras_sigmas=1, steps=5, seed=34,
        timestep_spacing="leading", size="64x64", frames=4, guidance_scale=4,
        prediction_type="v_prediction", prompt="a butterfly landing on a yellow flower")
    yield "ddim_sample_eta", plain(
        scheduler="ddim", beta_schedule="scaled_linear", prediction_type="sample", eta=1, steps=6,
        seed=40, size="64x64", frames=4, guidance_scale=3, prompt="a tin soldier marching")
    yield "dpmpp_2m_sample", plain(
        scheduler="dpmpp_2m", beta_schedule="squaredcos_cap_v2", prediction_type="sample", steps=6,
        seed=41, size="64x64", frames=4, guidance_scale=3, prompt="a paper plane")
    yield "unipc_sample", old(
        scheduler="unipc", beta_schedule="scaled_linear", prediction_type="sample", steps=7,
        seed=42, size="64x64", frames=4, guidance_scale=3, prompt="a golden key, macro photograph")
    yield "motion_loras", plain(
        scheduler="euler", beta_schedule="linear", steps=8, seed=35, size="64x64", frames=16,
        motion_lora="loras/pan.safetensors@0.8|loras/zoom.safetensors@0.5",
        prompt="a sailing boat on a calm sea at dawn")
    yield "kohya_lora", plain(
        scheduler="euler", beta_schedule="linear", steps=6, seed=44, size="64x64", frames=4,
        lora="loras/kohya.safetensors@0.7", guidance_scale=4,
        prompt="a girl with a paper umbrella, ink drawing", negative_prompt=BAD)
    yield "loras_of_all_kinds", plain(
        scheduler="ddim", beta_schedule="linear", steps=6, seed=45, size="64x64", frames=4,
        lora="loras/peft.safetensors@0.6|loras/kohya.safetensors@-0.4", guidance_scale=4,
        motion_lora="loras/zoom.safetensors", prompt="a fox in the snow, watercolour")
    yield "original_lora_files", plain(
        scheduler="euler", beta_schedule="linear", steps=6, seed=48, size="64x64", frames=8,
        lora="loras/domain.ckpt@0.8", motion_lora="loras/pan-original.ckpt@0.7|loras/zoom.safetensors",
        guidance_scale=5, prompt="a lantern swinging in the wind, photograph", negative_prompt=BAD)
    yield "lora_with_settings", plain(
        scheduler="euler", beta_schedule="linear", steps=6, seed=46, size="64x64", frames=4,
        lora="loras/settings.safetensors@0.9", guidance_scale=4,
        prompt="a crane standing in the reeds, woodcut")
    yield "32_frames", plain(
        scheduler="ddim", beta_schedule="linear", timestep_spacing="linspace", clip_sample=0,
        steps=5, seed=36, size="40x48", frames=32, prompt="an hourglass running out of sand")
    yield "30_steps", plain(
        scheduler="ddim", beta_schedule="linear", steps=30, seed=9223372036854775807,
        size="64x64", frames=8, prompt="a horse galloping across the open plain",
        negative_prompt=BAD)
    yield "original_adapter_file", v1(
        motion_adapter="models/v1-motion-original.safetensors", scheduler="euler",
        beta_schedule="linear", steps=6, seed=37, size="64x64", frames=12, clip_skip=2,
        prompt="a steam train crossing a stone bridge")
    yield "other_vae", plain(
        vae="models/levels/vae", scheduler="dpmpp_2m", beta_schedule="linear", steps=6, seed=38,
        timestep_spacing="trailing", size="64x64", frames=4, prompt="a windmill")
    yield "long_prompt", hub(
        beta_schedule="linear", steps=5, seed=39, size="64x64", frames=4, guidance_scale=2,
        prompt="masterpiece, best quality, highly detailed, sharp focus, " * 12 + "a swan",
        negative_prompt="bad hands, extra fingers, " * 30)
    yield "own_size", saved(
        scheduler="euler", beta_schedule="linear", steps=6, seed=43, prompt="a red car by the sea")
    yield "single_file", single(
        beta_schedule="linear", steps=6, seed=46, size="64x64", frames=8, guidance_scale=4,
        prompt="an old tram climbing a steep street", negative_prompt=BAD)
    yield "vae_file", plain(
        vae="models/single-vae.safetensors", scheduler="euler", beta_schedule="linear", steps=5,
        seed=47, size="64x64", frames=4, prompt="a kite above the dunes")
    # the model that is shipped, with its own files' settings
    yield "demo_model", demo(steps=5, seed=1, prompt="a red ball rolling left")
    yield "demo_model_loras", demo(
        steps=5, seed=2, frames=4, motion_lora="../../demo/motion_lora/pan-left.safetensors@0.9",
        lora="../../demo/lora/outline.safetensors@0.8", negative_prompt="blue",
        prompt="an orange star standing still on a meadow")
    yield "empty_prompt", levels(
        scheduler="euler_ancestral", beta_schedule="scaled_linear", steps=6, seed=0,
        size="64x64", frames=4, timestep_spacing="trailing", prediction_type="v_prediction")


def cases():
    """(name, options as the filter's strings); what is not given has the filter's default."""
    for part in (scheduler_cases, other_cases):
        for name, options in part():
            yield name, {k: str(v) for k, v in options.items()}


# ---- one case -----------------------------------------------------------------------------------

def moved(a, b):
    """Percent of bytes that differ."""
    return round(100 * float(np.mean(a != b)), 1)


# options whose effect is measured by leaving them out; 0 is right where the default is the same
OPTIONAL = ("negative_prompt", "clip_skip", "lora", "motion_lora", "vae", "eta", "clip_sample",
            "use_karras_sigmas", "prediction_type", "timestep_spacing", "steps_offset",
            "original_steps")


def changed_options(options):
    """The same case with another prompt, with one step more, and without single options."""
    prompt = "a green triangle moving up" if "red" in options.get("prompt", "") else "a red cube"
    yield "prompt", {**options, "prompt": prompt}
    yield "step", {**options, "steps": str(int(options["steps"]) + 1)}
    for name in OPTIONAL:
        if name in options:
            yield f"without {name}", {k: v for k, v in options.items() if k != name}


def without_motion(pipe):
    """The same pipeline whose motion modules add nothing."""
    pipe = copy.deepcopy(pipe)
    for name, p in pipe.unet.named_parameters():
        if "motion_modules" in name and ".proj_out." in name:
            p.data.zero_()
    return pipe


def sensitivity(pipe, options, frames):
    """What the clip would notice, in percent of its bytes."""
    out = {}
    for what, changed in changed_options(options):
        other = reference.load(changed) if what.startswith("without") else pipe
        out[what] = moved(frames, reference.render(other, changed, torch.float32))
    if len(frames) > 1:
        out["motion"] = moved(frames, reference.render(without_motion(pipe), options,
                                                       torch.float32))
        out["frame_order"] = moved(frames, frames[::-1])
    assert out["prompt"] > 50 and out["step"] > 10, out
    return out


def check_picture(name, options, frames):
    """Neither grey nor clipped, or the comparison would prove nothing."""
    spread, clipped = frames.std(), np.mean((frames == 0) | (frames == 255))
    assert 30 <= spread <= 50 or "demo" in options["model"], (name, spread)
    assert clipped < 0.02, (name, clipped)


def make(name, options):
    """Render one case; returns its row."""
    pipe = reference.load(options)
    single = reference.render(pipe, options, torch.float32)
    reacts = sensitivity(pipe, options, single)
    if name == TRACED:
        with recorded(pipe) as trace:
            frames = reference.render(pipe, options, torch.float64)
        write_trace(trace)
    else:
        frames = reference.render(pipe, options, torch.float64)
    check_picture(name, options, frames)
    off = np.abs(frames.astype(int) - single.astype(int))
    file = f"clips/{name}.rgb"
    (GOLDEN / file).write_bytes(frames.tobytes())
    return {"name": name, "options": options, "frames": len(frames), "width": frames.shape[2],
            "height": frames.shape[1], "file": file, "ref_fp32_diff": int((off > 0).sum()),
            "ref_fp32_max": int(off.max()), "sensitivity": reacts}


# ---- the trace ----------------------------------------------------------------------------------

class recorded:
    """Inside: the pipeline's intermediate results go into a dict as they pass by."""

    def __init__(self, pipe):
        self.pipe, self.trace, self.step = pipe, {}, 0

    def __enter__(self):
        p = self.pipe
        encode, prepare = p.encode_prompt, p.prepare_latents
        step, decode = p.scheduler.step, p.vae.decode

        def encode_prompt(*args, **kwargs):
            positive, negative = encode(*args, **kwargs)
            self.trace["text.negative"], self.trace["text.positive"] = negative, positive
            return positive, negative

        def prepare_latents(*args, **kwargs):
            self.trace["latents.initial"] = prepare(*args, **kwargs)
            return self.trace["latents.initial"]

        def scheduler_step(noise, t, latents, **kwargs):
            out = step(noise, t, latents, **kwargs)
            key = f"step.{self.step:02}"
            self.trace[f"{key}.timestep"] = torch.as_tensor(t).reshape(1)
            self.trace[f"{key}.noise"] = noise
            self.trace[f"{key}.latents"] = out.prev_sample
            self.step += 1
            return out

        def vae_decode(z, *args, **kwargs):
            self.trace["decoder.input"] = z
            out = decode(z, *args, **kwargs)
            self.trace["decoder.output.frame_0"] = out.sample[:1]
            return out

        p.encode_prompt, p.prepare_latents = encode_prompt, prepare_latents
        p.scheduler.step, p.vae.decode = scheduler_step, vae_decode
        return self.trace

    def __exit__(self, *_):
        for thing, name in ((self.pipe, "encode_prompt"), (self.pipe, "prepare_latents"),
                            (self.pipe.scheduler, "step"), (self.pipe.vae, "decode")):
            del thing.__dict__[name]


def write_trace(trace):
    """float32, axes as torch has them: latents [1, 4, f, h, w], noise after guidance."""
    store({k: v.detach().float().contiguous().clone() for k, v in trace.items()},
          GOLDEN / "trace.safetensors")


# ---- all ----------------------------------------------------------------------------------------

def table_row(row):
    reacts = ", ".join(f"{k} {v}" for k, v in row["sensitivity"].items())
    print(f"  {row['name']}: {row['ref_fp32_diff']} bytes differ in fp32, by at most "
          f"{row['ref_fp32_max']}; moved by {reacts}", flush=True)


def write():
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, options in cases():
        rows.append(make(name, options))
        table_row(rows[-1])
    for file in FOLDER.iterdir():
        if f"clips/{file.name}" not in {r["file"] for r in rows}:
            file.unlink()
    lines = ",\n".join(json.dumps(r) for r in rows)
    (GOLDEN / "clips.json").write_text('{"cases":[\n' + lines + "\n]}\n")
    print(f"  {len(rows)} clips, {formats.own_bytes(FOLDER) / 1e6:.2f} MB")
    assert formats.own_bytes(FOLDER) < 5e6

"""motion.py - stage 5: the motion module learns clips; everything else is frozen.

AnimateDiff's own recipe: the text-to-image UNet gets motion modules with zeroed output
projections, and only they are trained, on clips with the captions of stage 4. All frames of a clip
share one noise level, drawn from the noisy end, where the course of a motion is decided.
Run: python motion.py
"""
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

import cache
from common import CUDA, DEVICE, WORK, Loop, autocast, finish, launch, save_half
from diffusion import LEVELS, STEPS as TIMES
from diffusion import Reader, guided_answer, noised, plain_attention, weighted_loss

STEPS, BATCH, PEAK = (8000, 16, 1e-3) if CUDA else (8000, 2, 1e-3)


def new_adapter():
    return MotionAdapter(
        block_out_channels=LEVELS, motion_layers_per_block=1, motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4, motion_norm_num_groups=16, motion_max_seq_length=32,
        use_motion_mid_block=True)


def animated(adapter):
    """The frozen UNet of stage 4 with the adapter's modules in it."""
    unet = UNet2DConditionModel.from_pretrained(WORK / "model/unet", torch_dtype=torch.float32)
    model = UNetMotionModel.from_unet2d(unet, adapter).to(DEVICE)
    return plain_attention(model).requires_grad_(False)


def adapter_state(model):
    """The motion modules' tensors under the names a MotionAdapter gives them."""
    return {k: v for k, v in model.state_dict().items() if ".motion_modules." in k}


class MotionPart(torch.nn.Module):
    """Only the motion modules, as one module, so that Loop trains and averages just them."""

    def __init__(self, model):
        super().__init__()
        blocks = [*model.down_blocks, model.mid_block, *model.up_blocks]
        self.parts = torch.nn.ModuleList(b.motion_modules for b in blocks)
        self.requires_grad_(True)


def clip_times(count):
    return (TIMES * torch.rand(count, device=DEVICE) ** 0.5).long().clamp(max=TIMES - 1)


def clip_loss(model, nothing, x, m, told):
    """x [b, 16, 4, g, g]; told: Clips.clips(). One noise level per clip."""
    states, spoken, _ = told
    t = clip_times(len(x))
    noisy, wanted = noised(x, torch.randn_like(x), t)
    frames = x.shape[1]

    def answer(states):
        with autocast():
            v = model(noisy.transpose(1, 2), t, states).sample
        return v.transpose(1, 2).flatten(0, 1)
    each = states.unsqueeze(1).expand(-1, frames, -1, -1).flatten(0, 1)
    v = guided_answer(answer, each, nothing, spoken)
    times = t.unsqueeze(1).expand(-1, frames).flatten()
    return weighted_loss(v, wanted.flatten(0, 1), times, m.flatten(0, 1))


def train(rank):
    torch.manual_seed(5)
    model = animated(new_adapter())
    part = MotionPart(model)
    reader = Reader()
    nothing = reader([""])
    clips = cache.Clips([p for p in cache.part_paths() if p.exists()], reader)
    loop = Loop("motion", rank, {"motion": part}, STEPS, PEAK, decay=0.998, batch=BATCH, hold=0.5)
    loop.run(lambda: (clip_loss(model, nothing, *clips.clips(BATCH)), {}), keep=250)

    def write():
        adapter = new_adapter()
        adapter.load_state_dict(adapter_state(model))
        save_half(adapter, WORK / "model/motion_adapter")
    finish(loop, write)


if __name__ == "__main__":
    launch(train)

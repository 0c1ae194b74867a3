"""diffusion.py - the noise schedule, the loss and the UNet both diffusion stages share.

v-prediction on linear betas that end at almost no signal. The loss weighs things more than
background (they fill a tenth of the picture) and high noise more than usual: there colour, shape
and place are decided.

Trained through guidance: a small model in a small world believes its captions so firmly that
guidance 7.5 burns the picture. So the loss is taken on free + GUIDED (told - free), where `free`
is the same model's answer to the empty caption. At guidance GUIDED the model then is the plain
conditional one, and 7.5 is a gentle push beyond it.
"""
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel

from common import CUDA, DEVICE, WORK
from text import load_tokenizer, token_ids

STEPS = 1000
THING_WEIGHT = 5.0
GUIDED = 3.0
LEVELS = (64, 128, 128)


def new_scheduler():
    return DDIMScheduler(
        num_train_timesteps=STEPS, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True,
        steps_offset=0, timestep_spacing="trailing")


ALPHA = new_scheduler().alphas_cumprod.to(DEVICE)


def new_unet():
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=LEVELS,
        layers_per_block=1, cross_attention_dim=128, attention_head_dim=2, norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
    return plain_attention(unet.to(DEVICE))


def plain_attention(unet):
    """On a CPU the plain processor trains much faster than the fused one."""
    if not CUDA:
        unet.set_attn_processor(AttnProcessor())
    return unet


class Reader:
    """The frozen tokenizer and text encoder: captions -> states [n, 77, 128]."""

    def __init__(self):
        self.tokenizer = load_tokenizer()
        self.encoder = CLIPTextModel.from_pretrained(
            WORK / "model/text_encoder", torch_dtype=torch.float32).to(DEVICE).eval()
        self.encoder.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, captions):
        return self.states(token_ids(self.tokenizer, captions))

    @torch.no_grad()
    def states(self, ids):
        return self.encoder(ids.long()).last_hidden_state


def guided_answer(answer, states, nothing, spoken):
    """answer(states) -> v of all samples; nothing: the state of the empty caption, [1, 77, 128].

    Samples with a caption (spoken [n]) are answered through guidance, those without one plainly.
    """
    with torch.no_grad():
        free = answer(nothing.expand_as(states)).float()
    told = answer(states).float()
    factor = torch.where(spoken, GUIDED, 1.0).view(-1, 1).expand(-1, len(told) // len(spoken))
    return free + factor.reshape(-1, *[1] * (told.dim() - 1)) * (told - free)


def draw_times(count):
    """More high noise than low: 1000 u^0.6."""
    return (STEPS * torch.rand(count, device=DEVICE) ** 0.6).long().clamp(max=STEPS - 1)


def noised(x, noise, t):
    """(x_t, v) for per-sample times t; x is [n, ...]."""
    shape = (-1,) + (1,) * (x.dim() - 1)
    a = ALPHA[t].sqrt().view(shape)
    s = (1 - ALPHA[t]).sqrt().view(shape)
    return a * x + s * noise, a * noise - s * x


def weighted_loss(v, wanted, t, masks):
    """v, wanted [n, 4, g, g]; t [n]; masks [n, g, g] in 0..1."""
    snr = ALPHA[t] / (1 - ALPHA[t])
    level = (snr.clamp(max=5) + 1) / (snr + 1)
    place = 1 + (THING_WEIGHT - 1) * masks.unsqueeze(1)
    place = place / place.mean(dim=(1, 2, 3), keepdim=True)
    error = ((v.float() - wanted) ** 2 * place).mean(dim=(1, 2, 3))
    return (error * level).mean()

"""published.py - the numbers G1 to G6 of the model reference, against what blocks.py computes.

A second pair of eyes: those numbers were made independently of this program. Each entry is
(case, output, first four values, last value, sum, sum of absolute values), as printed there.
They come from unrounded weights; the stored files from weights rounded to float32.
"""
import torch

from . import blocks, fill

TABLE = [
    ("resnet_8_16", "out", (0.313550, 0.175080, -0.043394, -0.126181), -0.083719,
     4.00643, 123.66251),
    ("transformer2d_conv", "out", (-8.600383, -8.555318, -8.507988, -8.458937), 8.265583,
     120.95503, 3019.60053),
    ("motion_reference", "out", (-2.787626, -2.354161, -1.883983, -1.397745), 10.512182,
     214.19227, 3571.39275),
    ("unet_mid", "out", (-0.118198, -0.186215, -0.226473, -0.219811), -0.058487,
     -235.18575, 235.24864),
    ("unet_no_mid", "out", (-0.118127, -0.186149, -0.226445, -0.219835), -0.058597,
     -235.29624, 235.35803),
    ("unet_odd_size", "out", (-0.114314, -0.180024, -0.210487, -0.225136), -0.071153,
     -197.94564, 197.96255),
    ("vae_encode_moments", "out", (-0.090545, -0.172875, -0.230234, -0.253045), 0.027607,
     -4.69203, 22.77270),
    ("vae_decode", "out", (-0.264305, -0.197679, 0.173341, 0.729595), -0.093518,
     -23.34750, 725.91641),
    ("clip_quick_gelu", "out", (-0.315817, -0.625808, -1.025168, -1.368201), 0.677922,
     -3.09851, 99.55410),
    ("clip_quick_gelu", "skip1", (0.620111, -0.276984, -1.141541, -1.680836), 0.725692,
     -4.91633, 88.38327),
]

TILED = ((0.344423, 0.387391, 0.095007, -0.392593), -0.128186, 31.94195, 3166.93460)


def differences(out, first, last, total, total_abs):
    """Largest difference from the printed numbers: (of single values, of the two sums)."""
    flat = out.flatten()
    values = max((flat[:4] - torch.tensor(first, dtype=flat.dtype)).abs().max().item(),
                 abs(flat[-1].item() - last))
    sums = max(abs(flat.sum().item() - total), abs(flat.abs().sum().item() - total_abs))
    return values, sums


def tiled_decode():
    """G5c: the small autoencoder in tiles of 8 latents."""
    vae = blocks.autoencoder(blocks.vae_config([16, 32], 2, 4))
    vae.enable_tiling()
    return vae.decode(fill.wave((1, 4, 9, 15), 0.11, 0.5), return_dict=False)[0]


def computed():
    """(label, tensor, numbers) for every row, from unrounded weights and inputs."""
    table = {name: rest for name, *rest in blocks.cases()}
    for name, output, *numbers in TABLE:
        kind, config, inputs = table[name]
        out = blocks.KINDS[kind](config, {k: blocks.tensor(v) for k, v in inputs.items()})
        yield f"{name}.{output}", out[output], numbers
    yield "vae_decode, tiled", tiled_decode(), TILED


def check():
    """Print every comparison; stop on a value that is not the printed one."""
    bad = []
    with fill.unrounded():
        for label, out, numbers in computed():
            values, sums = differences(out, *numbers)
            print(f"  {label:24} values within {values:.1e}, sums within {sums:.1e}")
            if values > 1e-6 or sums > 1e-5:
                bad.append(label)
    if bad:
        raise SystemExit("differs from the published numbers: " + ", ".join(bad))

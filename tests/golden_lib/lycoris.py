"""lycoris.py - layers changed by every kind of LoRA: loras/kinds.safetensors, lycoris.safetensors.

diffusers merges plain LoRAs alone, so the formulas are written down here in numpy's double, from
the papers: LoRA 2106.09685, LyCORIS 2309.14859, DoRA 2402.09353, IA3 2205.05638. PEFT, and the
package lycoris-lora where it is installed, must come to the same weights.
"""
import numpy as np
from safetensors.numpy import save_file

from . import lycoris_check
from .pins import GOLDEN

STRENGTHS = [1.0, 0.7, -0.5]
EPS = float(np.finfo(np.float32).eps)                   # LyCORIS adds it to DoRA's norms

A = "down_blocks.0.attentions.0.transformer_blocks.0"
B = "up_blocks.1.attentions.0.transformer_blocks.0"
R = "down_blocks.1.resnets.0"
S = "up_blocks.1.resnets.0"
T = "text_model.encoder.layers.0"

# ---- the formulas: parts by suffix and the weight, in double; without alpha and strength ---------


def flat(a):
    return a.reshape(a.shape[0], -1)


def tucker(core, left, right):
    """core [p, q, x, y], left [p, o], right [q, i]: [o, i, x, y]"""
    return np.einsum("pqxy,po,qi->oixy", core, left, right)


def lora(p, w):
    up, down = flat(p[".lora_up.weight"]), flat(p[".lora_down.weight"])
    if ".lora_mid.weight" in p:
        return tucker(p[".lora_mid.weight"], up.T, down)
    return (up @ down).reshape(w.shape)


def loha(p, w):
    factors = []
    for i in "12":
        a, b = p[f".hada_w{i}_a"], p[f".hada_w{i}_b"]
        factors.append(tucker(p[f".hada_t{i}"], a, b) if f".hada_t{i}" in p
                       else (a @ flat(b)).reshape(w.shape))
    return factors[0] * factors[1]


def lokr(p, w):
    w1 = p[".lokr_w1"] if ".lokr_w1" in p else p[".lokr_w1_a"] @ p[".lokr_w1_b"]
    if ".lokr_w2" in p:
        w2 = p[".lokr_w2"]
    elif ".lokr_t2" in p:
        w2 = tucker(p[".lokr_t2"], p[".lokr_w2_a"], p[".lokr_w2_b"])
    else:
        w2 = p[".lokr_w2_a"] @ flat(p[".lokr_w2_b"])
        w2 = w2.reshape(w2.shape[0], w.shape[1] // w1.shape[1], *w.shape[2:])
    return np.kron(w1.reshape(*w1.shape[:2], *(1,) * (w.ndim - 2)), w2)


def full(p, w):
    (diff,) = p.values()
    return diff.reshape(w.shape)


def ia3(p, w):
    axis = 1 if p[".on_input"] else 0
    return w * p[".weight"].reshape([-1 if i == axis else 1 for i in range(w.ndim)])


def ia3_peft(p, w):
    factor = p[".ia3_l"]                                # [out, 1] or [1, in]
    return w * (factor.reshape(-1) if w.ndim == 1 else factor) - w


KINDS = {"lora": lora, "loha": loha, "lokr": lokr, "full": full, "ia3": ia3, "ia3_peft": ia3_peft}


def merged(w, delta, strength, magnitude, on_input):
    """W + m * delta; or, with magnitudes, W + m * (W' - W), W' = magnitude * V / |V|."""
    if magnitude is None:
        return w + strength * delta
    axis = 1 if on_input else 0
    v = w + delta
    norm = np.sqrt((v ** 2).sum(axis=tuple(i for i in range(v.ndim) if i != axis), keepdims=True))
    shape = [-1 if i == axis else 1 for i in range(v.ndim)]
    return w + strength * (magnitude.reshape(shape) * v / (norm + EPS) - w)


# ---- the layers -----------------------------------------------------------------------------------

# (kind, layer, the weight's shape, alpha / rank or None, shapes of the parts)
TABLE = [
    ("lora", f"{A}.attn1.to_q", (12, 10), .5, {".lora_down.weight": (3, 10),
                                               ".lora_up.weight": (12, 3)}),
    ("lora", f"{A}.ff.net.2", (35, 130), None, {".lora_down.weight": (5, 130),
                                                ".lora_up.weight": (35, 5)}),
    ("lora", f"{R}.conv_shortcut", (9, 7, 1, 1), .25, {".lora_down.weight": (4, 7, 1, 1),
                                                       ".lora_up.weight": (9, 4)}),
    ("lora", f"{R}.conv1", (8, 6, 3, 3), 1.5, {".lora_down.weight": (3, 6, 3, 3),
                                               ".lora_up.weight": (8, 3, 1, 1)}),
    ("lora", f"{R}.conv2", (8, 6, 3, 3), 2 / 3, {
        ".lora_down.weight": (3, 6, 1, 1), ".lora_up.weight": (8, 3, 1, 1),
        ".lora_mid.weight": (3, 3, 3, 3)}),
    ("loha", f"{A}.attn1.to_k", (12, 10), .75, {
        ".hada_w1_a": (12, 3), ".hada_w1_b": (3, 10), ".hada_w2_a": (12, 4), ".hada_w2_b": (4, 10)}),
    ("loha", "up_blocks.1.attentions.0.proj_in", (10, 9, 1, 1), None, {
        ".hada_w1_a": (10, 2), ".hada_w1_b": (2, 9), ".hada_w2_a": (10, 2), ".hada_w2_b": (2, 9)}),
    ("loha", f"{S}.conv1", (8, 6, 3, 3), .5, {
        ".hada_w1_a": (8, 2), ".hada_w1_b": (2, 54), ".hada_w2_a": (8, 2), ".hada_w2_b": (2, 54)}),
    ("loha", f"{S}.conv2", (18, 6, 3, 3), .5, {
        ".hada_w1_a": (4, 18), ".hada_w1_b": (4, 6), ".hada_w2_a": (4, 18), ".hada_w2_b": (4, 6),
        ".hada_t1": (4, 4, 3, 3), ".hada_t2": (4, 4, 3, 3)}),
    # of two whole factors the alpha does not count
    ("lokr", f"{A}.attn1.to_v", (12, 10), "any", {".lokr_w1": (3, 2), ".lokr_w2": (4, 5)}),
    ("lokr", f"{A}.attn2.to_k", (12, 10), .5, {
        ".lokr_w1": (3, 2), ".lokr_w2_a": (4, 2), ".lokr_w2_b": (2, 5)}),
    ("lokr", f"{A}.attn2.to_v", (12, 10), .5, {
        ".lokr_w1_a": (3, 2), ".lokr_w1_b": (2, 2), ".lokr_w2": (4, 5)}),
    ("lokr", f"{B}.ff.net.0.proj", (40, 15), .5, {
        ".lokr_w1_a": (5, 4), ".lokr_w1_b": (4, 3), ".lokr_w2_a": (8, 4), ".lokr_w2_b": (4, 5)}),
    ("lokr", f"{R}.time_emb_proj", (12, 10), None, {
        ".lokr_w1_a": (2, 3), ".lokr_w1_b": (3, 5), ".lokr_w2_a": (6, 2), ".lokr_w2_b": (2, 2)}),
    ("lokr", "up_blocks.1.attentions.0.proj_out", (8, 6, 1, 1), "any", {
        ".lokr_w1": (2, 3), ".lokr_w2": (4, 2, 1, 1)}),
    ("lokr", "mid_block.resnets.0.conv1", (8, 6, 3, 3), "any", {
        ".lokr_w1": (2, 3), ".lokr_w2": (4, 2, 3, 3)}),
    ("lokr", "mid_block.resnets.0.conv2", (8, 6, 3, 3), .75, {
        ".lokr_w1": (2, 3), ".lokr_w2_a": (4, 3), ".lokr_w2_b": (3, 2 * 9)}),
    ("lokr", "mid_block.resnets.1.conv1", (8, 6, 3, 3), .75, {
        ".lokr_w1_a": (2, 2), ".lokr_w1_b": (2, 3), ".lokr_w2_a": (3, 4), ".lokr_w2_b": (3, 2),
        ".lokr_t2": (3, 3, 3, 3)}),
    ("full", "down_blocks.0.downsamplers.0.conv", (8, 6, 3, 3), None, {".diff": (8, 6, 3, 3)}),
    ("full", f"{T}.mlp.fc1", (12, 10), None, {".diff": (12, 10)}),
    ("ia3", f"{B}.attn1.to_k", (12, 10), None, {".weight": (12,), ".on_input": 0}),
    ("ia3", f"{B}.attn1.to_v", (12, 10), None, {".weight": (10,), ".on_input": 1}),
    ("ia3", "mid_block.resnets.1.conv2", (8, 6, 3, 3), None, {".weight": (1, 8, 1, 1),
                                                              ".on_input": 0}),
    ("ia3", "up_blocks.1.upsamplers.0.conv", (8, 6, 3, 3), None, {".weight": (1, 6, 1, 1),
                                                                  ".on_input": 1}),
    ("ia3_peft", f"{B}.attn2.to_k", (12, 10), None, {".ia3_l": (12, 1)}),
    ("ia3_peft", f"{B}.ff.net.2", (12, 10), None, {".ia3_l": (1, 10)}),
]

# biases and norms: (layer, leaf, its width, suffix)
VECTORS = [
    ("down_blocks.0.downsamplers.0.conv", "bias", 8, ".diff_b"),
    (f"{T}.mlp.fc1", "bias", 12, ".diff_b"),
    ("conv_norm_out", "weight", 16, ".w_norm"), ("conv_norm_out", "bias", 16, ".b_norm"),
    (f"{T}.layer_norm1", "weight", 12, ".w_norm"), (f"{T}.layer_norm1", "bias", 12, ".b_norm"),
]

LINEAR = {".lora_down.weight": (3, 10), ".lora_up.weight": (12, 3)}
CONV = {".lora_down.weight": (2, 6, 3, 3), ".lora_up.weight": (8, 2, 1, 1)}
SQUARE = {".lora_down.weight": (2, 9), ".lora_up.weight": (9, 2)}
PEFT, KOHYA = ".lora_magnitude_vector", ".dora_scale"

# with magnitudes: the columns of TABLE, then their name and shape, and whether of the inputs
DORA = [
    ("lora", f"{A}.attn2.to_q", (12, 10), .5, LINEAR, (KOHYA, (12, 1)), False),
    ("lora", f"{A}.attn2.to_out.0", (12, 10), .5, LINEAR, (KOHYA, (1, 10)), True),
    ("lora", "up_blocks.2.resnets.0.conv1", (8, 6, 3, 3), .5, CONV, (KOHYA, (8, 1, 1, 1)), False),
    ("lora", "up_blocks.2.resnets.0.conv2", (8, 6, 3, 3), .5, CONV, (KOHYA, (1, 6, 1, 1)), True),
    ("lora", f"{B}.attn1.to_q", (9, 9), None, SQUARE, (PEFT, (9,)), False),
    ("lora", "up_blocks.2.resnets.1.conv1", (8, 6, 3, 3), 1.5, CONV,
     (PEFT + ".weight", (1, 8, 1, 1)), False),
    ("loha", f"{B}.attn2.to_q", (12, 10), .5, {
        ".hada_w1_a": (12, 2), ".hada_w1_b": (2, 10), ".hada_w2_a": (12, 2),
        ".hada_w2_b": (2, 10)}, (KOHYA, (12, 1)), False),
    ("lokr", f"{B}.attn2.to_v", (12, 10), .5, {
        ".lokr_w1": (3, 2), ".lokr_w2_a": (4, 2), ".lokr_w2_b": (2, 5)}, (KOHYA, (1, 10)), True),
]


class Files:
    def __init__(self):
        self.rng = np.random.default_rng(77)
        self.adapter, self.weights = {}, {}

    def numbers(self, shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def parts(self, shapes):
        return {k: np.float32(v) if isinstance(v, int) else self.numbers(v)
                for k, v in shapes.items()}

    def layer(self, kind, layer, leaf, shape, scale, parts, magnitude=None, on_input=False):
        """Add it to both files: what the adapter says, and the weight before and after."""
        text = layer.startswith("text_model")
        stem = ("base_model.model." + layer if kind == "ia3_peft" else
                ("lora_te_" if text else "lora_unet_") + layer.replace(".", "_"))
        for suffix, value in parts.items():
            self.adapter[stem + suffix] = value
        if scale == "any":
            self.adapter[f"{stem}.alpha"], scale = np.float32(1e9), 1
        elif scale:
            self.adapter[f"{stem}.alpha"] = np.float32(scale * lycoris_check.rank(parts))
        w = self.numbers(shape) / 2
        p = {k: v.astype(np.float64) for k, v in parts.items()}
        delta = (scale or 1) * KINDS[kind](p, w.astype(np.float64))
        if magnitude:
            name, value = magnitude
            self.adapter[stem + name] = value
            magnitude = value.astype(np.float64)
        self.weights[f"{layer}.{leaf}"] = w
        for m in STRENGTHS:
            self.weights[f"{layer}.{leaf}@{m:g}"] = merged(
                w.astype(np.float64), delta, m, magnitude, on_input).astype(np.float32)
        if leaf == "weight" and w.ndim > 1:
            lycoris_check.agrees(kind, p, w, scale or 1, magnitude, on_input,
                                 merged(w.astype(np.float64), delta, 1, magnitude, on_input))


def write():
    files = Files()
    for kind, layer, shape, scale, shapes in TABLE:
        files.layer(kind, layer, "weight", shape, scale, files.parts(shapes))
    for layer, leaf, width, suffix in VECTORS:
        files.layer("full", layer, leaf, (width,), None, {suffix: files.numbers((width,))})
    stem = f"{B}.attn2.to_k"                            # PEFT scales the bias with the outputs
    files.layer("ia3_peft", stem, "bias", (12,), None,
                {".ia3_l": files.adapter[f"base_model.model.{stem}.ia3_l"]})
    for kind, layer, shape, scale, shapes, (name, width), on_input in DORA:
        magnitude = np.abs(files.numbers(width)) + np.float32(0.5)
        files.layer(kind, layer, "weight", shape, scale, files.parts(shapes), (name, magnitude),
                    on_input)
    for name, tensors in (("loras/kinds", files.adapter), ("lycoris", files.weights)):
        path = GOLDEN / f"{name}.safetensors"
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
        path.chmod(0o644)
    print(f"  {len(TABLE) + len(VECTORS) + len(DORA)} layers; also computed by "
          f"{', '.join(f'{k}: {n}' for k, n in lycoris_check.counts.items())}")

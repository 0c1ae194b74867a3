"""lycoris_check.py - the weights of lycoris.py once more, by PEFT's and LyCORIS's own code.

Each package computes what it knows, in double. A disagreement stops the run. lycoris-lora 4.1.3
(with einops and toml) is not pinned: the numbers are numpy's, with it or without.
"""
from collections import Counter

import numpy as np
import peft
import torch

try:
    from lycoris.functional import locon, loha, lokr
    from lycoris.functional.general import weight_decompose
    from lycoris.modules.ia3 import _ia3_weight
    HAVE_LYCORIS = True
except ImportError:
    HAVE_LYCORIS = False

counts = Counter()


def rank(parts):
    """What alpha is divided by: the first of these that is there."""
    for suffix in (".lora_down.weight", ".hada_w1_b", ".lokr_w2_b", ".lokr_w1_b"):
        if suffix in parts:
            return parts[suffix].shape[0]
    return None


def tensors(parts):
    return {k: torch.from_numpy(np.array(v, dtype=np.float64)) for k, v in parts.items()}


# ---- lycoris-lora --------------------------------------------------------------------------------

def by_lycoris(kind, parts, w, scale, magnitude, on_input):
    get = tensors(parts).get
    if kind == "ia3":
        return _ia3_weight(torch.from_numpy(w.astype(np.float64)), get(".weight"),
                           bool(get(".on_input")), 1, False).numpy()
    if kind == "lora":
        down, up, mid = (get(f".lora_{n}.weight") for n in ("down", "up", "mid"))
        if w.ndim == 4:
            up = up.reshape(*up.shape[:2], 1, 1)
        delta = locon._diff_weight(down, up, mid, scale)
    elif kind == "loha":
        delta = loha._diff_weight(get(".hada_w1_b"), get(".hada_w1_a"), get(".hada_w2_b"),
                                  get(".hada_w2_a"), get(".hada_t1"), get(".hada_t2"), scale)
    elif kind == "lokr":
        names = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
        args = [get(f".lokr_{n}") for n in names]
        if w.ndim == 4 and args[5] is not None and args[6] is None:
            in2 = w.shape[1] // (args[0] if args[0] is not None else args[2]).shape[1]
            args[5] = args[5].reshape(args[5].shape[0], in2, *w.shape[2:])
        delta = lokr.diff_weight(*args, gamma=1.0, backend="torch")
        delta = delta / lokr.rank_scale(args[1], args[4], 1.0) * scale
    else:
        return None
    merged = torch.from_numpy(w.astype(np.float64)) + delta.reshape(w.shape)
    if magnitude is not None:
        axis = 1 if on_input else 0
        shape = [-1 if i == axis else 1 for i in range(w.ndim)]
        merged = weight_decompose(merged, torch.from_numpy(magnitude).reshape(shape), 1,
                                  not on_input, backend="torch")
    return merged.numpy()


# ---- PEFT ----------------------------------------------------------------------------------------

def layer_of(w):
    out, inner, *kernel = w.shape
    layer = (torch.nn.Conv2d(inner, out, kernel, bias=False) if kernel
             else torch.nn.Linear(inner, out, bias=False)).double()
    layer.weight.data = torch.from_numpy(w.astype(np.float64))
    return torch.nn.Sequential(layer)


def config(kind, parts, scale, magnitude):
    r = rank(parts)
    common = {"r": r, "target_modules": ["0"]}
    if kind == "lora":
        return peft.LoraConfig(lora_alpha=scale * r, use_dora=magnitude is not None, **common)
    if kind == "loha" and magnitude is None:
        return peft.LoHaConfig(alpha=scale * r, use_effective_conv2d=".hada_t1" in parts, **common)
    if kind == "ia3_peft":
        ff = parts[".ia3_l"].shape[0] == 1
        return peft.IA3Config(target_modules=["0"], feedforward_modules=["0"] if ff else [])
    return None


def by_peft(kind, parts, w, scale, magnitude, on_input):
    made = config(kind, parts, scale, magnitude)
    ranks = {v.shape[0] for k, v in parts.items() if k in (".hada_w1_b", ".hada_w2_b")}
    if not made or ".lora_mid.weight" in parts or on_input or len(ranks) > 1:
        return None
    model = peft.get_peft_model(layer_of(w), made).double()
    names = {".lora_down.weight": "lora_A.default.weight", ".lora_up.weight": "lora_B.default.weight"}
    state = model.state_dict()
    for suffix, value in tensors(parts).items():
        key = f"base_model.model.0.{names.get(suffix, suffix[1:] + '.default')}"
        state[key] = value.reshape(state[key].shape)
    if magnitude is not None:
        key = "base_model.model.0.lora_magnitude_vector.default.weight"
        state[key] = torch.from_numpy(magnitude).reshape(state[key].shape)
    model.load_state_dict(state)
    return model.merge_and_unload()[0].weight.detach().numpy()


def agrees(kind, parts, w, scale, magnitude, on_input, wanted):
    """Stop unless every package that knows this kind comes to the wanted weight."""
    for name, compute in (("peft", by_peft),) + ((("lycoris", by_lycoris),) * HAVE_LYCORIS):
        found = compute(kind, parts, w, scale, magnitude, on_input)
        if found is None:
            continue
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        # the small number beside DoRA's norms is not the same everywhere
        assert error < (1e-12 if magnitude is None else 1e-6), (name, kind, w.shape, error)
        counts[name] += 1

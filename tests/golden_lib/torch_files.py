"""torch_files.py - torch/: files of torch.save, and what is in them as safetensors.

Every X.pt has an X.safetensors with the names, types, shapes and bits that must be found in it;
those under refused/ have none. The names follow from the rules in engine/torch_file.c: nested dicts
joined with points, state_dict, model and controlnet taken off.
"""
import collections
import io
import sys
import types
import zipfile

import numpy as np
import torch

from .pins import GOLDEN, store

FOLDER = GOLDEN / "torch"


def numbers(dtype, *shape):
    count = int(np.prod(shape, dtype=int))
    values = torch.arange(count) * 7 % 23 - (0 if dtype in (torch.uint8, torch.bool) else 11)
    return (values % 2 == 0 if dtype == torch.bool else values / 4 if dtype.is_floating_point
            else values).to(dtype).reshape(shape)


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool]


def dtypes():
    tensors = {str(d).removeprefix("torch."): numbers(d, 3, 5) for d in DTYPES}
    tensors["scalar"] = torch.tensor(-2.5)
    tensors["empty"] = torch.empty(0)
    tensors["empty_axis"] = torch.empty(3, 0, 2, dtype=torch.float16)
    tensors["one"] = numbers(torch.float32, 1, 1, 1, 1)
    tensors["eight_axes"] = numbers(torch.int32, 1, 2, 1, 3, 1, 2, 1, 1)
    return tensors


def views():
    base, half = numbers(torch.float32, 4, 6), numbers(torch.bfloat16, 2, 3, 4, 5)
    row = numbers(torch.float64, 7)
    return {"base": base, "turned": base.T, "rows": base[1:3], "columns": base[:, 2:5],
            "every_second": base[::2, 1::2], "same": base, "last": base[3, 5],
            "permuted": half.permute(0, 2, 3, 1), "channels_last":
            half.contiguous(memory_format=torch.channels_last), "repeated": row.expand(3, 7),
            "all_one": row[2:3].expand(5), "diagonal": base[:, :4].diagonal(),
            "windows": row.unfold(0, 3, 1), "empty_turned": base[:0].T,
            "one_column": base[:, 1:2], "flags": numbers(torch.bool, 3, 4).T}


class Callback:
    """Stands for what training programs leave in their files."""


def checkpoint():
    """Of pytorch_lightning: weights, and much else."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        sys.modules[name] = module
    Callback.__module__, module.Callback = module.__name__, Callback
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.GroupNorm(1, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(numbers(torch.float32, *parameter.shape))
    one = Callback()
    one.best = np.float64(0.25)
    optimizer = {"state": {0: {"step": 3, "exp_avg": numbers(torch.float32, 4)}},
                 "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0, 1]}]}
    saved = {"epoch": 5, "global_step": 2 ** 40, "seed": 2 ** 80, "note": "naïve", "rate": 0.5,
             "pytorch-lightning_version": "1.4.2", "state_dict": model.state_dict(),
             "callbacks": {Callback: {"best_model_score": numbers(torch.float32), "by": one}},
             "optimizer_states": [optimizer], "lr_schedulers": [], "none": None, "tags": {"a"}}
    return saved, {k: v.contiguous() for k, v in model.state_dict().items()}


def nested():
    """An image adapter's file; dicts in dicts, lists, numbers as keys, keys that name nothing."""
    a, b = numbers(torch.float16, 2, 2), numbers(torch.float32, 3)
    saved = {"image_proj": {"proj.weight": a, "norm": collections.OrderedDict(weight=b)},
             "ip_adapter": {1: {"to_k": b}, 3: a}, "list": [a, 5, (b, "text")],
             "config": {"x": 1}, (1, 2): 3, "é": b}
    names = {"image_proj.proj.weight": a, "image_proj.norm.weight": b, "ip_adapter.1.to_k": b,
             "ip_adapter.3": a, "list.0": a, "list.2.0": b, "é": b}
    return saved, names


def embedding():
    """As the first textual inversions were saved."""
    v = numbers(torch.float32, 2, 8)
    saved = {"string_to_token": {"*": torch.tensor(265)},
             "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(v)})}
    return saved, {"string_to_token.*": torch.tensor(265), "string_to_param.*": v}


def wrapped():
    v = numbers(torch.float32, 2, 3)
    return {"model": {"state_dict": {"state_dict": {"module.a": v, "model.b": v}}}, "x": v}, {
        "module.a": v, "model.b": v}


def plain(tensors):
    return tensors, tensors


def refused():
    folder = FOLDER / "refused"
    folder.mkdir(exist_ok=True)
    v = {"v": numbers(torch.float32, 2, 3)}
    legacy = io.BytesIO()
    torch.save(v, legacy, _use_new_zipfile_serialization=False)
    (folder / "legacy.pt").write_bytes(legacy.getvalue()[:100])     # the rest has addresses
    torch.save(v, folder / "protocol5.pt", pickle_protocol=5)
    torch.save(torch.nn.Identity(), folder / "module.pt")
    torch.save({"v": torch.zeros(2, dtype=torch.complex64)}, folder / "complex.pt")
    torch.save({"v": torch.zeros(2, dtype=torch.float8_e5m2)}, folder / "float8.pt")
    torch.save({"v": torch.zeros(2).to_sparse()}, folder / "sparse.pt")
    torch.save({"v": torch.zeros(2, 2, device="meta")}, folder / "meta.pt")
    torch.save({"v": np.arange(3)}, folder / "numpy.pt")
    torch.jit.script(torch.nn.Identity()).save(folder / "script.pt")
    with zipfile.ZipFile(folder / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as to, \
            zipfile.ZipFile(FOLDER / "wrapped.pt") as old:
        for name in old.namelist():
            to.writestr(zipfile.ZipInfo(name), old.read(name), zipfile.ZIP_DEFLATED)


def write():
    FOLDER.mkdir(exist_ok=True)
    cases = {"dtypes": plain(dtypes()), "views": plain(views()), "checkpoint": checkpoint(),
             "nested": nested(), "embedding": embedding(), "wrapped": wrapped(),
             "bare": (numbers(torch.float16, 4), {"tensor": numbers(torch.float16, 4)}),
             "protocol3": nested(), "protocol4": checkpoint()}
    for name, (saved, tensors) in cases.items():
        protocol = int(name[-1]) if name.startswith("protocol") else 2
        torch.save(saved, FOLDER / f"{name}.pt", pickle_protocol=protocol)
        store({k: v.detach().clone(memory_format=torch.contiguous_format)
               for k, v in tensors.items()}, FOLDER / f"{name}.safetensors")
    with zipfile.ZipFile(FOLDER / "repacked.pt", "w", zipfile.ZIP_STORED) as to, \
            zipfile.ZipFile(FOLDER / "dtypes.pt") as old:      # headers in another program's way
        for name in old.namelist():
            to.writestr(zipfile.ZipInfo(name), old.read(name))
    refused()
    for path in FOLDER.rglob("*.pt"):
        path.chmod(0o644)
    print(f"  {len(cases) + 1} files")

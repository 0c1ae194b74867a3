"""common.py - what every training stage needs: workers, schedules, averages, checkpoints.

A stage calls launch(stage_function, ...): on a GPU one process runs it, on a CPU two processes of one
thread each (1.7 times the speed of one process of two threads), which step alone and meet every
MEET steps: cheaper than meeting at every step, most of all on a machine that others use too.
Every stage resumes from its last checkpoint in the work folder, $DEMO_WORK.
"""
import json
import math
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

WORK = Path(os.environ.get("DEMO_WORK", "build/demo-model")).resolve()
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
MEET = 10
WORLD = 1 if CUDA else int(os.environ.get("DEMO_WORKERS", "2"))


def launch(stage, *arguments):
    """Run stage(rank, *arguments) in WORLD processes and wait for them."""
    WORK.mkdir(parents=True, exist_ok=True)
    if WORLD == 1:
        stage(0, *arguments)
    else:
        torch.multiprocessing.spawn(worker, (stage, arguments), nprocs=WORLD)


def worker(rank, stage, arguments):
    torch.set_num_threads(1)
    meeting = WORK / f".meet-{stage.__module__}-{os.getppid()}"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    try:
        stage(rank, *arguments)
    finally:
        dist.destroy_process_group()
        meeting.unlink(missing_ok=True)


def average_parameters(params):
    """All workers go on from the mean of their parameters: one all-reduce, flattened."""
    if not dist.is_initialized():
        return
    with torch.no_grad():
        flat = torch.cat([p.reshape(-1) for p in params])
        dist.all_reduce(flat)
        flat /= WORLD
        for p, piece in zip(params, flat.split([p.numel() for p in params])):
            p.copy_(piece.view_as(p))


def rate_at(step, total, peak, warm=100, hold=0.5):
    """Linear warm-up, a flat part, then a cosine down to 2 % of the peak."""
    if step < warm:
        return peak * (step + 1) / warm
    x = max(0.0, (step / total - hold) / (1 - hold))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, x))))


class Loop:
    """The steps of a stage: learning rate, exchange, moving average, checkpoints, log."""

    def __init__(self, name, rank, modules, total, peak, decay=0.999, batch=1, hold=0.5,
                 weight_decay=0.01):
        self.name, self.rank, self.total, self.peak = name, rank, total, peak
        self.batch, self.hold, self.decay = batch, hold, decay
        self.modules = modules
        self.params = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, lr=peak, betas=(0.9, 0.99), eps=1e-8,
                                           weight_decay=weight_decay, fused=True)
        self.average = [p.detach().clone() for p in self.params]
        self.step = 0
        self.curve = []
        self.path = WORK / f"{name}.pt"
        self.clock, self.seen, self.sums = time.time(), 0, {}
        self.resume()

    def resume(self):
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location=DEVICE, weights_only=True)
        with torch.no_grad():
            for p, saved in zip(self.params, state["params"]):
                p.copy_(saved)
        for a, saved in zip(self.average, state["average"]):
            a.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["foreach"], group["fused"] = None, True
        self.step, self.curve = state["step"], state["curve"]

    def save(self):
        if self.rank:
            return
        state = {"params": [p.detach() for p in self.params], "average": self.average,
                 "optimizer": self.optimizer.state_dict(), "step": self.step, "curve": self.curve}
        torch.save(state, str(self.path) + ".new")
        os.replace(str(self.path) + ".new", self.path)

    @property
    def done(self):
        return self.step >= self.total

    def seed(self):
        """Another one for every worker and step, the same in every run."""
        return (self.step * 64 + self.rank) * 7919 + 17

    def update(self, loss, every=50, keep=100, **values):
        """Backward, one optimizer step, and the bookkeeping."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.total, self.peak, hold=self.hold)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        if (self.step + 1) % MEET == 0:
            average_parameters(self.params)
        weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], weight)
        self.step += 1
        for key, value in {"loss": loss, **values}.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(torch.as_tensor(value).detach())
        self.seen += 1
        if self.step % every == 0:
            self.report()
        if self.step % keep == 0 or self.done:
            self.save()

    def report(self):
        means = {k: round(v / self.seen, 5) for k, v in self.sums.items()}
        speed = self.seen * self.batch * WORLD / (time.time() - self.clock)
        self.curve.append({"step": self.step, "images": self.step * self.batch * WORLD, **means})
        if self.rank == 0:
            print(self.name, json.dumps({**self.curve[-1], "per_s": round(speed, 1)}), flush=True)
        self.clock, self.seen, self.sums = time.time(), 0, {}

    def use_average(self):
        """Put the moving average into the modules (to save or to judge them)."""
        with torch.no_grad():
            for p, a in zip(self.params, self.average):
                p.copy_(a)


def finish(loop, write):
    """The closing of a stage: rank 0 writes the averaged modules and a loss curve."""
    loop.use_average()
    if loop.rank == 0:
        write()
        (WORK / f"{loop.name}.curve.json").write_text(json.dumps(loop.curve))
    if dist.is_initialized():
        dist.barrier()


def save_half(module, folder, **config):
    """A diffusers or transformers module as fp16 safetensors plus config.json."""
    if config:
        module.register_to_config(**config)
    half = {k: v.clone() for k, v in module.state_dict().items()}
    module.half().save_pretrained(folder)
    module.float()
    module.load_state_dict(half)


def autocast():
    return torch.autocast(DEVICE.type, torch.bfloat16)


def note(text):
    print(text, file=sys.stderr, flush=True)

"""common.py - what every training stage needs: workers, schedules, averages, checkpoints.

A stage calls launch(stage_function, ...): on a GPU one process runs it, on a CPU two processes of one
thread each (1.7 times the speed of one process of two threads), which step alone and meet every
MEET steps: cheaper than meeting at every step, most of all on a machine that others use too.
Every stage resumes from its last checkpoint in the work folder, $DEMO_WORK.
"""
import copy
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
    """The steps of a stage: learning rate, exchange, moving average, checkpoints, log.

    run(loss_of) repeats: loss_of() draws its own batch with torch's generator and gives the loss and
    values to log. On a GPU the whole step, batch to optimizer, is one CUDA graph that is replayed:
    these models are so small that launching their kernels one by one would take most of the time.
    """

    def __init__(self, name, rank, modules, total, peak, decay=0.999, batch=1, hold=0.5,
                 weight_decay=0.01):
        self.name, self.rank, self.total, self.peak = name, rank, total, peak
        self.batch, self.hold, self.decay = batch, hold, decay
        self.modules = modules
        self.params = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.rate = torch.tensor(peak, device=DEVICE)
        self.optimizer = torch.optim.AdamW(self.params, lr=self.rate if CUDA else peak,
                                           betas=(0.9, 0.99), eps=1e-8, fused=True,
                                           weight_decay=weight_decay, capturable=CUDA)
        self.average = [p.detach().clone() for p in self.params]
        self.blend = torch.tensor(1.0, device=DEVICE)
        self.step, self.curve, self.sums = 0, [], {}
        self.path = WORK / f"{name}.pt"
        self.clock, self.seen = time.time(), 0
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
            group.update(foreach=None, fused=True, capturable=CUDA,
                         lr=self.rate if CUDA else self.peak)
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
        """Another one for every worker and checkpoint, the same in every run."""
        torch.manual_seed((self.step * 64 + self.rank) * 7919 + 17)

    def run(self, loss_of, part=1.0, every=50, keep=100, graph=True):
        """Steps until that part of all is done; a checkpoint and new seed every `keep`."""
        if self.step >= int(part * self.total):
            return
        self.set_rates()
        step = self.captured(loss_of) if CUDA and graph else lambda: self.one(loss_of)
        self.seed()
        self.clock, self.seen = time.time(), 0
        while self.step < int(part * self.total):
            self.set_rates()
            step()
            self.step += 1
            self.seen += 1
            if self.step % MEET == 0:
                average_parameters(self.params)
            if self.step % every == 0 or self.done:
                self.report()
            if self.step % keep == 0 or self.done:
                self.save()
                self.seed()

    def set_rates(self):
        rate = rate_at(self.step, self.total, self.peak, hold=self.hold)
        self.rate.fill_(rate)
        self.blend.fill_(1 - min(self.decay, (1 + self.step) / (10 + self.step)))
        if not CUDA:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def one(self, loss_of):
        """Batch, backward, one optimizer step, moving average, sums for the log."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, values = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            change = torch._foreach_sub(self.params, self.average)
            torch._foreach_mul_(change, self.blend)
            torch._foreach_add_(self.average, change)
            for key, value in {"loss": loss, **values}.items():
                if key not in self.sums:
                    self.sums[key] = torch.zeros((), device=DEVICE)
                self.sums[key] += value.detach()

    def captured(self, loss_of):
        """The step as a CUDA graph: warmed up on a side stream, state put back, recorded."""
        before = ([p.detach().clone() for p in self.params], [a.clone() for a in self.average])
        known = bool(self.optimizer.state)
        saved = copy.deepcopy(self.optimizer.state_dict()["state"]) if known else None
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.one(loss_of)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.one(loss_of)
        with torch.no_grad():
            for mine, old in zip((self.params, self.average), before):
                for p, q in zip(mine, old):
                    p.copy_(q)
            for i, p in enumerate(self.params):
                for key, value in self.optimizer.state[p].items():
                    value.copy_(saved[i][key]) if known else value.zero_()
            for value in self.sums.values():
                value.zero_()
        return graph.replay

    def report(self):
        if self.seen:
            means = {k: round(v.item() / self.seen, 5) for k, v in self.sums.items()}
            speed = self.seen * self.batch * WORLD / (time.time() - self.clock)
            self.curve.append({"step": self.step, "images": self.step * self.batch * WORLD, **means})
            if self.rank == 0:
                print(self.name, json.dumps({**self.curve[-1], "per_s": round(speed, 1)}),
                      flush=True)
        for value in self.sums.values():
            value.zero_()
        self.clock, self.seen = time.time(), 0

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


BF16 = CUDA or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast():
    """bf16 where the processor has it; no cache of cast weights: it must not outlive a captured step."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=BF16, cache_enabled=not CUDA)


def note(text):
    print(text, file=sys.stderr, flush=True)

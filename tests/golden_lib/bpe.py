"""bpe.py - a small vocabulary made by the byte-pair rules CLIP's was made by.

corpus.txt -> vocab.json and merges.txt. The rules: text is normalised and cut into pieces as the
tokenizer does it; a piece is its UTF-8 bytes, one character each, the last with </w> glued on; the
most frequent neighbouring pair becomes one symbol, again and again; ids are the 256 bytes, the 256
bytes with </w>, one per merge, then the two special tokens. tokens.py and models.py call this.
"""
import json
from collections import Counter
from functools import lru_cache
from pathlib import Path

MERGES = 830                        # every one of them was seen at least twice
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
CORPUS = Path(__file__).with_name("corpus.txt")


def byte_characters():
    """The 256 characters that stand for bytes, in id order: printable bytes, then the others."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def vocabulary(merges):
    """Token -> id for a list of (left, right) merges."""
    single = byte_characters()
    tokens = single + [c + "</w>" for c in single] + [a + b for a, b in merges] + [BOS, EOS]
    assert len(set(tokens)) == len(tokens)
    return {token: i for i, token in enumerate(tokens)}


def write_files(folder, merges, **json_style):
    """vocab.json and merges.txt as tokenizer folders have them."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "vocab.json", "w", encoding="utf-8") as f:
        json.dump(vocabulary(merges), f, **json_style)
        f.write("\n")
    lines = ["#version: 0.2"] + [f"{a} {b}" for a, b in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pieces(lines, scratch):
    """How often each piece occurs, cut by the real tokenizer (it needs no merges for that)."""
    from transformers import CLIPTokenizerFast
    write_files(scratch, [])
    backend = CLIPTokenizerFast(vocab_file=str(scratch / "vocab.json"),
                                merges_file=str(scratch / "merges.txt")).backend_tokenizer
    found = Counter()
    for line in lines:
        text = backend.normalizer.normalize_str(line)
        found.update(piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    return found


def replace_pair(symbols, pair):
    """Every occurrence of the pair, left to right, becomes one symbol."""
    out, i = [], 0
    while i < len(symbols):
        if symbols[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def train(counts, wanted):
    """The merges, most frequent pair first; of equals the one that sorts last."""
    words = {(*word[:-1], word[-1] + "</w>"): n for word, n in counts.items()}
    merges, made = [], set()
    while len(merges) < wanted:
        pairs = Counter()
        for symbols, n in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        # two roads to one token would give it two ids
        free = {p: n for p, n in pairs.items() if p[0] + p[1] not in made}
        best = max(free, key=lambda p: (free[p], p))
        made.add(best[0] + best[1])
        merges.append(best)
        merged = Counter()
        for symbols, n in words.items():
            merged[replace_pair(symbols, best)] += n
        words = merged
    return merges


@lru_cache
def small_merges():
    import tempfile
    with tempfile.TemporaryDirectory() as scratch:
        counts = pieces(CORPUS.read_text(encoding="utf-8").splitlines(), Path(scratch))
    return train(counts, MERGES)

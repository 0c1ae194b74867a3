"""text.py - stage 2: the vocabulary and the text encoder, trained alone and then frozen.

A CLIPTextModel learns to read the grammar: at the end-of-text token and the padding after it the
state must be a code made of one block per question (colour, shape, motion, background, which
thing). The codes of one block are orthogonal, so a combination never seen is still the sum of
parts that were. With two things, even positions speak of the first, odd ones of the second.
Run: python text.py
"""
import collections
import json
import random
import re

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

import grammar
from common import DEVICE, WORK, Loop, finish, launch, note, save_half

FOLDER = WORK / "model"
WIDTH, LENGTH = 128, 77
STEPS, BATCH = 1500, 32
BLOCK, SLOT = 28, 16
QUESTIONS = {"colour": grammar.COLOUR_NAMES, "shape": grammar.SHAPES, "motion": grammar.MOTIONS,
             "background": grammar.BACKGROUNDS}


# ---- vocabulary -----------------------------------------------------------------------------

def byte_alphabet():
    """The 256 printable stand-ins of bytes, in the order of CLIP's vocabulary."""
    same = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in same]
    return [chr(b) for b in same] + [chr(256 + i) for i in range(len(rest))]


def learn_merges(words):
    """Byte-pair merges until every word of the grammar is one token, most frequent pair first."""
    pieces = {w: [*w[:-1], w[-1] + "</w>"] for w in words}
    merges = []
    while any(len(p) > 1 for p in pieces.values()):
        pairs = collections.Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in pieces.items():
            out = []
            for part in parts:
                if out and (out[-1], part) == best:
                    out[-1] += part
                else:
                    out.append(part)
            pieces[word] = out
    return merges


def write_tokenizer(folder):
    rng = random.Random(21)
    words = collections.Counter()
    for _ in range(20000):
        text = grammar.tell(grammar.random_scene(rng), rng)[0]
        words.update(re.findall(r"[a-z]+", text))
    merges = learn_merges(words)
    letters = byte_alphabet()
    tokens = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
               "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {**special, "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
         "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}, indent=2) + "\n")
    note(f"vocabulary of {len(tokens)} tokens, {len(merges)} merges")


def load_tokenizer():
    return CLIPTokenizerFast.from_pretrained(FOLDER / "tokenizer", model_max_length=LENGTH)


def token_ids(tokenizer, captions):
    return tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True,
                     return_tensors="pt").input_ids.to(DEVICE)


# ---- codes ----------------------------------------------------------------------------------

def code_book():
    """Per question a table [1 + classes, BLOCK] of orthogonal codes; row 0 means not said."""
    generator = torch.Generator().manual_seed(22)
    book = {}
    for question, names in QUESTIONS.items():
        basis = torch.linalg.qr(torch.randn(BLOCK, BLOCK, generator=generator))[0]
        book[question] = basis[:1 + len(names)] * BLOCK ** 0.5
    basis = torch.linalg.qr(torch.randn(SLOT, SLOT, generator=generator))[0]
    book["slot"] = basis[:4] * SLOT ** 0.5
    return book


def code_of(book, thing, background, slot):
    said = {"colour": thing and thing.colour, "shape": thing and thing.shape,
            "motion": thing and thing.motion, "background": background}
    parts = [book[q][1 + QUESTIONS[q].index(v) if v else 0] for q, v in said.items()]
    return torch.cat([*parts, book["slot"][slot]])


def targets(book, ids, scenes, eos):
    """[n, LENGTH, WIDTH]: the code from the first end-of-text token on, nothing before it."""
    nothing = code_of(book, None, None, 0)
    out = nothing.repeat(len(scenes), LENGTH, 1)
    for row, (line, scene) in enumerate(zip(ids, scenes)):
        end = int((line == eos).nonzero()[0])
        things = scene.things or [None]
        if len(things) == 1:
            codes = [code_of(book, things[0], scene.background, 1 if scene.things else 0)] * 2
        else:
            codes = [code_of(book, t, scene.background, 2 + i) for i, t in enumerate(things)]
        for parity in (0, 1):
            first = end + (end + parity) % 2
            out[row, first::2] = codes[parity]
    return out


def strange_words(text, rng):
    """Put a word the grammar does not know somewhere: it must not matter."""
    words = text.split(" ")
    strange = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 8)))
    words.insert(rng.randint(0, len(words)), strange)
    return " ".join(words)


def examples(rng, count):
    texts, scenes = [], []
    for _ in range(count):
        text, scene = grammar.tell(grammar.random_scene(rng, two=0.25), rng, empty=0.03)
        if text and rng.random() < 0.15:
            text = strange_words(text, rng)
        if text and rng.random() < 0.05:
            text = text.capitalize() + "."
        texts.append(text)
        scenes.append(scene)
    return texts, scenes


# ---- training -------------------------------------------------------------------------------

def new_encoder(vocabulary):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=4 * WIDTH,
        projection_dim=WIDTH, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, hidden_act="quick_gelu", bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1))


def read_right(book, states, wanted):
    """Share of answers at the last position whose nearest code is the right one, per question."""
    share, start = {}, 0
    for question in QUESTIONS:
        part = slice(start, start + BLOCK)
        start += BLOCK
        table = book[question].T.to(states.device)
        got = (states[:, -1, part] @ table).argmax(1)
        share[question] = (got == (wanted[:, -1, part] @ table).argmax(1)).float().mean()
    return share


def train(rank):
    torch.manual_seed(2)
    tokenizer = load_tokenizer()
    book = code_book()
    model = new_encoder(len(tokenizer)).to(DEVICE)
    loop = Loop("text", rank, {"text": model}, STEPS, 2e-3, decay=0.99, batch=BATCH, hold=0.4)

    def loss_of():
        rng = random.Random((loop.step * 64 + rank) * 7919 + 17)
        texts, scenes = examples(rng, BATCH)
        ids = token_ids(tokenizer, texts)
        wanted = targets(book, ids, scenes, tokenizer.eos_token_id).to(DEVICE)
        states = model(ids).last_hidden_state
        return ((states - wanted) ** 2).mean(), read_right(book, states.detach(), wanted)
    loop.run(loss_of, every=100, graph=False)
    finish(loop, lambda: save_half(model, FOLDER / "text_encoder"))


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "tokenizer/vocab.json").exists():
        write_tokenizer(FOLDER / "tokenizer")
    launch(train)

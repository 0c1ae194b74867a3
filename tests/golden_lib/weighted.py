"""weighted.py - prompts with weights: weighted.json, weighted.safetensors, weighted.rgb.

The syntax of the AUTOMATIC1111 web interface, said once more in Python, far from the engine's
words: brackets by a recursive descent over tokens of a regular expression, rows by slices of lists.
Token ids come from CLIPTokenizerFast, states from CLIPTextModel in double, the weighting is numpy
in double, and one clip goes through AnimateDiffPipeline with these states as prompt_embeds.
"""
import json
import re

import numpy as np
import torch

from . import reference
from .pins import GOLDEN, float64_by_default, store

OPTIONS = {"model": "models/plain", "motion_adapter": "models/plain-motion", "scheduler": "ddim",
           "beta_schedule": "linear", "steps": "4", "seed": "51", "size": "32x32", "frames": "4",
           "guidance_scale": "6"}

PARSED = [
    "one ((red:1.2) car) in [fog], (sky:0.8) (open",
    "", " ", "a cat", "(a cat)", "((a cat))", "[a cat]", "[[a] cat]", "(a cat:1.5)", "(a:0)",
    "(a:-1.25) b", "(a: +1.5 )", "(a:.5)(b:2.)", "a (b:1) c", "a: b", "a:1.5", "a:1.5)", "a)b]c",
    "((((", "((a", "[a (b", "(a [b) c]", "(a:1.5:2)", "(a:b:1.3)", "([a:1.2])", "()", "(:1.2)",
    "a()b",
    "\\(a\\)", "\\[a\\]", "\\\\(a)", "a\\b", "a\\", "(a\\):1.3)", "(a\\\\)", "\\:1.3)",
    "a BREAK b", "aBREAK b", "BREAKa", "a_BREAK b", "BREAK", "BREAK BREAK", "a  BREAK\n\tb",
    "a,BREAK.b", "(a BREAK b:1.4)", "[a] BREAK (b)", "\u00e9BREAK \u00e9", "\u2014BREAK\u3000a",
    "break Break a", "(\u732b:1.2)\u72ac", "(a:1.1)(b:1.1)", "(a)(b:1.1)", "((a:1.1):0.5) c",
    "(((a b) c) d) e",
    "(a (b:2) [c:3]) d", "]a(", "[a](b)[c](d)",
]

COMMAS = "one two three, four five six seven, "
LONG = "a cat and a dog by the sea " * 14

ENCODED = [
    ("short", "a red ball rolling left"),
    ("weight", "a (red:1.4) ball [rolling] left"),
    ("zero_and_negative", "a (red:0) ball (rolling:-0.5) left"),
    ("break", "a red ball BREAK rolling left"),
    ("break_first_and_last", "BREAK (a) red ball BREAK"),
    ("long", LONG),
    ("long_weighted", LONG + "(a swan:1.3), " + LONG + "[by night]"),
    ("commas", COMMAS * 12),
    ("comma_far_back", "one two, " + LONG),
    ("comma_20_back", "a " * 55 + ", " + "b " * 200),
    ("comma_21_back", "a " * 54 + ", " + "b " * 200),
    ("comma_at_75", "a " * 75 + ", b " + "c " * 80),
    ("comma_at_74", "a " * 74 + ", b c, d"),
    ("exactly_75", "a " * 75), ("exactly_76", "a " * 76), ("exactly_150", "a " * 150),
    ("empty", ""), ("brackets_only", "(())"), ("special", "(a<|endoftext|>b:1.2) c"),
    ("joined_across_brackets", "ro(ll)ing ro(ll:1)ing"),
]


# ---- pieces -------------------------------------------------------------------------------------

WORD = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*[+-]?[.\d]+\s*\)|\\|:|[^()\[\]\\:]+")


def closer(word, round_open, square_open):
    """(which stack, factor) of a token that closes a bracket, or None."""
    if round_open and word == ")":
        return round_open, 1.1
    if round_open and word[0] == ":" and word[-1] == ")":
        return round_open, float(word[1:-1])
    if square_open and word == "]":
        return square_open, 1 / 1.1
    return None


def parse(prompt):
    """[text, weight] or ["BREAK", None], neighbours of equal weight joined."""
    spans, stacks, pieces = [], {"(": [], "[": []}, []
    for word in WORD.findall(prompt):
        if word in stacks:
            stacks[word].append(len(pieces))
        elif close := closer(word, stacks["("], stacks["["]):
            spans.append((close[0].pop(), len(pieces), close[1]))
        elif word[0] == "\\":
            pieces.append(word[1:])
        else:
            for i, part in enumerate(re.split(r"\s*\bBREAK\b\s*", word)):
                pieces += [None, part] if i else [part]
    spans += [(first, len(pieces), 1.1) for first in stacks["("]]
    spans += [(first, len(pieces), 1 / 1.1) for first in stacks["["]]
    return join(pieces or [""], spans)


def join(pieces, spans):
    out = []
    for i, text in enumerate(pieces):
        weight = 1.0
        for first, end, factor in spans:
            if first <= i < end:
                weight *= factor
        if text is None:
            out.append(["BREAK", None])
        elif out and out[-1][1] is not None and abs(out[-1][1] - weight) < 1e-12:
            out[-1][0] += text
        else:
            out.append([text, weight])
    return out


# ---- rows ---------------------------------------------------------------------------------------

def rows(tokenizer, pieces):
    """[[(id, weight)]]: at most 75 in each, before marks and padding."""
    comma = tokenizer(",", add_special_tokens=False).input_ids
    assert len(comma) == 1
    done, row, back = [], [], None                      # back: what is behind the row's last comma
    for text, weight in pieces:
        if weight is None:
            done, row, back = done + [row], [], None
            continue
        for token in tokenizer(text, add_special_tokens=False).input_ids:
            is_comma = token == comma[0]
            if len(row) == 75:
                keep = 75 - back if back is not None and back < 20 and not is_comma else 75
                done, row, back = done + [row[:keep]], row[keep:], None
                is_comma = False
            row = row + [(token, weight)]
            back = 0 if is_comma else None if back is None else back + 1
    return done + [row] if row or not done else done


def padded(tokenizer, row):
    ids = [tokenizer.bos_token_id, *(i for i, _ in row)]
    weights = [1.0, *(w for _, w in row)]
    rest = 77 - len(ids)
    return ids + [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (rest - 1), \
        weights + [1.0] * rest


def encode(pipe, prompt, chunks=0):
    """Ids and weighted states of all rows: [77 * chunks], [77 * chunks, c] in double."""
    found = rows(pipe.tokenizer, parse(prompt))
    found += [[]] * (chunks - len(found))
    ids, states = [], []
    for row in found:
        row_ids, weights = padded(pipe.tokenizer, row)
        with float64_by_default():
            z = pipe.text_encoder(torch.tensor([row_ids])).last_hidden_state[0].numpy()
        weighted = z * np.array(weights)[:, None]
        ids += row_ids
        states.append(weighted * (z.mean() / weighted.mean()))
    return ids, np.concatenate(states)


# ---- files --------------------------------------------------------------------------------------

def clip(pipe):
    """A weighted prompt of two rows against a negative one of one row."""
    prompt, negative = "a (red:1.4) ball [rolling] left BREAK by the (sea)", "(blurry:1.2), text"
    states = [torch.from_numpy(encode(pipe, text, 2)[1])[None] for text in (prompt, negative)]
    arguments = reference.call_arguments(OPTIONS)
    arguments.update(prompt=None, negative_prompt=None, prompt_embeds=states[0],
                     negative_prompt_embeds=states[1])
    with reference.float32_noise():
        frames = pipe(**arguments, output_type="pil").frames[0]
    (GOLDEN / "weighted.rgb").write_bytes(np.stack([np.asarray(f) for f in frames]).tobytes())
    return {"options": {**OPTIONS, "prompt": prompt, "negative_prompt": negative,
                        "prompt_syntax": "weighted"}, "file": "weighted.rgb"}


def write():
    pipe = reference.load(OPTIONS).to(torch.float64)
    parsed = [{"text": p, "pieces": parse(p)} for p in PARSED]
    encoded, tensors = [], {}
    for name, prompt in ENCODED:
        ids, states = encode(pipe, prompt)
        encoded.append({"name": name, "text": prompt, "ids": ids})
        tensors[name] = torch.from_numpy(states).float().contiguous()
    parts = [f'"{key}":[\n' + ",\n".join(json.dumps(r, separators=(",", ":")) for r in part) + "\n]"
             for key, part in (("parsed", parsed), ("encoded", encoded))]
    parts += [f'"clip":{json.dumps(clip(pipe))}']
    (GOLDEN / "weighted.json").write_text("{" + ",\n".join(parts) + "}\n")
    store(tensors, GOLDEN / "weighted.safetensors")
    print(f"  {len(parsed)} parsed, {len(encoded)} encoded, one clip")

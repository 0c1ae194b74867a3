"""report.py - one stage's log into results.json and results.md of a GPU session.

Called by tests/gpu/run.sh after every stage; needs nothing but Python. What a stage printed is read
line by line: `ok - `, `not ok - `, `skip - ` of tests; rows of bench_session's table; JSON objects,
one a line, of everything else.

Usage: report.py FOLDER STAGE
SPDX-License-Identifier: LGPL-2.1-or-later
"""
import json
import os
import re
import sys
from pathlib import Path

ROW = re.compile(r"^    (\S.*?)\s+([\d.]+) ms\s+(\d+) calls\s+([\d.]+|inf|nan) (GB/s|GFLOP/s)$")


def part(folder, stage):
    status, seconds, limit = map(int, (folder / f"{stage}.status").read_text().split())
    out = {"stage": stage, "status": status, "seconds": seconds, "limit": limit,
           "timed_out": status in (124, 137), "ok": 0, "failed": [], "skipped": [],
           "operations": [], "numbers": [], "text": []}
    for line in (folder / f"{stage}.log").read_text(errors="replace").splitlines():
        row = ROW.match(line)
        if line.startswith("ok - "):
            out["ok"] += 1
        elif line.startswith("not ok - "):
            out["failed"].append(line[9:])
        elif line.startswith("skip - "):
            out["skipped"].append(line[7:])
        elif row:
            out["operations"].append({"operation": row[1], "ms": float(row[2]), "calls": int(row[3]),
                                      "rate": float(row[4]), "unit": row[5]})
        elif line.startswith("{"):
            try:
                out["numbers"].append(json.loads(line))
            except ValueError:              # cut off by the limit
                out["text"].append(line)
        else:
            out["text"].append(line)
    out["text"] = out["text"][-40:]
    return out


def word(p):
    if p["timed_out"]:
        return "**timed out**"
    return "ok" if p["status"] == 0 and not p["failed"] else "**failed**"


def table(rows, keys):
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    return lines + ["| " + " | ".join(str(r.get(k, "")) for k in keys) + " |" for r in rows]


def markdown(parts):
    lines = ["# A session on a GPU", ""]
    for p in parts:
        if p["stage"] == "build" and p["text"]:
            lines += [p["text"][0], ""]
    lines += table([{"stage": p["stage"], "result": word(p), "ok": p["ok"], "failed": len(p["failed"]),
                     "skipped": len(p["skipped"]), "seconds": p["seconds"]} for p in parts],
                   ["stage", "result", "ok", "failed", "skipped", "seconds"])
    for p in parts:
        if p["failed"] or p["skipped"] or word(p) != "ok":
            lines += ["", f"## {p['stage']}: what failed or was skipped", ""]
            lines += [f"- {text}" for text in p["failed"][:20] + p["skipped"][:20]]
            lines += [f"      {text}" for text in p["text"][-5:]]
        if p["operations"]:
            lines += ["", f"## {p['stage']}", ""]
            lines += table(p["operations"], ["operation", "ms", "calls", "rate", "unit"])
        if p["numbers"]:
            keys = list(dict.fromkeys(k for n in p["numbers"] for k in n))
            lines += ["", f"## {p['stage']}", ""] + table(p["numbers"], keys)
    return "\n".join(lines) + "\n"


def replace(path, text):
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


def main():
    folder, stage = Path(sys.argv[1]), sys.argv[2]
    results = folder / "results.json"
    parts = json.loads(results.read_text()) if results.exists() else []
    new = part(folder, stage)
    parts = [p for p in parts if p["stage"] != stage] + [new]
    replace(results, json.dumps(parts, indent=1))
    replace(folder / "results.md", markdown(parts))
    print(f"{stage}: {word(new).strip('*')}, {new['ok']} ok, {len(new['failed'])} failed, "
          f"{len(new['skipped'])} skipped, {new['seconds']} s of {new['limit']}", flush=True)


if __name__ == "__main__":
    main()

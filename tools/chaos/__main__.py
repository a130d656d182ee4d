"""Break t2ipal on purpose, and count what it does about it.

    python -m tools.chaos                               everything, into runs/chaos
    python -m tools.chaos kills --count 100             some of it
    python -m tools.chaos refusals --stages run embed
    python -m tools.chaos --table                       what was counted so far

kills     SIGKILL, SIGTERM and SIGINT at a file operation (each in turn) or at a random moment, one
          to three on a folder, then the same command to its end: every byte is compared with what
          an undisturbed run leaves
refusals  a file operation fails with ENOSPC, EACCES, EROFS, EIO or EMFILE, once or from then on, or
          a file may not grow (EFBIG): one sentence and status 2, or done all the same; then the
          same command again, and the comparison
pairs     two processes on one folder: the same command, another job, or two shards
ray       kills of a run on a Ray cluster and of its workers (needs ``ray[data]``)
inputs    damaged files, through every reader
studio    kills of the studio, of the run that it is making, or of both (needs ``studio``)

What was counted is kept in OUT/attempts.jsonl, a row per attempt: the same command resumes.
Chance is seeded by the number of the attempt.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: a process with more cannot be forked
os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import errno
import gc
import importlib
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.chaos.attempts import KILLS, REFUSALS, STATUS, Outcome, Plan, attempt
from tools.chaos.stages import SEED, SHARDS, STAGES, Stage, prepare

from t2ipal.files import LOCK

Row = dict[str, Any]
COUNTS = {"kills": 1000, "refusals": 500, "pairs": 200, "ray": 20, "inputs": 100_000, "studio": 30}
_MODULES = (
    "open_clip timm transformers diffusers t2ipal.cli.stages t2ipal.cli.whole t2ipal.cli.adjusting "
    "t2ipal.cli.exchanging t2ipal.cli.benchmarking t2ipal.runs.pipeline t2ipal.generation.exchange "
    "t2ipal.tagger.card t2ipal.report.page t2ipal.report.contact "
    "t2ipal.captions.compose t2ipal.generation.hub_dataset"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=", ".join(COUNTS))
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--count", type=int, help="attempts of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"))
    parser.add_argument("--table", action="store_true", help="print what was counted, do nothing")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(COUNTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "attempts.jsonl"
    if not given.table:
        _import()
        for part in given.parts or list(COUNTS):
            _do(part, given.count or COUNTS[part], given.stages, given.seed, out, journal)
    rows = _read(journal)
    print("\n".join(table(rows)))
    return 1 if any(row["faults"] for row in rows) else 0


def _import() -> None:
    for name in _MODULES.split():
        importlib.import_module(name)
    import torch

    from t2ipal.clip import features
    from t2ipal.files import row_file

    torch.set_num_threads(1)
    features._SHARD_ITEMS = 4  # so that there are several files on tiny data
    row_file._SMALL = 0  # rows stay on disk, as those of large files
    gc.collect()
    gc.freeze()


def _read(journal: Path) -> list[Row]:
    if not journal.exists():
        return []
    lines = journal.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def _do(part: str, count: int, stages: list[str], seed: int, out: Path, journal: Path) -> None:
    done = {(row["part"], row["seed"], row["stage"], row["number"]) for row in _read(journal)}
    scratch = out / f"scratch-{part}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    if part == "inputs":
        from tools.chaos.inputs import damage_all

        found = damage_all(count, seed, done, scratch, out / "found")
    elif part == "ray":
        from tools.chaos.on_ray import torment

        prepare(out / "given", scratch)
        found = torment(count, seed, done, out / "given", scratch)
    elif part == "studio":
        from tools.chaos import on_studio

        prepare(out / "given", scratch)
        found = on_studio.torment(count, seed, done, out / "given", scratch)
    else:
        prepare(out / "given", scratch)
        found = _tiny(part, count, stages, seed, out, scratch, done)
    began, attempts = time.monotonic(), 0
    with journal.open("a", encoding="utf-8") as stream:
        for row in found:
            attempts += row.get("attempts", 1)
            row = {"part": part, "seed": seed, **row}
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            for fault in row["faults"]:
                print(f"{part} {row['stage']} {row['number']}: {row['what']}: {fault}", flush=True)
    print(f"{part}: {attempts} attempts in {time.monotonic() - began:.0f} s", flush=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _tiny(
    part: str, count: int, stages: list[str], seed: int, out: Path, scratch: Path, done: set[Any]
) -> Iterator[Row]:
    """The rows of kills, refusals or pairs, the stages in turn."""
    torment = {"kills": _kill, "refusals": _refuse, "pairs": _pair}[part]
    made: dict[str, Stage] = {}
    # a run and a comparison take as long as all others together
    turns = [name for name in stages if name not in ("run", "compare")] * 3 + stages
    turns = turns if len(stages) > 2 else stages
    for number in range(count):
        name = turns[number % len(turns)]
        if (part, seed, name, number) in done:
            continue
        if name not in made:
            made[name] = Stage(name, STAGES[name], out / "given", scratch).measure()
        chance = random.Random(f"{seed} {part} {number}")
        row = torment(made[name], number // len(turns), chance)
        yield {"stage": name, "number": number, **row}


def _kill(stage: Stage, number: int, chance: random.Random) -> Row:
    out, faults, hits, plans = stage.folder("killed"), [], 0, []
    megabytes = 0
    for turn in range(chance.choice((1, 1, 2, 3))):
        sign = KILLS[(number + turn) % 3]
        if number % 3 == 2:
            plan = Plan(sign=sign, after=chance.uniform(0, stage.takes))
        else:
            at = 1 + (number if not turn else chance.randrange(stage.operations)) % stage.operations
            plan = Plan(sign=sign, at=at)
        plans.append(str(plan))
        done = attempt(stage.command(out), out, stage.scratch, plan)
        faults += done.faults
        megabytes = max(megabytes, done.megabytes)
        hits += done.status in STATUS[signal.Signals(sign)]
        if done.status not in (0, *STATUS[signal.Signals(sign)]):
            faults.append(f"status {done.status} after {plan}: {done.said[-200:]}")
        if done.status == 0:
            break
    faults += _finish(stage, out)
    return {"what": ", ".join(plans), "faults": faults, "hits": hits, "megabytes": megabytes}


def _finish(stage: Stage, out: Path) -> list[str]:
    """Run the command to its end; what is wrong then."""
    done = stage.start(out).wait()
    faults = done.faults
    if done.status:
        faults.append(f"the next start ended with {done.status}: {done.said[-300:]}")
    elif different := stage.differences(out):
        faults.append(f"differs: {', '.join(different)}")
    return faults


def _refuse(stage: Stage, number: int, chance: random.Random) -> Row:
    out = stage.folder("refused")
    code = REFUSALS[number % len(REFUSALS)]
    most = max(map(len, stage.expected.values()))
    at = chance.randrange(most) if code == errno.EFBIG else 1 + chance.randrange(stage.operations)
    plan = Plan(code=code, at=at, lasting=chance.random() < 0.5)
    done = attempt(stage.command(out), out, stage.scratch, plan)
    faults = done.faults
    if done.status == 0:
        # the empty lock, which was refused to be removed, goes with the next start
        if different := [one for one in stage.differences(out) if one != f"+ {LOCK}"]:
            faults.append(f"done all the same, but differs: {', '.join(different)}")
    elif done.status != 2 or "t2ipal: " not in done.said:
        faults.append(f"status {done.status}: {done.said[-300:]}")
    faults += _finish(stage, out)
    return {
        "what": str(plan), "faults": faults, "hits": int(done.status == 2),
        "megabytes": done.megabytes,
    }  # fmt: skip


def _pair(stage: Stage, number: int, chance: random.Random) -> Row:
    out, kind = stage.folder("shared"), "the same twice"
    words: tuple[str, str] = (stage.words, stage.words)
    if stage.name in SEED and number % 3 == 1:
        kind, words = "another seed", (stage.words, SEED[stage.name])
    elif stage.name == "generate" and number % 3 == 2:
        kind, words = "two shards", SHARDS
    first = stage.start(out, words[0])
    time.sleep(chance.uniform(0, 1.2 * stage.takes))
    both = [first, stage.start(out, words[1])]
    ended: list[Outcome] = [one.wait() for one in both]
    faults = [fault for one in ended for fault in one.faults]
    for one in ended:
        if one.status not in (0, 2):
            faults.append(f"status {one.status}: {one.said[-200:]}")
    if all(one.status for one in ended):
        faults.append(f"both refused: {ended[0].said[-200:]} {ended[1].said[-200:]}")
    if kind == "another seed" and ended[0].status:
        # the folder is the other job's, which must be whole
        done = stage.start(out, words[1]).wait()
        if done.status:
            faults.append(f"neither job can be finished: {done.said[-200:]}")
        other = Stage(stage.name, words[1], stage.given, stage.scratch)
        other.measure()
        if different := other.differences(out):
            faults.append(f"differs: {', '.join(different)}")
    else:
        faults += _finish(stage, out)
    refused = sum(one.status == 2 for one in ended)
    return {
        "what": kind, "faults": faults, "hits": refused,
        "megabytes": max(one.megabytes for one in ended),
    }  # fmt: skip


_TITLES = {
    "kills": "kills", "refusals": "refused operations", "pairs": "pairs of processes",
    "ray": "kills on a Ray cluster", "inputs": "damaged inputs",
    "studio": "kills of the studio",
}  # fmt: skip


def table(rows: list[Row]) -> list[str]:
    """What was counted, in Markdown."""
    lines = [
        "| what was done | stage or reader | attempts | took effect | with a fault | most memory |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for part, title in _TITLES.items():
        own = [row for row in rows if row["part"] == part]
        for stage in [*dict.fromkeys(row["stage"] for row in own), ""] if own else []:
            here = [row for row in own if stage in ("", row["stage"])]
            lines.append(
                f"| {title} | {stage or '**all**'} | "
                f"{sum(row.get('attempts', 1) for row in here):,} | "
                f"{sum(row['hits'] for row in here):,} | "
                f"{sum(len(row['faults']) > 0 for row in here):,} | "
                f"{max(row['megabytes'] for row in here):,} MB |"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())

"""What is tormented: each verb that writes files, on tiny data of the miniature models."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tools.chaos.attempts import Attempt, attempt

CLASSES = "- dog\n- cat\n- bus\n- car\n- boat\n- horse\n"
_TINY = (
    "--generator miniature --steps 1 --clip miniature --train.epochs 1 --no-ablations --seeds 0 "
    "--data miniature:12"
)
_RUN = f"run --classes {{given}}/k.yaml --compose 12 {_TINY} --out {{out}}"
_GENERATE = (
    "generate --labelled-captions {given}/c.jsonl --generator miniature --steps 1 "
    "--batch-size 3 --out {out}"
)
STAGES = {
    "label": "label --classes {given}/k.yaml --compose 200 --out {out}/captions.jsonl",
    "generate": _GENERATE,
    "import": "import {given}/pictures --classes {given}/k.yaml --out {out}",
    "pack": "pack {given}/g --per-shard 3 --out {out}",
    "embed": "embed --images {given}/g --labelled-captions {given}/c.jsonl --clip miniature "
    "--batch-size 4 --features {out}",
    "train": "train --classes {given}/k.yaml --labelled-captions {given}/c.jsonl "
    "--images {given}/g --features {given}/g/features --train.epochs 1 --clip miniature "
    "--out {out}",
    "eval": "eval {given}/m --data miniature:12 --features {out}/features --out {out}/eval.json",
    "predict": "predict {given}/m {given}/pictures --heatmaps {out}",
    "run": _RUN,
    "compare": "compare {out} --data miniature:12 --seeds 0 1",
}
SEED = {"generate": _GENERATE + " --seed 9", "run": _RUN + " --seed 9"}  # another job
SHARDS = (_GENERATE + " --shard 0/2", _GENERATE + " --shard 1/2")
_START = {"compare": "r"}  # what of the given is in the folder before


@dataclass
class Stage:
    """A command, and what it leaves when nothing happens to it.

    Attributes:
        expected: path -> bytes of every file, hidden ones too; folders end in ``/``.
        varying: files that two undisturbed runs leave differently: logs.
        takes, operations: seconds, and operations on files.
    """

    name: str
    words: str
    given: Path
    scratch: Path
    expected: dict[str, bytes] = field(default_factory=dict)
    varying: set[str] = field(default_factory=set)
    takes: float = 0
    operations: int = 0

    def measure(self) -> Stage:
        """Run it twice undisturbed."""
        trees = []
        for number in range(2):
            out = self.folder(f"whole-{number}")
            done = attempt(self.command(out), out, self.scratch, limit=300)
            if done.status:
                raise SystemExit(f"{self.name}: the undisturbed run failed: {done.said}")
            self.takes, self.operations = done.seconds, done.operations
            trees.append(tree(out, out))
            shutil.rmtree(out)
        first, second = trees
        self.varying = {name for name in {*first, *second} if first.get(name) != second.get(name)}
        self.expected = second
        return self

    def command(self, out: Path, words: str | None = None) -> list[str]:
        """The words of the command with its folders filled in."""
        return [word.format(given=self.given, out=out) for word in (words or self.words).split()]

    def folder(self, name: str) -> Path:
        """An empty folder, or one with what the command starts from. Its name has one length."""
        out = self.scratch / f"{name:_>24}"
        shutil.rmtree(out, ignore_errors=True)
        if self.name in _START:
            shutil.copytree(self.given / _START[self.name], out)
        else:
            out.mkdir()
        return out

    def start(self, out: Path, words: str | None = None) -> Attempt:
        """The command under way, undisturbed."""
        return Attempt(self.command(out, words), out, self.scratch)

    def differences(self, out: Path) -> list[str]:
        """What is not as an undisturbed run leaves it: ``- lost``, ``+ left over``, ``~ other``."""
        found = tree(out, out)
        names = {*found, *self.expected} - self.varying
        return sorted(
            ("+ " if name not in self.expected else "- " if name not in found else "~ ") + name
            for name in names
            if found.get(name) != self.expected.get(name)
        )


def tree(folder: Path, out: Path) -> dict[str, bytes]:
    """Every file under ``folder`` with its bytes, the name of ``out`` in them made neutral."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name + "/" * path.is_dir()] = (
            b"" if path.is_dir() else path.read_bytes().replace(bytes(out), b"OUT")
        )
    return found


def prepare(given: Path, scratch: Path) -> None:
    """What the stages start from, made once."""
    from PIL import Image

    done = given / "done"
    if done.exists():
        return
    shutil.rmtree(given, ignore_errors=True)
    (given / "pictures").mkdir(parents=True)
    (given / "k.yaml").write_text(CLASSES)
    chance = random.Random(0)
    for number, name in enumerate(("dog", "cat", "bus", "dog", "horse", "boat")):
        colours = [tuple(chance.randrange(256) for _ in range(3)) for _ in range(64)]
        image = Image.new("RGB", (8, 8))
        image.putdata(colours)
        image.resize((64, 48)).save(given / "pictures" / f"{number}.png")
        (given / "pictures" / f"{number}.txt").write_text(f"a {name}")
    generate = STAGES["generate"].replace("{out}", "{given}/g")
    for words in (
        "label --classes {given}/k.yaml --compose 12 --out {given}/c.jsonl",
        generate,
        "embed --images {given}/g --labelled-captions {given}/c.jsonl --clip miniature",
        STAGES["train"].replace("{out}", "{given}/m"),
        _RUN.replace("{out}", "{given}/r"),
    ):
        words_of = [word.format(given=given) for word in words.split()]
        made = attempt(words_of, given, scratch, limit=300)
        if made.status:
            raise SystemExit(f"{words}: failed: {made.said}")
    done.touch()

"""Seconds and memory of ``t2ipal predict``: a tagger's folder against its ONNX file.

    python -m tools.predict_speed [--photos examples/photos] [--tagger photo] [--rounds 5]
    python -m tools.predict_speed --memory 10000

Each start is a process of its own, as a user starts it, imports included. One photo is tagged in
alternating rounds; then all photos once on each side, of which it is said whether the tags are
equal. ``--memory N`` tags N small made images, and a tenth of them, and prints how much the peak
grows; the command for all N is killed half-way and repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.rounds import spread

# This process stays small: the peak that Linux counts for a child begins with its parent's.
_MAKE = """
import sys
from pathlib import Path
from t2ipal.runs.benchmark.proof import made_pictures
made_pictures(Path(sys.argv[1]), int(sys.argv[2]), (48, 48))
"""


def run(*arguments: str | Path) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and peak bytes of a command of t2ipal."""
    command = [sys.executable, "-m", "t2ipal", *map(str, arguments)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def compare(tagger: str, photos: Path, rounds: int) -> None:
    """Print time and memory of one photo and of all, on both sides."""
    files = sorted(path for path in photos.iterdir() if path.suffix == ".jpg")
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "tagger.onnx"
        run("export", tagger, "--out", exported)
        sides: dict[str, str | Path] = {"folder": tagger, "ONNX": exported}
        used: dict[str, list[tuple[float, float, int]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, model in sides.items():
                used[side].append(run("predict", model, files[0]))
        print(f"one photo, {rounds} rounds: median (range)")
        for side, found in used.items():
            seconds, busy, peaks = zip(*found, strict=True)
            print(
                f"  {side:6} {spread(seconds, '.2f')} s, CPU {spread(busy, '.2f')} s, "
                f"{max(peaks) / 1e6:.0f} MB",
                flush=True,
            )
        tags: dict[str, list[list[str]]] = {}
        for side, model in sides.items():
            out = Path(folder) / f"{side}.jsonl"
            wall, _, size = run("predict", model, *files, "--out", out)
            rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
            tags[side] = [row["tags"] for row in rows if "tags" in row]
            print(
                f"  {side:6} {len(files)} photos: {wall:.1f} s, {len(files) / wall:.1f} a second, "
                f"{size / 1e6:.0f} MB",
                flush=True,
            )
        equal = sum(a == b for a, b in zip(tags["folder"], tags["ONNX"], strict=True))
        print(f"  tags are equal on {equal} of {len(tags['folder'])} photos")


def memory(tagger: str, count: int) -> None:
    """Print how much more memory many files need than few, and that a killed command resumes."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        subprocess.run([sys.executable, "-c", _MAKE, str(pictures), str(count)], check=True)
        files = sorted(pictures.iterdir())
        few = Path(folder) / "few"
        few.mkdir()
        for path in files[: count // 10]:
            os.link(path, few / path.name)
        _, _, little = run("predict", tagger, few, "--out", Path(folder) / "few.csv")
        wall, _, much = run("predict", tagger, pictures, "--out", Path(folder) / "all.csv")
        print(f"{count // 10} files: peak {little / 1e6:.0f} MB", flush=True)
        print(f"{count} files: peak {much / 1e6:.0f} MB, {count / wall:.0f} a second", flush=True)
        print(f"growth: {(much - little) / 1e6:.0f} MB", flush=True)
        again = Path(folder) / "again.csv"
        words = ["predict", tagger, str(pictures), "--out", str(again)]
        command = [sys.executable, "-m", "t2ipal", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(wall / 2)
            process.kill()
        rest, _, _ = run("predict", tagger, pictures, "--out", again)
        same = again.read_bytes() == (Path(folder) / "all.csv").read_bytes()
        print(
            f"killed after {wall / 2:.0f} s, repeated in {rest:.0f} s of {wall:.0f} s: "
            f"the file is {'the same' if same else 'ANOTHER'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tagger", default="photo")
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.tagger, arguments.memory)
    else:
        compare(arguments.tagger, arguments.photos, arguments.rounds)


if __name__ == "__main__":
    main()

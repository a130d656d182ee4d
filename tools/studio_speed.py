"""How fast the studio serves, and that it loses nothing: clients at once ask its API for tags.

    python tools/studio_speed.py
    python tools/studio_speed.py --clients 16 --requests 4 --photos photos/

Starts ``t2ipal studio`` in a process of its own, asks once so that the tagger is loaded, then lets
1 client and ``--clients`` clients ask ``--requests`` times each. Prints, per number of clients, the
answers that are what ``Tagger.predict`` says, the rate, and the median and the slowest answer.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file

from t2ipal.files.folders import LeftOut, find_images
from t2ipal.tagger.tagger import Tagger

_PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def _ask(
    url: str, photos: Sequence[Path], first: int, requests: int
) -> list[tuple[str, Any, float]]:
    """What one client was told: file, answer, seconds."""
    client = Client(url, verbose=False, httpx_kwargs={"timeout": 600})
    told = []
    for number in range(requests):
        photo = photos[(first + number) % len(photos)]
        start = time.perf_counter()
        answer = client.predict(handle_file(photo), api_name="/tag")
        told.append((photo.name, answer["scores"], time.perf_counter() - start))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--photos", type=Path, default=_PHOTOS)
    given = parser.parse_args()
    photos = list(find_images([str(given.photos)], LeftOut()))
    found = Tagger.from_pretrained("photo").predict(photos)
    wanted = {path.name: tags.to_json()["scores"] for path, tags in zip(photos, found, strict=True)}
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "t2ipal", "studio"], cwd=home, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[1]
            _ask(url, photos, 0, 1)
            print(f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}")
            print("clients  answers   right  per second  median s  slowest s")
            for clients in (1, given.clients):
                start = time.perf_counter()
                with ThreadPoolExecutor(clients) as pool:
                    jobs = [
                        pool.submit(_ask, url, photos, n, given.requests) for n in range(clients)
                    ]
                    told = [one for job in jobs for one in job.result()]
                seconds = time.perf_counter() - start
                right = sum(scores == wanted[name] for name, scores, _ in told)
                times = [took for *_, took in told]
                print(
                    f"{clients:7d}  {len(told):3d}/{clients * given.requests:<3d}  {right:6d}"
                    f"  {len(told) / seconds:10.1f}  {statistics.median(times):8.2f}"
                    f"  {max(times):9.2f}"
                )
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


if __name__ == "__main__":
    main()

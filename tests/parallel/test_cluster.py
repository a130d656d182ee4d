"""A real Ray cluster of two nodes: the bytes of one process, whoever is killed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ray_workers import Counting, Noise, load_clip
from small_disk import small_disk
from t2ipal.captions.labelled import LabelledCaption
from t2ipal.cli.stages import Embed
from t2ipal.clip import features
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.features import FeatureCache
from t2ipal.errors import UserError
from t2ipal.files import sha256_file
from t2ipal.generation.generate import generate
from t2ipal.generation.store import ImageStore, read_manifest
from t2ipal.parallel.cluster import Cluster, choose_engine
from tiny_clip import build_tiny_clip

CAPTIONS = [LabelledCaption(f"c{n}", f"dog {n}", ("dog",), (), {}) for n in range(60)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``, hidden ones too, with its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_options_are_checked_before_anything_starts() -> None:
    assert choose_engine("local", None) is None
    assert choose_engine("ray", 3) == Cluster(3)
    for words, message in (
        ("--engine rya", "--engine must be one of local, ray, not 'rya' .*'ray'"),
        ("--engine ray --workers 0", "--workers must be a whole number of at least 1, not 0"),
        ("--workers 2", "--workers is for --engine ray"),
        ("--engine ray --shard 0/2", "exclude each other"),
    ):
        with pytest.raises(UserError, match=message):
            Embed.parse(["--images", "none", "--clip", "miniature", *words.split()]).run()


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs Ray .*pip install 'ray\[data\]'"):
        next(Cluster().spread([1], Counting, gpus=False))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes with one processor each, connected; yields what takes the second one away."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:  # the processes of the cluster inherit it
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        yield from two_nodes(ray, Nodes())


def two_nodes(ray: Any, cluster: Any) -> Iterator[Any]:
    # A node is given up after two seconds without a sign of life.
    soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    cluster.add_node(num_cpus=1, include_dashboard=False, _system_config=soon)
    second = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield lambda: cluster.remove_node(second, allow_graceful=False)
    ray.shutdown()
    cluster.shutdown()


def test_a_unit_that_kills_or_fails_costs_no_other(nodes: Any) -> None:
    outcomes = Cluster(workers=2, attempts=1).spread(list(range(9)), Counting, gpus=False)
    found = {outcome.unit: outcome for outcome in outcomes}
    results = {unit: outcome.result for unit, outcome in found.items() if not outcome.error}
    assert results == {0: 0, 1: -1, 5: 25, 6: 18, 7: 16, 8: 16}
    assert "died of the same work 1 times" in found[2].error
    assert found[3].error == "three is refused."
    assert found[4].error.startswith("ZeroDivisionError on ")


def test_features_are_those_of_one_process_though_a_worker_is_killed(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t2ipal.clip.ray_embed import embed_on

    clip = build_tiny_clip(tmp_path / "clip")
    files = []
    for number in range(22):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    hashes = [sha256_file(file) for file in files]
    texts = [f"a dog and {n} cats" for n in range(9)]
    monkeypatch.setattr(features, "_SHARD_ITEMS", 4)
    backbone = Backbone.load(ClipSettings(clip=str(clip), device="cpu"))
    one = FeatureCache(tmp_path / "one", backbone)
    one.embed_images(files, hashes, batch_size=2)
    one.captions(texts)

    shared = FeatureCache(tmp_path / "ray", backbone)
    load = partial(load_clip, clip, 4, tmp_path / "died")
    counts = embed_on(Cluster(1), shared, load, files, hashes, texts, 2)
    assert (tmp_path / "died").exists() and counts == (22, 9)
    assert len(tree(tmp_path / "one")) == 9 and tree(tmp_path / "ray") == tree(tmp_path / "one")
    assert embed_on(Cluster(1), shared, load, files, hashes, texts, 2) == (0, 0)


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(nodes: Any, tmp_path: Path) -> None:
    generate(CAPTIONS, Noise(), tmp_path / "one", batch_size=3, progress=False)
    with small_disk(tmp_path / "disk", "200k") as resize:
        out = tmp_path / "disk" / "drawn"
        with pytest.raises(UserError, match=r"(\d+) of 60 images are missing: .*No space") as told:
            generate(CAPTIONS, Noise(), out, batch_size=3, cluster=Cluster(1), progress=False)
        missing = int(str(told.value).split()[0])
        assert 0 < missing < 60 and len(ImageStore(out).rows()) == 60 - missing
        resize("4m")
        assert generate(CAPTIONS, Noise(), out, batch_size=3, progress=False).images == 60
        assert tree(out) == tree(tmp_path / "one")


def test_images_are_those_of_one_process_though_a_worker_is_killed_and_a_node_lost(
    nodes: Any, tmp_path: Path
) -> None:
    """The last test of this file: it takes the second node away."""
    generate(CAPTIONS, Noise(), tmp_path / "one", batch_size=3, progress=False)
    noise = Noise(dies=tmp_path / "died", pause=0.2)
    lost = threading.Event()

    def lose() -> None:  # once there is work of three processes, two of them living
        while len(list((tmp_path / "ray").glob("images.partial.ray-*"))) < 3:
            time.sleep(0.05)
        nodes()
        lost.set()

    threading.Thread(target=lose, daemon=True).start()
    summary = generate(
        CAPTIONS, noise, tmp_path / "ray", batch_size=3, cluster=Cluster(2), progress=False
    )
    assert (tmp_path / "died").exists() and lost.wait(1)
    assert (summary.generated, summary.images, summary.missing) == (60, 60, 0)
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")
    assert len(read_manifest(tmp_path / "ray")) == 60
    again = generate(CAPTIONS, noise, tmp_path / "ray", cluster=Cluster(2), progress=False)
    assert again.nothing_to_do

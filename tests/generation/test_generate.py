"""generate() with a generator that takes no time: bookkeeping, resume, retries, refusals."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from t2ipal.errors import UserError
from t2ipal.files import sha256_file
from t2ipal.generation import generate as module
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import generate
from t2ipal.generation.job import Identity
from t2ipal.generation.store import read_manifest

Tree = Callable[[Path], dict[str, bytes]]


def run(captions: Sequence[Any], generator: Any, out: Path, **options: Any) -> Any:
    return generate(captions, generator, out, progress=False, **options)


def images(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.endswith(".png")}


def test_manifest_follows_the_captions(tmp_path: Path, captions: Any, noise: Any) -> None:
    summary = run(captions, noise(), tmp_path, images_per_caption=2, batch_size=3, seed=4)
    rows = read_manifest(tmp_path)
    assert [(row.caption_id, row.copy) for row in rows] == [
        (caption.id, copy) for caption in captions for copy in range(2)
    ]
    for row in rows:
        assert row.sha256 == sha256_file(tmp_path / row.file)
        assert row.seed == Identity("", None, {}, 4).image_seed(row.caption_id, row.copy, 0)
        used = {"device": "cpu", "dtype": "float32", "exact": True}
        assert row.settings == {**Settings().asked(), **used}
    assert len({row.seed for row in rows}) == len({row.sha256 for row in rows}) == 20
    assert (summary.images, summary.generated, summary.reused, summary.failed) == (20, 20, 0, 0)
    assert not summary.nothing_to_do
    assert summary.lines()[0].startswith("generated 20 images")


def test_image_seeds_do_not_change_between_versions() -> None:
    assert Identity("", None, {}, 0).image_seed("c0", 0, 0) == 403703625


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batch_size_changes_nothing(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree, batch_size: int
) -> None:
    spoil = lambda seed: "black" if seed % 3 == 0 else None  # noqa: E731
    run(captions, noise(spoil), tmp_path / "a", batch_size=7, max_retries=9)
    run(captions, noise(spoil), tmp_path / "b", batch_size=batch_size, max_retries=9)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_order_changes_no_image(tmp_path: Path, captions: Any, noise: Any, tree: Tree) -> None:
    shuffled = random.Random(0).sample(captions, len(captions))
    run(captions, noise(), tmp_path / "a")
    run(shuffled, noise(), tmp_path / "b")
    a, b = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert images(a) == images(b)
    assert sorted(a["images.jsonl"].splitlines()) == sorted(b["images.jsonl"].splitlines())
    run(captions, noise(), tmp_path / "b")  # the manifest takes the new order, nothing is generated
    assert tree(tmp_path / "b") == a


def test_a_finished_run_generates_nothing(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(captions, noise(), tmp_path)
    before = tree(tmp_path)
    stamp = (tmp_path / "images.jsonl").stat().st_mtime_ns
    again = noise()
    summary = run(captions, again, tmp_path)
    assert again.calls == [] and tree(tmp_path) == before
    assert (tmp_path / "images.jsonl").stat().st_mtime_ns == stamp
    assert summary.nothing_to_do and (summary.generated, summary.reused) == (0, 10)
    assert summary.lines()[0].startswith("nothing to generate: all 10 images")


def test_a_finished_run_does_not_load_the_model(
    tmp_path: Path, captions: Any, noise: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def load(spec: str, **options: Any) -> Any:
        loads.append(spec)
        generator = noise(revision=module.locate(spec).revision)
        generator.spec = spec
        return generator

    monkeypatch.setattr(TextToImage, "load", load)
    run(captions, str(tiny), tmp_path)
    assert loads == [str(tiny)]
    assert run(captions, str(tiny), tmp_path).nothing_to_do
    assert loads == [str(tiny)]
    # the same folder under another name is the same generator
    (tmp_path / "link").symlink_to(tiny)
    assert run(captions, str(tmp_path / "link"), tmp_path).nothing_to_do


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_an_interrupted_run_ends_with_the_same_bytes(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree, stop_after: int
) -> None:
    spoil = lambda seed: ("black", None, "flagged", None)[seed % 4]  # noqa: E731
    run(captions, noise(spoil), tmp_path / "whole", batch_size=2, max_retries=5)
    generator = noise(spoil)
    original = generator.generate

    def generate_or_stop(prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        if len(generator.calls) == stop_after:
            raise KeyboardInterrupt
        return original(prompts, seeds)

    generator.generate = generate_or_stop
    with pytest.raises(KeyboardInterrupt):
        run(captions, generator, tmp_path / "cut", batch_size=2, max_retries=5)
    assert (tmp_path / "cut/images.partial.jsonl").exists()
    second = noise(spoil)
    run(captions, second, tmp_path / "cut", batch_size=3, max_retries=5)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert second.generated < sum(
        1 + len(row.rejected) for row in read_manifest(tmp_path / "whole")
    )


def test_captions_and_copies_may_be_added(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    run(captions[3:7], noise(), tmp_path / "grown")
    more = noise()
    summary = run(captions, more, tmp_path / "grown", images_per_caption=2)
    assert (summary.generated, summary.reused, more.generated) == (16, 4, 16)
    run(captions, noise(), tmp_path / "fresh", images_per_caption=2)
    assert tree(tmp_path / "grown") == tree(tmp_path / "fresh")


def test_changed_labels_reach_the_manifest_without_generating(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    run(captions, noise(), tmp_path / "a")
    relabelled = [replace(caption, labels=("dog", "cat"), unknown=("cow",)) for caption in captions]
    assert run(relabelled, noise(), tmp_path / "a").nothing_to_do
    run(relabelled, noise(), tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert read_manifest(tmp_path / "a")[0].labels == ("dog", "cat")


def test_a_lost_image_is_generated_again(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    run(captions, noise(), tmp_path)
    before = tree(tmp_path)
    rows = read_manifest(tmp_path)
    (tmp_path / rows[3].file).unlink()
    (tmp_path / rows[5].file).write_bytes(b"cut short")
    assert run(captions, noise(), tmp_path).generated == 2
    assert tree(tmp_path) == before


def test_captions_without_labels_are_left_out_and_counted(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    captions[2:5] = [replace(caption, labels=()) for caption in captions[2:5]]
    summary = run(captions, noise(), tmp_path)
    assert (summary.images, summary.unlabelled) == (7, 3)
    assert "3 captions without a label were left out" in summary.lines()
    with pytest.raises(UserError, match="none of the 3 captions has a label"):
        run(captions[2:5], noise(), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_bad_images_are_retried_with_the_next_seed(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    seed_of = Identity("", None, {}, 0).image_seed
    faults = {
        seed_of("c1", 0, 0): "black",
        seed_of("c4", 0, 0): "flat",
        seed_of("c4", 0, 1): "flagged",
    }
    generator = noise(faults.get)
    summary = run(captions, generator, tmp_path, batch_size=4)
    rows = {row.caption_id: row for row in read_manifest(tmp_path)}
    assert summary.rejected == {"black": 1, "flagged": 1, "flat": 1}
    assert (summary.images, summary.generated, summary.failed, generator.generated) == (
        10,
        10,
        0,
        13,
    )
    assert any(line.endswith("next seed: 1 black, 1 flagged, 1 flat") for line in summary.lines())
    assert rows["c1"].attempt == 1 and rows["c1"].seed == seed_of("c1", 0, 1)
    assert [(entry.seed, entry.reason) for entry in rows["c4"].rejected] == [
        (seed_of("c4", 0, 0), "flat"),
        (seed_of("c4", 0, 1), "flagged"),
    ]
    assert rows["c4"].seed == seed_of("c4", 0, 2)
    assert rows["c0"].attempt == 0 and rows["c0"].rejected == ()
    # the counts belong to the job, so a second call reports them again
    assert run(captions, noise(faults.get), tmp_path).rejected == summary.rejected


def test_an_image_that_always_fails_is_left_out_and_not_tried_for_ever(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    seed_of = Identity("", None, {}, 0).image_seed
    hopeless = {seed_of("c1", 0, attempt): "flagged" for attempt in range(4)}
    summary = run(captions, noise(hopeless.get), tmp_path / "a", max_retries=2)
    assert (summary.images, summary.failed, summary.rejected) == (9, 1, {"flagged": 3})
    assert "c1" not in {row.caption_id for row in read_manifest(tmp_path / "a")}
    assert (tmp_path / "a/failed.jsonl").exists()
    before = tree(tmp_path / "a")

    again = noise(hopeless.get)
    assert run(captions, again, tmp_path / "a", max_retries=2).nothing_to_do
    assert again.calls == [] and tree(tmp_path / "a") == before

    # more patience: it goes on at the next attempt, and ends like a run that had it from the start
    patient = noise(hopeless.get)
    assert run(captions, patient, tmp_path / "a", max_retries=5).images == 10
    assert patient.generated == 2
    run(captions, noise(hopeless.get), tmp_path / "b", max_retries=5)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_generator_without_usable_images_stops_early(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    many = [replace(caption, id=f"{caption.id}-{n}") for caption in captions for n in range(20)]
    generator = noise(lambda seed: "black")
    with pytest.raises(UserError, match=r"not one generated image was usable \(64 black\)"):
        run(many, generator, tmp_path / "a", max_retries=1)
    assert generator.generated < 100
    with pytest.raises(UserError, match=r"not one generated image was usable \(10 black\)"):
        run(captions, noise(lambda seed: "black"), tmp_path / "b", max_retries=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(seed=1), "generated with seed"),
        (dict(generator=dict(settings=Settings(steps=9))), "generated with steps None, not 9"),
        (dict(generator=dict(settings=Settings(guidance=2.0))), "guidance None, not 2.0"),
        (dict(generator=dict(revision="abd")), "revision 'abc', not 'abd'"),
        (dict(spec="other"), "generator 'noise', not 'other'"),
        (dict(caption="a wolf"), "caption 'a dog on the grass', not 'a wolf'"),
    ],
)
def test_images_of_another_job_are_not_mixed_in(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree, change: dict[str, Any], sentence: str
) -> None:
    run(captions, noise(), tmp_path / "a")
    before = tree(tmp_path / "a")
    generator = noise(**change.get("generator", {}))
    generator.spec = change.get("spec", "noise")
    if "caption" in change:
        captions[0] = replace(captions[0], caption=change["caption"])
    seed = change.get("seed", 0)
    with pytest.raises(UserError, match=sentence) as caught:
        run(captions, generator, tmp_path / "a", seed=seed)
    assert "--overwrite" in str(caught.value)
    assert tree(tmp_path / "a") == before and generator.calls == []

    run(captions, generator, tmp_path / "a", seed=seed, overwrite=True)
    run(captions, generator, tmp_path / "b", seed=seed)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_images_that_are_not_asked_for_are_kept_until_they_are(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    run(captions, noise(), tmp_path / "all", images_per_caption=2)
    before = tree(tmp_path / "all")
    generator = noise()
    summary = run(captions[2:], generator, tmp_path / "all")
    assert summary.nothing_to_do and summary.unused == summary.reused + 4 and not generator.calls
    after = tree(tmp_path / "all")
    assert images(after) == images(before)
    assert {row.caption_id for row in read_manifest(tmp_path / "all")} == {
        c.id for c in captions[2:] if c.labels
    }
    run(captions[2:], noise(), tmp_path / "all")
    assert tree(tmp_path / "all") == after
    run(captions, generator, tmp_path / "all", images_per_caption=2)
    assert not generator.calls and tree(tmp_path / "all") == before

    run(captions[2:], noise(), tmp_path / "all")
    run(captions[2:], noise(), tmp_path / "all", overwrite=True)
    run(captions[2:], noise(), tmp_path / "part")
    assert tree(tmp_path / "all") == tree(tmp_path / "part")


def test_overwrite_keeps_what_belongs(tmp_path: Path, captions: Any, noise: Any) -> None:
    run(captions, noise(), tmp_path)
    captions[0] = replace(captions[0], caption="a wolf")
    generator = noise()
    summary = run(captions, generator, tmp_path, overwrite=True)
    assert (summary.generated, summary.reused, generator.generated) == (1, 9, 1)


def test_the_device_does_not_make_another_job(tmp_path: Path, captions: Any, noise: Any) -> None:
    run(captions, noise(settings=Settings(device="cuda")), tmp_path)
    assert run(captions, noise(settings=Settings(device="cpu")), tmp_path).nothing_to_do


def test_exact_images_serve_all_and_others_only_where_that_is_not_asked(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    """On a CPU all are exact, so that asking for it makes no other job there."""
    asked = Settings(exact=True)
    run(captions, noise(), tmp_path / "cpu")
    assert run(captions, noise(settings=asked), tmp_path / "cpu").nothing_to_do
    run(captions, noise(settings=asked), tmp_path / "asked")
    assert run(captions, noise(), tmp_path / "asked").nothing_to_do
    run(captions, noise(exact=False), tmp_path / "gpu")
    assert run(captions, noise(exact=False), tmp_path / "gpu").nothing_to_do
    with pytest.raises(UserError, match="generated with exact False, not True"):
        run(captions, noise(settings=asked), tmp_path / "gpu")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(images_per_caption=0), "images_per_caption must be at least 1"),
        (dict(batch_size=0), "batch_size must be at least 1"),
        (dict(max_retries=-1), "max_retries must be at least 0"),
    ],
)
def test_bad_numbers(
    tmp_path: Path, captions: Any, noise: Any, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(captions, noise(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_bad_input_writes_nothing(tmp_path: Path, captions: Any, noise: Any) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="'c0' occurs twice"):
        run([*captions, captions[0]], noise(), out)
    with pytest.raises(UserError, match="no such generator"):
        run(captions, "./nowhere", out)
    with pytest.raises(ValueError, match="has its own settings"):
        run(captions, noise(), out, settings=Settings())
    assert not out.exists()

"""The miniature's training code computes what the packaged formats and the real loaders compute."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from tokenizers import Tokenizer
from tools.miniature import autoencoder, clip, generator, loop
from tools.miniature.data import Rendered, caption_plans, coverage, render
from tools.miniature.tokens import encode, train_tokenizer
from torch import nn
from torch.nn import functional as F

from t2ipal.clip.backbone import Backbone
from t2ipal.miniature.world import INDEX, THINGS

TEXTS = [f"a photo of {article} {t.words[0]}" for t in THINGS for article in ("a", "the", "two")]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocabulary_size=400)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return render(tmp_path_factory.mktemp("scenes"), 24, seed=3)


def test_the_end_token_has_the_highest_id_and_survives_cutting(tokenizer: Tokenizer) -> None:
    end = tokenizer.get_vocab_size() - 1
    rows = encode(tokenizer, ["a photo of a DOG", "a photo of the dog and two cats"], 6)
    assert all(len(row) == 6 and max(row) == end for row in rows)
    assert rows[1][-1] == end
    assert rows[0][-1] == 0 or rows[0][-1] == end
    lower, upper = encode(tokenizer, ["a dog", "A Dog"], 8)
    assert lower == upper


@pytest.fixture(scope="module")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIP, Backbone]:
    torch.manual_seed(0)
    config = clip.model_config(tokenizer.get_vocab_size(), 128)
    model = CLIP(**config)
    folder = tmp_path_factory.mktemp("clip")
    clip.save(model, loop.Average(model), config, tokenizer, folder)
    return model.eval(), Backbone.load(str(folder))


@torch.no_grad()
def test_the_trained_towers_are_the_loaded_ones(saved: tuple[CLIP, Backbone]) -> None:
    model, backbone = saved
    x = torch.randn(2, 3, 128, 128)
    g, local = clip.towers(model, x)
    features = backbone.encode_image(x)
    torch.testing.assert_close(g, F.normalize(features.global_, dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(local, F.normalize(features.local, dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(g, F.normalize(model.encode_image(x), dim=-1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_trained_text_features_are_the_loaded_ones(
    saved: tuple[CLIP, Backbone], tokenizer: Tokenizer
) -> None:
    model, backbone = saved
    ids = torch.tensor(encode(tokenizer, TEXTS[:5], clip.CONTEXT))
    cut = clip.text_features(model, ids[:, : int((ids != 0).sum(1).max())])
    loaded = F.normalize(backbone.encode_text(TEXTS[:5]).global_, dim=-1)
    torch.testing.assert_close(cut, loaded, rtol=0, atol=1e-5)


def test_positions_at_the_native_size_are_the_table_itself() -> None:
    table = torch.randn(17, 8)
    assert clip.positions(table, 4) is table
    other = clip.positions(table, 3)
    assert other.shape == (10, 8)
    torch.testing.assert_close(other[0], table[0])


def test_several_positives_by_hand() -> None:
    logits = torch.randn(4, 5)
    positives = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    losses = []
    for row, marks in zip(logits.tolist(), positives.tolist(), strict=True):
        if any(marks):
            total = sum(np.exp(v) for v in row)
            chosen = [-np.log(np.exp(v) / total) for v, m in zip(row, marks, strict=True) if m]
            losses.append(sum(chosen) / len(chosen))
    assert clip.several(logits, positives.float()).item() == pytest.approx(np.mean(losses), 1e-5)


def test_coverage_counts_the_cells_of_each_class() -> None:
    cells = torch.full((1, 16, 16), 255, dtype=torch.uint8)
    cells[0, :4, :4] = 3
    cells[0, :2, 4:8] = 7
    share = coverage(cells, 16)[0]  # [16, classes and background], cells of 4 x 4
    assert share[0, 3] == 1
    assert share[1, 7] == share[1, -1] == 0.5
    assert share[:, :-1].sum() == 1.5
    torch.testing.assert_close(share.sum(1), torch.ones(16))


def test_named_are_the_classes_drawn_and_visible_ones_are_among_them(data: Rendered) -> None:
    named = data.named()
    assert named.sum(1).tolist() == [len(set(names)) for names in data.names]
    assert not (data.targets() & ~named).any()


def test_the_maps_teach_the_text_and_the_first_half_of_the_denoiser() -> None:
    model = generator.Denoiser(400)
    tokens = torch.tensor([[398, 5, 6, 399], [398, 7, 399, 0]])
    velocity, classes, named = model(
        torch.randn(2, autoencoder.LATENT_CHANNELS, 8, 8), torch.tensor([100.0, 900.0]), tokens
    )
    assert velocity.shape == (2, autoencoder.LATENT_CHANNELS, 8, 8)
    assert classes.shape == (2, 64, len(THINGS) + 1)
    assert named.shape == (2, len(THINGS))
    named.pow(2).sum().backward(retain_graph=True)
    assert any(p.grad is not None for p in model.text.parameters())
    assert all(p.grad is None for p in model.transformer.parameters())
    classes.pow(2).sum().backward()
    taught = [
        any(p.grad is not None and bool(p.grad.any()) for p in block.parameters())
        for block in model.transformer.transformer_blocks
    ]
    half = generator.LAYERS // 2
    assert taught == [n <= half for n in range(generator.LAYERS)]


def test_captions_alone_are_whole_captions(data: Rendered) -> None:
    words = random.Random(0)
    told = [clip.tell(data, i, words, part=0) for i in range(24)]
    assert told == [(data.captions[i], set(data.names[i])) for i in range(24)]
    parts = [clip.tell(data, i, words, part=1) for i in range(24)]
    assert all(0 < len(names) <= 2 for _, names in parts)


def test_augmentation_moves_picture_and_map_together() -> None:
    x = torch.zeros(64, 3, 64, 64)
    cells = torch.full((64, 16, 16), 255, dtype=torch.uint8)
    x[:, :, 24:32, 8:16] = 1
    cells[:, 6:8, 2:4] = 5
    moved, map_ = clip.augment(x, cells, torch.Generator().manual_seed(2))
    bright = moved.mean(1).reshape(64, 16, 4, 16, 4).mean((2, 4))
    inside = bright[map_ == 5].mean()
    outside = bright[map_ == 255].mean()
    assert inside > outside + 0.3


@torch.no_grad()
def test_pictures_are_perceived_by_the_towers_own_stages(saved: tuple[CLIP, Backbone]) -> None:
    visual, backbone = saved[0].visual, saved[1]
    see = autoencoder.Perception(visual, 128)
    x, y = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    assert see(x, x) == 0
    assert see(x, y) > 0.1
    picture = Image.fromarray(((x[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    by_hand = visual.layer1(visual.stem(backbone.preprocess(picture)[None]))
    # preprocessing interpolates bicubically, perception bilinearly: the same scale, nearly the same
    error = (see.features(x[:1])[1] - by_hand).abs().mean() / by_hand.abs().mean()
    assert error < 0.5 < (see.features(y[:1])[1] - by_hand).abs().mean() / by_hand.abs().mean()


def test_scaled_latents_change_no_reconstruction(data: Rendered) -> None:
    torch.manual_seed(1)
    model = autoencoder.build().eval()
    images = torch.from_numpy(np.array(data.images))
    x = loop.pixels(images[:4]) * 2 - 1
    with torch.no_grad():
        before = model.decode(model.encode(x).latent).sample
        autoencoder.unit_latents(model, images)
        after = model.decode(model.encode(x).latent).sample
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4)
    rms = autoencoder.encode(model, images).pow(2).mean((0, 2, 3)).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-3, atol=1e-3)


def test_training_goes_on_from_its_checkpoint_and_then_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(ticks) / 1000)  # a step: 2 ms
    torch.manual_seed(0)
    target, steps = torch.randn(4), []

    def start() -> nn.Linear:
        return nn.Linear(4, 1, bias=False)

    def loss_for(module: nn.Module):  # type: ignore[no-untyped-def]
        def loss_of(step: int, progress: float):  # type: ignore[no-untyped-def]
            steps.append(step)
            loss = (module.weight[0] - target).pow(2).sum()
            return loss, {"loss": loss.item()}

        return loss_of

    settings = {"folder": tmp_path, "rate": 0.05, "weight_decay": 0.0, "warmup": 1}
    first = start()
    loop.train_for(0.005, first, loss_for(first), **settings)
    done = len(steps)
    second = start()
    loop.train_for(0.01, second, loss_for(second), **settings)
    assert done > 50
    assert steps[done] == done
    count = len(steps)
    third = start()
    average = loop.train_for(0.01, third, loss_for(third), **settings)
    assert len(steps) == count
    torch.testing.assert_close(third.weight, second.weight)
    torch.testing.assert_close(average.state["weight"][0], target, rtol=0.05, atol=0.05)


def test_given_captions_are_illustrated_by_the_classes_they_name() -> None:
    rows = [("two dogs on the beach", ["dog", "dog"]), ("nothing", []), ("a car", ["car"])]
    plans = caption_plans(rows, 40, seed=0)
    assert {plan.caption for plan in plans} == {"two dogs on the beach", "a car"}
    for plan in plans:
        assert set(plan.names) >= ({"dog"} if "dogs" in plan.caption else {"car"})
        assert set(plan.names) <= set(INDEX)
        assert len(plan.names) <= 4
        if "beach" in plan.caption:
            assert plan.place == "beach"

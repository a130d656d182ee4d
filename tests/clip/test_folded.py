"""Folded towers compute what they computed before, and nothing of the normalisation is left."""

from __future__ import annotations

import copy
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from t2ipal.clip import onednn, photo_clip
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.dense import image_encoder
from t2ipal.clip.folded import fold


@pytest.mark.parametrize("kind", ["resnet", "photo", "vit"])
@torch.no_grad()
def test_features_are_the_same(kind: str, tiny_resnet_folder: Path, tiny_vit_folder: Path) -> None:
    folder = {"resnet": tiny_resnet_folder, "vit": tiny_vit_folder, "photo": photo_clip.path()}
    visual = open_clip.create_model(f"local-dir:{folder[kind]}").visual.eval()
    folded = copy.deepcopy(visual)
    channels_last = fold(folded) is torch.channels_last
    assert channels_last == (kind != "vit")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    ours = [one for one in folded.modules() if isinstance(one, onednn.Linear | onednn.Convolution)]
    assert any(not isinstance(one.activation, nn.Identity) for one in ours)
    side = 224 if kind == "photo" else 64
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    before, after = image_encoder(visual)(pixels), image_encoder(folded)(pixels)
    for ours, theirs in [(after.global_, before.global_), (after.local, before.local)]:
        unit = nn.functional.normalize
        torch.testing.assert_close(unit(ours, dim=-1), unit(theirs, dim=-1), atol=1e-5, rtol=0)


def test_digests_are_of_the_weights_as_they_came(tiny_resnet_folder: Path) -> None:
    small = Backbone.load(ClipSettings(clip=str(tiny_resnet_folder), device="cpu"))
    large = Backbone.load(ClipSettings(clip=str(tiny_resnet_folder), device="cpu", image_size=96))
    assert small.digest == large.digest
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in small.model.modules())
    assert small.encode_image(torch.zeros(1, 3, 64, 64)).local.is_contiguous()


@pytest.mark.parametrize("name", ["photo", "resnet", "vit"])
def test_features_do_not_depend_on_the_batch(
    name: str, tiny_resnet_folder: Path, tiny_vit_folder: Path
) -> None:
    spec = {"resnet": str(tiny_resnet_folder), "vit": str(tiny_vit_folder)}.get(name, name)
    backbone = Backbone.load(ClipSettings(clip=spec, device="cpu"))
    made = torch.Generator().manual_seed(0)
    side = backbone.image_size
    pixels = torch.randn(4, 3, side, side, generator=made)
    turned, others = pixels.flip(0), torch.cat([pixels[:2], -pixels[:2]])
    found = backbone.encode_image(pixels)
    assert torch.equal(backbone.encode_image(turned).global_, found.global_.flip(0))
    assert torch.equal(backbone.encode_image(turned).local, found.local.flip(0))
    assert torch.equal(backbone.encode_image(others).global_[:2], found.global_[:2])

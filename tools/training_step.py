"""How long is a training step, and how much memory does training take? Against a plain one.

    python -m tools.training_step [--classes 20] [--batch 16 64 128] [--rounds 5] [--quick]
                                  [--device cpu]

Both sides tune two shared contexts of 16 vectors by the ranking loss of captions, through the text
tower of CLIP's RN50 at random weights:

* plain: as one would write it down. All 77 positions, every caption encoded in every step, one pass
  through the tower for each of the two contexts. The tower is frozen on this side too, and its
  layers are open_clip's own.
* t2ipal: ``t2ipal.method.training.fit`` as ``t2ipal train --method tai-dpt`` runs it. Captions
  are encoded once, before; that is left out, as it is spent once and not in every step.

The sides take turns in one process; what is printed is the median of the rounds and its range.
Then the cost of t2ipal's step is measured in a process of its own for more classes (from 300 on a
step scores a sample of them), larger batches and larger banks of cached captions, with the peak of
that process's memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from itertools import pairwise
from typing import Any

import open_clip
import torch
from tools.rounds import finished, limit, spread
from torch import Tensor
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_tokens
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.method.build import build_head
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import method_config
from t2ipal.method.train_config import TrainConfig
from t2ipal.method.training import fit
from t2ipal.vocabulary import Vocabulary

CONTEXT_TOKENS, CAPTION_TOKENS, POSITIONS = 16, 20, 77
STEPS = 3


def random_clip() -> Any:
    """CLIP's RN50 at random weights, as open_clip makes it."""
    torch.manual_seed(0)
    return open_clip.create_model("RN50")


def load_tower(device: str) -> Backbone:
    """The same as a backbone, which changes layers of the model it is given."""
    config = open_clip.get_model_config("RN50")
    return Backbone(
        random_clip(),
        open_clip.get_tokenizer("RN50"),
        ClipSettings(clip="RN50", device=device),
        config=config,
    )


def vocabulary_of(count: int) -> Vocabulary:
    """VOC's 20 classes, COCO's 80, or as many made-up names of two words."""
    if count in (20, 80):
        return Vocabulary.load({20: "voc2007", 80: "coco2014"}[count])
    return Vocabulary.of([f"thing number{i}" for i in range(count)])


def captions(count: int, classes: int, width: int) -> ItemSet:
    """Cached features of random captions that name one or two classes; each is named by some."""
    made = torch.Generator().manual_seed(1)
    targets = torch.zeros(count, classes, dtype=torch.int8)
    targets[torch.arange(count), torch.arange(count) % classes] = 1
    targets[torch.arange(count), torch.randint(classes, (count,), generator=made)] = 1
    local = torch.randn(count, CAPTION_TOKENS, width, generator=made).half()
    local /= local.float().norm(dim=-1, keepdim=True)
    return ItemSet(local[:, 0].clone(), local, None, targets, "caption")


class Enough(Exception):
    """Raised in the midst of a training that was to be measured alone."""


def t2ipal_step(clip: Backbone, vocabulary: Vocabulary, batch: int, bank: ItemSet) -> float:
    """Median seconds between the ends of ``STEPS`` + 1 steps of a training."""
    classes = len(vocabulary)
    method = method_config("tai-dpt")
    assert method.train is not None
    image = torch.eye(clip.width)[:classes].repeat(-(-classes // clip.width), 1)[:classes]
    held_out = ItemSet(image, image[:, None], None, torch.eye(classes, dtype=torch.int8), "image")

    head = build_head(
        method.head,
        vocabulary.names,
        tokens=class_tokens(clip, vocabulary),
        text_encoder=clip.encode_prompts,
    )
    ends: list[float] = []

    def stepped(*_: object) -> None:
        ends.append(finished(clip.device.type))
        if len(ends) > STEPS:
            raise Enough

    config = TrainConfig(
        train_on="captions",
        optimiser="sgd",
        epochs=STEPS + 1,
        batch_size=batch,
        evaluate_every=STEPS + 1,
    )
    hook = register_optimizer_step_post_hook(stepped)
    try:
        fit(head, [bank], held_out, config)
    except Enough:
        pass
    finally:
        hook.remove()
    return statistics.median(after - before for before, after in pairwise(ends))


class PlainStep:
    """The same step without any saving."""

    def __init__(self, clip: Backbone, vocabulary: Vocabulary, batch: int) -> None:
        device = clip.device
        self.model = random_clip().eval().requires_grad_(False).to(device)
        made = torch.Generator().manual_seed(1)
        self.contexts = [
            torch.randn(CONTEXT_TOKENS, clip.text_width, generator=made).mul_(0.02).to(device)
            for _ in range(2)
        ]
        for context in self.contexts:
            context.requires_grad_()
        self.optimiser = torch.optim.SGD(self.contexts, lr=1e-4, momentum=0.9)
        filler = " ".join(["x"] * CONTEXT_TOKENS)
        self.tokens = clip.tokenize([f"{filler} {name}." for name in vocabulary.readable]).to(
            device
        )
        self.texts = torch.randint(1000, 40000, (batch, POSITIONS), generator=made)
        self.texts[:, CAPTION_TOKENS:] = 0
        self.texts[:, CAPTION_TOKENS - 1] = self.tokens.max().cpu()  # end of text
        self.texts = self.texts.to(device)
        self.targets = captions(batch, len(vocabulary), 8).targets.to(device)

    def __call__(self) -> None:
        """Encode the captions and both sets of prompts, score, and step."""
        with torch.no_grad():
            g, local = self.encode(self.model.token_embedding(self.texts), self.texts)
        loss = torch.zeros((), device=self.texts.device)
        for branch, context in enumerate(self.contexts):
            embedded = self.model.token_embedding(self.tokens)
            shared = context.expand(len(embedded), -1, -1)
            prompts = torch.cat([embedded[:, :1], shared, embedded[:, 1 + CONTEXT_TOKENS :]], 1)
            classes, _ = self.encode(prompts, self.tokens)
            if branch == 0:
                logits = 4 * g @ classes.T
            else:
                cosines = local @ classes.T  # [B, 77, C]
                padding = torch.arange(POSITIONS, device=local.device) >= CAPTION_TOKENS
                weights = (50 * cosines).masked_fill(padding[None, :, None], -1e4).softmax(1)
                logits = 4 * (weights * cosines).sum(1)
            margins = 1 - logits[:, :, None] + logits[:, None, :]  # [B, positive, negative]
            pairs = (self.targets == 1)[:, :, None] & (self.targets == 0)[:, None, :]
            loss = loss + margins.clamp(min=0)[pairs].sum() / len(logits)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def encode(self, embeddings: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's encode_text, and the same projection of every token; both normalised."""
        x = embeddings + self.model.positional_embedding
        x = self.model.transformer(x, attn_mask=self.model.attn_mask)
        x = F.normalize(self.model.ln_final(x) @ self.model.text_projection, dim=-1)
        return x[torch.arange(len(x), device=x.device), tokens.argmax(-1)], x


def compare(clip: Backbone, classes: int, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds a step on both sides, in turns."""
    vocabulary = vocabulary_of(classes)
    bank = captions(8 * batch, classes, clip.width)
    plain = PlainStep(clip, vocabulary, batch)
    plain()
    times: dict[str, list[float]] = {"plain": [], "t2ipal": []}
    for _ in range(rounds):
        started = finished(clip.device.type)
        plain()
        times["plain"].append(finished(clip.device.type) - started)
        times["t2ipal"].append(t2ipal_step(clip, vocabulary, batch, bank))
    ratios = [a / b for a, b in zip(times["plain"], times["t2ipal"], strict=True)]
    return {**times, "ratio": ratios}


def alone(classes: int, batch: int, bank: int, device: str) -> dict[str, float]:
    """Seconds a step and peak memory in GB of a process that does nothing else."""
    command = [sys.executable, "-m", "tools.training_step", "--alone"]
    command += [str(classes), str(batch), str(bank), "--device", device]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the comparison alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--alone", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    clip = load_tower(arguments.device)
    if arguments.alone:
        classes, batch, bank = arguments.alone
        items = captions(bank, classes, clip.width)
        step = t2ipal_step(clip, vocabulary_of(classes), batch, items)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": step, "gigabytes": peak}))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, text tower of RN50")
    print(limit(arguments.device))
    for batch in arguments.batch:
        found = compare(clip, arguments.classes, batch, arguments.rounds)
        print(f"{arguments.classes} classes, batch {batch}, {arguments.rounds} rounds")
        print(f"  plain   {spread(found['plain'], '.3f')} s a step")
        print(f"  t2ipal  {spread(found['t2ipal'], '.3f')} s a step")
        print(f"  ratio   {spread(found['ratio'], '.1f')}", flush=True)
    if arguments.quick:
        return
    del clip
    print("classes  batch   bank   s a step   peak GB")
    for classes, batch, bank in (
        (20, 16, 128),
        (80, 16, 128),
        (299, 16, 299),
        (1000, 16, 1000),
        (1000, 64, 1000),
        (20, 64, 512),
        (20, 512, 1024),
        (20, 512, 8192),
    ):
        row = alone(classes, batch, bank, arguments.device)
        print(
            f"{classes:7d} {batch:6d} {bank:6d} {row['seconds']:10.3f} {row['gigabytes']:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

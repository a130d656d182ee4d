"""Pretraining of the small CLIP: contrastive on captions, after a start on class phrases.

For the first part of the time class phrases are contrasted too, whole and local: the value path
of the attention pool is asked, cell by cell, for the class that the renderer put there. Web-scale
CLIPs learn such local features from the sheer number of captions; here the renderer's knowledge
stands in for the web. The last part is CLIP's own: captions and nothing else, so that a class
phrase is, as in a real CLIP, not what the towers were made for.
"""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tools.miniature.data import Rendered, coverage
from tools.miniature.loop import Average, pixels, train_for
from tools.miniature.tokens import as_fast, encode
from torch import Tensor
from torch.nn import functional as F

from t2ipal.files import atomic_path, write_text
from t2ipal.miniature.scene_captions import describe, phrase
from t2ipal.miniature.scenes import EMPTY
from t2ipal.miniature.world import INDEX, THINGS

log = logging.getLogger(__name__)
CONTEXT = 40
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "there is {}", "an image of {}", "we see {}")


def model_config(vocabulary_size: int, image_size: int) -> dict[str, Any]:
    """open_clip's ``model_cfg``: a ModifiedResNet, one block a stage, and a small text tower."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": image_size,
            "layers": [1, 1, 1, 1],
            "width": 16,
            "head_width": 64,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary_size,
            "hf_tokenizer_name": "tokenizer.json",
            "width": 128,
            "heads": 4,
            "layers": 3,
        },
    }


def train(
    data: list[Rendered],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    minutes: float,
    image_size: int = 128,
    small: float = 0.7,
    guided: float = 0.68,
    batch: int = 96,
    seed: int = 0,
) -> None:
    """Train and save to ``folder/clip`` in open_clip's local-folder format.

    The share ``small`` of the time is spent at 96 pixels, which is nearly twice as fast; the
    attention pool's positions are interpolated to each size. Class phrases and cells are part of
    the loss for the share ``guided`` of the time, captions alone afterwards.
    """
    torch.manual_seed(seed)
    config = model_config(tokenizer.get_vocab_size(), image_size)
    model = CLIP(**config)
    model.visual = model.visual.to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(seed)
    words = random.Random(seed)
    images = [torch.from_numpy(d.images) for d in data]
    seen = [torch.from_numpy(d.seen) for d in data]
    targets = [torch.from_numpy(d.targets()) for d in data]
    sizes = torch.tensor([float(len(d.captions)) for d in data])

    def loss_of(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        size = 96 if progress < small else image_size
        which = int(torch.multinomial(sizes, 1, generator=rng))
        index = torch.randint(len(images[which]), (batch,), generator=rng)
        x, cells = augment(pixels(images[which][index]), seen[which][index], rng)
        x = F.interpolate(x, size=(size, size), mode="bicubic").clamp(0, 1)
        x = ((x - MEAN[0]) / STD[0]).contiguous(memory_format=torch.channels_last)
        g, local = towers(model, x)
        early = progress < guided
        told = [tell(data[which], i, words, part=0.5 * early) for i in index.tolist()]
        phrases = [
            words.choice(TEMPLATES).format(phrase(words.choice(t.words), 1, words)) for t in THINGS
        ]
        ids = torch.tensor(encode(tokenizer, [text for text, _ in told] + phrases, CONTEXT))
        both = text_features(model, ids[:, : int((ids != 0).sum(1).max())])
        t, named = both[:batch], both[batch:]
        scale = model.logit_scale.exp().clamp(max=100)
        shown = targets[which][index].float()  # [B, C]
        said = torch.zeros_like(shown)
        for row, (_, names) in enumerate(told):
            said[row, [INDEX[name] for name in names]] = 1
        # A text also fits every other image that shows all it names: neither pair nor contrast.
        fits = (shown @ said.T == said.sum(1)) & ~torch.eye(batch, dtype=torch.bool)
        logits = (scale * g @ t.T).masked_fill(fits, float("-inf"))
        goal = torch.arange(batch)
        contrast = (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
        classes = scale * g @ named.T  # [B, C]
        phrasal = (several(classes, shown) + several(classes.T, shown.T)) / 2
        share = coverage(cells, local.shape[1])[..., : len(THINGS)]  # [B, P, C]
        covered = share.sum(-1) > 0.3
        dense = F.cross_entropy(
            20 * local[covered] @ named.T, share[covered] / share[covered].sum(-1, keepdim=True)
        )
        right = (logits.argmax(1) == goal).float().mean().item()
        loss = contrast + 0.5 * early * (phrasal + dense)
        parts = {"contrast": contrast, "phrasal": phrasal, "dense": dense}
        return loss, {**{k: v.item() for k, v in parts.items()}, "right": right}

    average = train_for(
        minutes,
        model,
        loss_of,
        folder=folder,
        rate=1.5e-3,
        weight_decay=0.1,
        no_decay=("positional_embedding", "token_embedding", "logit_scale"),
    )
    save(model, average, config, tokenizer, folder / "clip")


def tell(data: Rendered, index: int, words: random.Random, *, part: float) -> tuple[str, set[str]]:
    """A text for a scene and the classes it names: its caption, or one or two of its classes.

    ``part`` is the probability of the latter.
    """
    names = data.names[index]
    if words.random() >= part:
        return data.captions[index], set(names)
    kinds = sorted(set(names))
    chosen = set(words.sample(kinds, min(len(kinds), 1 if words.random() < 0.6 else 2)))
    return describe([name for name in names if name in chosen], None, words), chosen


def several(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross entropy of rows [n, m] against the uniform distribution over their positives."""
    some = positives.sum(1) > 0
    goal = positives[some] / positives[some].sum(1, keepdim=True)
    return F.cross_entropy(logits[some], goal)


def towers(model: CLIP, x: Tensor) -> tuple[Tensor, Tensor]:
    """Global [B, D] from the attention pool and local [B, P, D] from its value path, normalised."""
    visual = model.visual
    maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(x)))))
    pool = visual.attnpool
    flat = maps.flatten(2).permute(2, 0, 1)  # [P, B, 32 * width]
    flat = torch.cat([flat.mean(0, keepdim=True), flat])
    flat_with = flat + positions(pool.positional_embedding, maps.shape[-1])[:, None]
    g, _ = F.multi_head_attention_forward(
        query=flat_with[:1],
        key=flat_with,
        value=flat_with,
        embed_dim_to_check=flat.shape[-1],
        num_heads=pool.num_heads,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        training=True,
        need_weights=False,
    )
    local = pool.c_proj(pool.v_proj(flat[1:])).permute(1, 0, 2)
    return F.normalize(g[0], dim=-1), F.normalize(local, dim=-1)


def positions(table: Tensor, side: int) -> Tensor:
    """The pool's [1 + P, W] positions, interpolated to a ``side`` x ``side`` grid."""
    old = round((len(table) - 1) ** 0.5)
    if old == side:
        return table
    grid = table[1:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def text_features(model: CLIP, tokens: Tensor) -> Tensor:
    """Normalised text features of tokens cut to their longest row (exact: the tower is causal)."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(tokens)), tokens.argmax(1)]
    return F.normalize(x @ model.text_projection, dim=-1)


def augment(x: Tensor, cells: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips, shifts, colour and texture changes, so that icon styles matter less.

    x [B, 3, 64, 64] in [0, 1]; cells [B, 16, 16] move along.
    """
    count = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=rng)

    flip = torch.rand(count, generator=rng) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    cells = torch.where(flip[:, None, None], cells.flip(2), cells)
    dy, dx = (int(v) for v in torch.randint(-2, 3, (2,), generator=rng))
    x = F.pad(x, (8, 8, 8, 8), mode="replicate")[
        :, :, 8 + 4 * dy : 72 + 4 * dy, 8 + 4 * dx : 72 + 4 * dx
    ]
    cells = F.pad(cells, (2, 2, 2, 2), value=EMPTY)[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx]
    # colour: a 3x3 matrix near the identity, now and then grey
    mix = torch.eye(3) + 0.12 * torch.randn(count, 3, 3, generator=rng)
    grey = (torch.rand(count, generator=rng) < 0.08)[:, None, None]
    mix = torch.where(grey, torch.full((3, 3), 1 / 3), mix)
    x = torch.einsum("bij,bjhw->bihw", mix, x)
    x = (x - 0.5) * uniform(0.7, 1.3, count, 1, 1, 1) + 0.5 + uniform(-0.15, 0.15, count, 1, 1, 1)
    if torch.rand((), generator=rng) < 0.4:  # texture: blend with a random 3x3 convolution
        kernel = torch.randn(3, 1, 3, 3, generator=rng) / 3
        other = F.conv2d(x, kernel, padding=1, groups=3)
        x = x + uniform(0, 0.5, count, 1, 1, 1) * (other - x)
    if torch.rand((), generator=rng) < 0.3:
        x = x + 0.04 * torch.randn(x.shape, generator=rng)
    return x.clamp(0, 1), cells


def save(
    model: CLIP, average: Average, config: dict[str, Any], tokenizer: Tokenizer, folder: Path
) -> None:
    """Write open_clip_config.json, open_clip_model.safetensors and the tokenizer's files."""
    model.load_state_dict(average.state)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    with atomic_path(folder / "open_clip_model.safetensors") as path:
        save_file(state, path)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1)
    write_text(folder / "open_clip_config.json", text + "\n")
    as_fast(tokenizer, CONTEXT).save_pretrained(folder)

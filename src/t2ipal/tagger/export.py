"""A tagger as one ONNX file: from pixels to probabilities, compared with PyTorch before it is kept.

The graph holds the image tower, the head with adapter and prototypes, heatmaps, calibration and
thresholds; :mod:`t2ipal.tagger.onnx_model` describes the file, and reads it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2ipal.errors import UserError, not_installed
from t2ipal.files import atomic_path
from t2ipal.files.broken import MAX_MEGAPIXELS
from t2ipal.method.equations import fuse_crops
from t2ipal.tagger.inputs import ImageLike, open_image
from t2ipal.tagger.onnx_model import (
    CARD_KEY,
    CONFIG_KEY,
    DIGEST_KEY,
    INPUT,
    OUTPUTS,
)
from t2ipal.tagger.tagger import Tagger

TOLERANCE = 1e-4
"""Most that a probability may differ from PyTorch's, unless the file is in int8."""

_IN_INT8 = ["Conv", "Gemm", "MatMul"]
_SCOPES = "pkg.torch.onnx.name_scopes"
_COMPARED = _CALIBRATED = 200  # images
_LARGEST = 2_000_000_000  # bytes; a protocol buffer ends at 2 GiB


@dataclass(frozen=True)
class _Comparison:
    """How an exported tagger differs from the one in PyTorch, end to end, on some images.

    Attributes:
        images: how many were compared.
        largest, mean: absolute difference of a probability.
        same: images with the very same tags.
        tags, lost, added: tags in PyTorch, and how many of them, and how many others, the file
            has.
    """

    images: int
    largest: float
    mean: float
    same: int
    tags: int
    lost: int
    added: int

    def __str__(self) -> str:
        moved = f" ({self.lost} of {self.tags} tags lost, {self.added} new)"
        return (
            f"the same tags on {self.same} of {self.images}{moved * (self.same < self.images)}, "
            f"probabilities within {self.largest:.1g}, {self.mean:.1g} on average"
        )


def export_onnx(
    tagger: Tagger,
    path: str | Path,
    images: Sequence[ImageLike],
    *,
    source: str,
    int8: bool = False,
) -> _Comparison:
    """Write a tagger as an ONNX file, if what the file says of images is what the tagger says.

    Args:
        tagger: loaded on the CPU in fp32. Its crops are built in.
        images: at most 200 are compared. With ``int8``, 200 others, or half of them if there are
            fewer, give the ranges of the activations.
        source: what the images are, for the card.
        int8: weights and activations of the image tower in 8 bits. The loss is measured, not
            bounded.

    Returns:
        The comparison, which stands in the file's card too.

    Raises:
        UserError: a package is missing, the tower cannot be exported or is too large for one file,
            there are too few images, or probabilities differ by more than :data:`TOLERANCE`.
    """
    backbone, path = tagger.clip.backbone, Path(path)
    if backbone.device.type != "cpu" or backbone.precision != "fp32":
        raise UserError("a tagger is exported from the CPU in fp32; load it with device='cpu'.")
    if backbone.preprocessing.described is None:
        raise UserError(
            f"{backbone.spec}: images are prepared by a function of your own, which no file can "
            "hold; export a tagger whose CLIP is loaded by name."
        )
    if len(images) < 1 + int8:
        raise UserError(f"{len(images)} images are too few to compare by; give more with --images.")
    size = sum(weight.numel() * weight.element_size() for weight in _Graph(tagger).parameters())
    if size > _LARGEST:
        raise UserError(
            f"{backbone.spec}: its image tower takes {size / 1e9:.1f} GB, and an ONNX file at most "
            "2; export a smaller one."
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise not_installed(error) or error from None
    model, tower = _traced(tagger)
    made = f"fp32, {source}"
    if int8:
        half = min(_CALIBRATED, len(images) // 2)
        model = _in_int8(model, tower, tagger, images[:half])
        images, made = images[half:], f"int8, ranges from {half} of {source}"
    images = images[:_COMPARED]
    with atomic_path(path) as temporary:
        _write(model, tagger, made, temporary)
        found = _compare(tagger, temporary, images)
        if found.largest > TOLERANCE and not int8:
            raise UserError(
                f"{path}: its probabilities differ from PyTorch's by up to {found.largest:.2g}; "
                "nothing was written. Please report it with the name of the CLIP."
            )
        _write(model, tagger, f"{made}; compared with PyTorch: {found}", temporary)
    return found


class _Graph(nn.Module):
    """Views [B, 1 + V, 3, S, S] to the outputs of the file."""

    slopes: Tensor
    intercepts: Tensor
    thresholds: Tensor

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        self.encode = tagger.clip.backbone.encode_image
        self.visual = tagger.clip.backbone.model.visual
        self.head = tagger.clip.head
        fitted = tagger.thresholds
        for name in ("slopes", "intercepts", "thresholds"):
            self.register_buffer(name, torch.tensor(getattr(fitted, name), dtype=torch.float32))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        views = pixels.shape[1]
        features = self.encode(pixels.flatten(0, 1))
        unit = nn.functional.normalize
        seen = self.head.scores(unit(features.global_, dim=-1), unit(features.local, dim=-1))
        classes = seen.fused.shape[1]
        whole, *crops = seen.fused.reshape(-1, views, classes).unbind(1)
        scores = fuse_crops(whole, crops, self.head.config.fusion)
        heatmaps = seen.heatmap.reshape(-1, views, *features.grid, classes)[:, 0]
        probabilities = torch.sigmoid(scores * self.slopes + self.intercepts)
        return probabilities, scores, heatmaps, probabilities >= self.thresholds


def _traced(tagger: Tagger) -> tuple[Any, list[str]]:
    """The graph as an ``onnx.ModelProto``, and the names of those nodes that are layers of CLIP."""
    side, views = tagger.model.image_size, 1 + tagger.model.crops**2
    example = torch.zeros(2, views, 3, side, side)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                _Graph(tagger).eval(),
                (example,),
                input_names=[INPUT],
                output_names=OUTPUTS,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # of many types: what the exporter does not know of a tower
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{tagger.clip.backbone.spec}: PyTorch cannot export its image tower ({reason})."
        ) from error
    assert program is not None
    model = program.model_proto
    graph = model.graph
    if not graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UserError(
            f"{tagger.clip.backbone.spec}: PyTorch exports its image tower for one batch size "
            "alone; please report it with the name of the CLIP."
        )
    scopes = {node.name: {one.key: one.value for one in node.metadata_props} for node in graph.node}
    tower = [name for name, found in scopes.items() if "'visual." in found.get(_SCOPES, "")]
    # Notes of the exporter: the paths of this machine's Python among them.
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for output in graph.output:
        output.ClearField("metadata_props")
    return model, tower


def _in_int8(model: Any, tower: Sequence[str], tagger: Tagger, images: Sequence[ImageLike]) -> Any:
    """The graph with the convolutions and linear layers of the image tower in 8 bits.

    Static quantisation of weights per channel and of activations by the range that they take on
    ``images``. The first layer and depthwise convolutions keep their float32: they lose most and
    weigh least. What compares features with classes stays as it is too.
    """
    import onnx
    from onnxruntime import quantization

    weights = {weight.name for weight in model.graph.initializer}
    layers = [
        node.name
        for node in model.graph.node
        if node.name in tower and node.op_type in _IN_INT8 and weights & set(node.input[1:2])
        if not any(one.name == "group" and one.i > 1 for one in node.attribute)
    ]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            for image in self.left:
                return {INPUT: tagger.views(open_image(image, MAX_MEGAPIXELS))[None]}
            return None

    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, made = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, given)
        quantization.quantize_static(
            given,
            made,
            Reader(),
            per_channel=True,
            op_types_to_quantize=_IN_INT8,
            nodes_to_quantize=layers[1:],
        )
        return onnx.load(made)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantiser tell of what they fold, and of what may change in them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write(model: Any, tagger: Tagger, made: str, path: Path) -> None:
    """The graph with the metadata of the tagger."""
    from t2ipal.tagger.card import model_card  # loads huggingface_hub and Jinja

    about = tagger.about | {"onnx": made}
    described = Tagger(tagger.model, tagger.vocabulary, tagger.thresholds, about)
    seen = dict(tagger.clip.backbone.preprocessing.described or {})
    seen["size"] = tagger.model.image_size
    del seen["mode"]  # RGB
    metadata = {
        CONFIG_KEY: json.dumps(described.config() | {"preprocessing": seen}, ensure_ascii=False),
        CARD_KEY: model_card(described),
        DIGEST_KEY: hashlib.sha256(model.graph.SerializeToString()).hexdigest(),
    }
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def _compare(tagger: Tagger, path: Path, images: Sequence[ImageLike]) -> _Comparison:
    exported = Tagger.from_pretrained(path)
    differences, tags = [], []
    for ours, theirs in zip(tagger.stream(images), exported.stream(images), strict=True):
        if ours.error is not None:
            raise UserError(ours.error)
        differences.append(np.abs(ours.probabilities - theirs.probabilities))
        tags.append((set(ours.tags), set(theirs.tags)))
    return _Comparison(
        images=len(images),
        largest=float(np.max(differences)),
        mean=float(np.mean(differences)),
        same=sum(ours == theirs for ours, theirs in tags),
        tags=sum(len(ours) for ours, _ in tags),
        lost=sum(len(ours - theirs) for ours, theirs in tags),
        added=sum(len(theirs - ours) for ours, theirs in tags),
    )

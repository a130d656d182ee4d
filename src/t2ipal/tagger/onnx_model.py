"""A tagger in one ONNX file, scored by ONNX Runtime: neither PyTorch nor open_clip is imported.

``t2ipal.tagger.export`` writes the file. Its graph goes from pixels to probabilities; its metadata
hold all else: ``config`` (JSON: classes, preprocessing, thresholds, how it was made), ``card`` (the
model card) and ``graph_sha256``, by which damage is found before the graph is run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from PIL import Image

from t2ipal.clip.clip_settings import ClipSettings, ResizeMode
from t2ipal.errors import UserError, not_installed
from t2ipal.files import NO_OTHER_KEYS, check

INPUT = "pixels"
OUTPUTS = ("probabilities", "scores", "heatmaps", "tags")
"""[B, C], [B, C], [B, h, w, C] and bool [B, C], of views [B, 1 + V, 3, S, S]."""
CONFIG_KEY, CARD_KEY, DIGEST_KEY = "config", "card", "graph_sha256"

_LARGEST = 2048  # pixels a side; what a file says is not trusted with more memory
_Mean = Annotated[float, Ge(-1e6), Le(1e6)]
_Deviation = Annotated[float, Ge(1e-6), Le(1e6)]


@dataclass(frozen=True)
class _Preparation:
    """How an image becomes pixels, by Pillow and NumPy alone.

    Attributes: as in :class:`t2ipal.clip.preprocessing.Preprocessing`, whose pixels these equal bit
    for bit; ``shortest_edge`` is None where images are resized to ``size`` itself.
    """

    size: Annotated[int, Ge(1), Le(_LARGEST)]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]
    interpolation: Literal["bicubic", "bilinear", "random"]
    resize_mode: ResizeMode
    fill_color: Annotated[int, Ge(0), Le(255)]
    shortest_edge: Annotated[int, Ge(1), Le(_LARGEST)] | None = None

    __pydantic_config__ = NO_OTHER_KEYS

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An RGB image as float32 [3, S, S]."""
        size, (width, height) = self.size, image.size
        how = Image.Resampling.BICUBIC
        if self.interpolation == "bilinear":
            how = Image.Resampling.BILINEAR
        if self.resize_mode == "squash":
            image = image.resize((size, size), how)
        elif self.resize_mode == "shortest":
            edge = self.shortest_edge or size
            longer = int(edge * max(width, height) / min(width, height))
            image = image.resize((longer, edge) if width > height else (edge, longer), how)
            cut = [length - size for length in image.size]
            left, top = (round(c / 2) if self.shortest_edge is None else c // 2 for c in cut)
            image = image.crop((left, top, left + size, top + size))
        else:
            ratio = max(width, height) / size
            image = image.resize((round(width / ratio), round(height / ratio)), how)
            whole = Image.new("RGB", (size, size), (self.fill_color,) * 3)
            whole.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
            image = whole
        mean, std = np.array([self.mean, self.std], np.float32)
        pixels: np.ndarray = np.asarray(image, np.float32) / np.float32(255)  # [S, S, 3]
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


class OnnxModel:
    """What scores images for a :class:`t2ipal.tagger.tagger.Tagger` that is an ONNX file.

    Attributes:
        path: the file.
        crops: each image is scored on this many crops per side too, as it was exported.
        image_size, resize_mode: of its input.
        session: ONNX Runtime's, with the inputs and outputs :data:`INPUT` and :data:`OUTPUTS`.
    """

    def __init__(self, path: Path, session: Any, preprocess: _Preparation, crops: int) -> None:
        self.path = path
        self.session = session
        self.preprocess = preprocess
        self.crops = crops
        self.image_size = preprocess.size
        self.resize_mode: str = preprocess.resize_mode

    def __repr__(self) -> str:
        crops = f", {self.crops} x {self.crops} crops" if self.crops else ""
        return f"ONNX {self.path} at {self.image_size} px{crops}, cpu"

    def scores(self, pixels: np.ndarray, heatmaps: bool) -> tuple[np.ndarray, np.ndarray]:
        """Of views [B, 1 + V, 3, S, S], whole images first: scores [B, C], heatmaps [B, h, w, C].

        About B views go through the graph together, so that crops take time, not memory.
        """
        batch, views = pixels.shape[:2]
        step = max(1, batch // views)
        wanted = ["scores", "heatmaps"][: 1 + heatmaps]
        found = [
            self.session.run(wanted, {INPUT: pixels[start : start + step]})
            for start in range(0, batch, step)
        ]
        scores = np.concatenate([one[0] for one in found])
        return scores, np.concatenate([one[-1] for one in found]) if heatmaps else np.zeros(0)

    @classmethod
    def load(
        cls, path: Path, config: Mapping[str, Any], given: ClipSettings, crops: int | None
    ) -> OnnxModel:
        """The model in a file.

        Args:
            config: what its metadata say.
            given: where it computes, and how it sees an image.
            crops: per side; if omitted, as it was exported.

        Raises:
            UserError: ONNX Runtime is missing, the file is damaged, or it cannot do what is asked.
            KeyError, TypeError: ``config`` lacks an entry.
        """
        seen = dict(config["preprocessing"])
        for option, wanted, own in (
            ("--image-size", given.image_size, seen["size"]),
            ("--crops", crops, config["crops"]),
        ):
            if wanted not in (None, own):
                raise UserError(
                    f"{path}: was exported with {option} {own}; export the model once more with "
                    f"{option} {wanted}."
                )
        for option, named, only in (
            ("--device", given.device, "cpu"),
            ("--precision", given.precision, "fp32"),
        ):
            if named not in ("auto", only):
                raise UserError(
                    f"{path}: an ONNX file computes on the CPU, as it was exported; leave out "
                    f"{option} {named}, or name the folder of the model."
                )
        if given.resize_mode is not None:
            seen["resize_mode"] = given.resize_mode
        preprocess = check(_Preparation, seen, lambda keys: f"{path}: preprocessing")
        views = 1 + config["crops"] ** 2
        session = _session(path)
        shape = session.get_inputs()[0].shape[1:]
        if shape != [views, 3, preprocess.size, preprocess.size]:
            raise UserError(
                f"{path}: its graph takes {shape}, but its configuration says {views} views of "
                f"{preprocess.size} pixels; export the model again."
            )
        return cls(path, session, preprocess, config["crops"])


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise not_installed(error) or error from None
    options = onnxruntime.SessionOptions()
    # as PyTorch has it: OMP_NUM_THREADS, or the cores this process may use
    threads = os.environ.get("OMP_NUM_THREADS", "")
    mine = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else len(mine(0))
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors, which are raised too
    # threads that wait would take the cores from those that decode the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of many types, all its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: ONNX Runtime cannot load it ({reason}); export it anew."
        ) from None
    names = [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]
    if names != ([INPUT], list(OUTPUTS)):
        raise UserError(f"{path}: its graph is no tagger's; export the model again.")
    return session


_GRAPH, _METADATA = 7, 14  # fields of ModelProto in onnx.proto
_LONGEST = 100_000_000  # bytes of metadata


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata of an exported tagger; its weights are read, but not loaded.

    The file is taken apart here, as far as needed, by the wire format of protocol buffers.

    Raises:
        UserError: this is no ONNX file, none of a tagger, or a damaged one.
    """
    metadata: dict[str, str] = {}
    digest = None
    try:
        with path.open("rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            while stream.tell() < end:
                field, length = _field(stream, end)
                if field == _GRAPH:
                    digest = _digest(stream, length)
                elif field == _METADATA and length <= _LONGEST:
                    key, value = _entry(stream, stream.tell() + length)
                    metadata[key] = value
                else:
                    stream.seek(length, os.SEEK_CUR)
    except (ValueError, IndexError):
        raise UserError(
            f"{path}: is no ONNX file, or is cut off; name a model folder such as RUN/model, or a "
            "file that 't2ipal export' wrote."
        ) from None
    if CONFIG_KEY not in metadata:
        raise UserError(
            f"{path}: holds no tagger; name a model folder such as RUN/model, or an ONNX file that "
            "'t2ipal export' wrote."
        )
    if metadata.get(DIGEST_KEY) != digest:
        raise UserError(f"{path}: is damaged: it is not as it was exported; copy it again.")
    return metadata


def _field(stream: IO[bytes], end: int) -> tuple[int, int]:
    """Number of the next field, and the length of what follows.

    Raises:
        ValueError: there is no field of a known kind that ends within the file.
    """
    tag = _varint(stream)
    field, kind = tag >> 3, tag & 7
    length = 0
    if kind == 0:
        _varint(stream)
    elif kind in (1, 5):
        length = 8 if kind == 1 else 4
    elif kind == 2:
        length = _varint(stream)
    if not field or kind not in (0, 1, 2, 5) or stream.tell() + length > end:
        raise ValueError("not the wire format")
    return field, length


def _varint(stream: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)[0]  # IndexError at the end
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("not the wire format")


def _entry(stream: IO[bytes], end: int) -> tuple[str, str]:
    """A key and a value, which are fields 1 and 2 of a StringStringEntryProto."""
    parts = {1: "", 2: ""}
    while stream.tell() < end:
        field, length = _field(stream, end)
        parts[field] = stream.read(length).decode()
    return parts[1], parts[2]


def _digest(stream: IO[bytes], length: int) -> str:
    digest = hashlib.sha256()
    while length:
        block = stream.read(min(length, 1 << 20))
        digest.update(block)
        length -= len(block)
    return digest.hexdigest()

"""A trained model as its user holds it: load it, tag images, see where each tag was found."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from t2ipal.clip.clip_settings import ClipSettings, Precision, ResizeMode
from t2ipal.clip.crops import crop_boxes, cut
from t2ipal.errors import UserError, not_installed
from t2ipal.files import write_text
from t2ipal.files.broken import MAX_MEGAPIXELS
from t2ipal.parallel.ahead import map_ahead
from t2ipal.tagger import CARD, CONFIG, FORMAT, WEIGHTS, read_config
from t2ipal.tagger.inputs import ImageLike, one_image, open_image
from t2ipal.tagger.onnx_model import OnnxModel
from t2ipal.tagger.tags import Box, Tags, refuse_no_numbers
from t2ipal.tagger.thresholds import Thresholds
from t2ipal.vocabulary import ClassName, Vocabulary

if TYPE_CHECKING:
    from t2ipal.tagger.clip_model import ClipModel

log = logging.getLogger(__name__)

Threshold = float | Mapping[str, float] | None
"""One probability for all classes, one per class (the others keep theirs), or the model's own."""


class Tagger:
    """A model, its classes, and the thresholds that turn its scores into tags.

    Attributes:
        model: what scores images.
        vocabulary: the C classes.
        thresholds: how scores become probabilities, and from which one on a class is a tag.
        about: how it was made: method, captions, generator, seed, versions, and the scores that
            were measured (:func:`t2ipal.tagger.card.model_card`).
    """

    def __init__(
        self,
        model: ClipModel | OnnxModel,
        vocabulary: Vocabulary,
        thresholds: Thresholds,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.thresholds = thresholds
        self.about = about or {}
        self._warned = False

    def __repr__(self) -> str:
        method = self.about.get("method", "tuned")
        return f"Tagger({method}, {len(self.names)} classes, {self.model})"

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        image_size: int | None = None,
        resize_mode: ResizeMode | None = None,
        crops: int | None = None,
    ) -> Tagger:
        """Load a model folder, an ONNX file, ``photo``, or ``org/name`` from the Hugging Face hub.

        A folder's CLIP is found by name. An ONNX file needs neither PyTorch nor a CLIP.

        Args:
            path: the folder or file, the name of a tagger of this package, or a name on the hub
                (``@revision`` may follow).
            revision: branch, tag or commit on the hub; the newest if omitted.
            device: auto, cpu, cuda or mps.
            precision: auto, fp32, bf16 or fp16.
            image_size: input size of CLIP in pixels; if omitted, the one the model was tuned with.
            resize_mode: how an image becomes a square; if omitted, as the model was tuned.
            crops: crops per side; if omitted, the number its thresholds were fitted with.

        Raises:
            UserError: no such model, a damaged file, or a CLIP other than the one it was tuned on.
        """
        given = ClipSettings(
            device=device, precision=precision, image_size=image_size, resize_mode=resize_mode
        )
        config, place = read_config(path, revision)
        vocabulary = Vocabulary.from_dict(config["vocabulary"], str(place))
        thresholds = Thresholds.from_json(config["thresholds"], vocabulary.names)
        if crops is not None:
            crop_boxes(crops)  # refuses what is no number of crops
        model: ClipModel | OnnxModel
        try:
            if place.name != CONFIG:
                model = OnnxModel.load(place, config, given, crops)
            else:
                from t2ipal.tagger.clip_model import ClipModel  # loads PyTorch

                model = ClipModel.load(place.with_name(WEIGHTS), config, vocabulary.names, given)
                model.crops = model.crops if crops is None else crops
                crop_boxes(model.crops)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{place}: entry {error} is missing or malformed; save the model again."
            ) from None
        except ImportError as error:
            raise not_installed(error) or error from None
        return cls(model, vocabulary, thresholds, config.get("about"))

    def save_pretrained(self, path: str | Path) -> Path:
        """Write ``config.json``, ``model.safetensors`` (tuned tensors only) and a model card.

        The configuration stands in the safetensors metadata too, so the file describes itself.
        """
        from t2ipal.tagger.card import model_card  # loads huggingface_hub and Jinja

        folder, config = Path(path), self.config()
        text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        self.clip.save(folder / WEIGHTS, config)
        write_text(folder / CARD, model_card(self))
        write_text(folder / CONFIG, text)  # last: a folder with it is complete
        return folder

    def config(self) -> dict[str, Any]:
        """What a saved model says of itself, as JSON holds it."""
        return {
            "format": FORMAT,
            "vocabulary": self.vocabulary.as_dict(),
            **self.clip.to_json(),
            "thresholds": self.thresholds.to_json(),
            "about": self.about,
        }

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        license: str | None = None,
    ) -> str:
        """Put it on the Hugging Face hub, with its card; ``from_pretrained(repo_id)`` loads it.

        Paths of this machine in what it says of itself become names.

        Args:
            repo_id: ``ORG/NAME``; made if it is not there yet.
            private: whether a new repository is private; your account's default if omitted.
            token: of an account that may write there; the one you logged in with if omitted.
            revision: branch to put it on, made if it is not there; main if omitted.
            license: of this model, as the hub calls it, such as apache-2.0.

        Returns:
            The address of the commit.

        Raises:
            UserError: its CLIP is a folder of this machine, or the hub refuses.
        """
        from t2ipal.tagger.card import push

        return push(self, repo_id, private=private, token=token, revision=revision, license=license)

    def with_classes(
        self,
        names: Sequence[str | ClassName],
        images: Mapping[str, Iterable[ImageLike]] | None = None,
    ) -> Tagger:
        """This tagger with further classes, at once and without training.

        The classes that there are keep their scores to the last bit (:mod:`t2ipal.method.grown`).
        Probabilities and thresholds of a new one are taken from the others: not calibrated.

        Args:
            names: new classes, or any text such as "a red bicycle"; synonyms in a ``ClassName``.
            images: images that show a new class, for its prototypes and the adapter: class name ->
                images as :meth:`predict` takes them.

        Raises:
            UserError: such a class is there already, an image cannot be read, or the model has no
                text tower.
        """
        from t2ipal.tagger.growing import grown

        return grown(self, names, images)

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, in the order of every array."""
        return self.vocabulary.names

    @property
    def clip(self) -> ClipModel:
        """Its model, with CLIP and head in PyTorch.

        Raises:
            UserError: it is an ONNX file, which holds what scores images and nothing else.
        """
        if isinstance(self.model, OnnxModel):
            raise UserError(
                f"{self.model}: holds neither a CLIP nor prompts that could be taken up again; "
                "load the folder it was exported from."
            )
        return self.model

    @overload
    def predict(
        self, images: str | Path | bytes | Image.Image, *, threshold: Threshold = None,
        classes: Sequence[str] | None = None, heatmaps: bool = False, batch_size: int = 16,
    ) -> Tags: ...  # fmt: skip

    @overload
    def predict(
        self, images: Any, *, threshold: Threshold = None,
        classes: Sequence[str] | None = None, heatmaps: bool = False, batch_size: int = 16,
    ) -> Any: ...  # fmt: skip

    def predict(
        self,
        images: Any,
        *,
        threshold: Threshold = None,
        classes: Sequence[str] | None = None,
        heatmaps: bool = False,
        batch_size: int = 16,
    ) -> Tags | list[Tags]:
        """Tag one image, or several.

        Args:
            images: one image (a file, its bytes, a PIL image, an array [H, W, 3], a tensor
                [3, H, W]), or several: a list, a generator such as ``Path.glob``, a batch [B, ...].
            threshold: from which probability a class is a tag; the model's thresholds if omitted.
            classes: these classes alone, by key, name or synonym; all of them if omitted.
            heatmaps: give the heatmaps too.
            batch_size: images that go through CLIP together.

        Returns:
            A mapping from class to probability that knows its tags; a list of them for several.

        Raises:
            UserError: an image cannot be read, or there is no such class.

        Examples:
            >>> tagger = Tagger.from_pretrained("photo")
            >>> found = tagger.predict("examples/photos/cat.jpg")
            >>> found.top(1), found["cat"] > 0.9
            (['cat'], True)
        """
        one = one_image(images)
        found = []
        for tags in self.stream(
            [images] if one else images,
            threshold=threshold,
            classes=classes,
            heatmaps=heatmaps,
            batch_size=batch_size,
        ):
            if tags.error is not None:
                raise UserError(tags.error)
            found.append(tags)
        return found[0] if one else found

    __call__ = predict

    def tags(
        self,
        images: Any,
        *,
        threshold: Threshold = None,
        classes: Sequence[str] | None = None,
        top: int | None = None,
    ) -> Any:
        """The classes that reach their thresholds, most probable first; a list per image.

        Args:
            images, threshold, classes: as :meth:`predict` takes them.
            top: the most probable classes instead, so many.

        Raises:
            UserError: as :meth:`predict`.
        """
        found = self.predict(images, threshold=threshold, classes=classes)

        def chosen(tags: Tags) -> list[str]:
            return tags.tags if top is None else tags.top(top)

        return chosen(found) if isinstance(found, Tags) else list(map(chosen, found))

    def heatmaps(self, images: Any, *, classes: Sequence[str] | None = None) -> Any:
        """Class name to its heatmap [h, w], which sums to one over the image; a list for several.

        Raises:
            UserError: as :meth:`predict`.
        """
        found = self.predict(images, classes=classes, heatmaps=True)
        if isinstance(found, Tags):
            return {name: found.heatmap(name) for name in found}
        return [{name: tags.heatmap(name) for name in tags} for tags in found]

    def seen(self, size: tuple[int, int]) -> Box:
        """Left, top, right and bottom of what CLIP sees of an image of ``size`` (width, height).

        By its preprocessing that is the square in the middle (``shortest``), all of the image
        (``squash``), or a square around it (``longest``). Heatmaps are about this part.
        """
        width, height = size
        if self.model.resize_mode == "squash":
            return 0, 0, width, height
        side = max(size) if self.model.resize_mode == "longest" else min(size)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def unlike(self, sizes: Iterable[tuple[int, int]]) -> str | None:
        """Which of these sizes the model does not know, in a sentence; None if it knows them all.

        Only a model that was made for images of one size has one to say.
        """
        made_for = self.about.get("made_for", {})
        other = next((size for size in sizes if made_for and list(size) != made_for["size"]), None)
        if other is None:
            return None
        own, found = (" x ".join(map(str, size)) for size in (made_for["size"], other))
        return (
            f"this tagger knows {made_for['images']}, and images of {own} pixels alone: what it "
            f"says of one of {found} means nothing"
        )

    def stream(
        self,
        images: Iterable[ImageLike],
        *,
        threshold: Threshold = None,
        classes: Sequence[str] | None = None,
        heatmaps: bool = False,
        batch_size: int = 16,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> Iterator[Tags]:
        """Tag any number of images in constant memory; the next ones are decoded meanwhile.

        Args:
            images: as :meth:`predict` takes several.
            threshold, classes, heatmaps, batch_size: as :meth:`predict` takes them.
            max_megapixels: larger pictures cannot be read, unless they are JPEG.

        Yields:
            One result per image, in order; an unreadable image yields a result with an error.

        Raises:
            UserError: there is no such class.
        """
        limits = self.thresholds.limits(
            {self.names[self.vocabulary.meant(name)]: value for name, value in threshold.items()}
            if isinstance(threshold, Mapping)
            else threshold
        )
        columns = np.arange(len(self.names))
        if classes is not None:
            columns = np.array([*dict.fromkeys(map(self.vocabulary.meant, classes))], int)
        names = tuple(self.names[i] for i in columns)
        uncalibrated = tuple(self.names[i] for i in columns if not self.thresholds.calibrated[i])
        for image, opened, scores, maps in self.scored(
            images, heatmaps=heatmaps, batch_size=batch_size, max_megapixels=max_megapixels
        ):
            file = Path(image) if isinstance(image, (str, Path)) else None
            if isinstance(opened, UserError):
                yield Tags(names, image=file, error=str(opened))
                continue
            yield Tags(
                names,
                self.thresholds.probabilities(scores)[columns],
                limits[columns],
                file,
                heatmaps=maps[..., columns] if heatmaps else np.zeros(0),
                size=opened.size,
                box=self.seen(opened.size),
                picture=opened if heatmaps else None,
                uncalibrated=uncalibrated,
            )

    def scored(
        self,
        images: Iterable[ImageLike],
        *,
        heatmaps: bool = False,
        batch_size: int = 16,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> Iterator[tuple[ImageLike, Image.Image | UserError, np.ndarray, np.ndarray]]:
        """What :meth:`stream` makes its results of; arguments as there.

        Yields:
            The image as it was given; opened, or why it cannot be; its scores [C] and heatmaps
            [h, w, C], which are empty if there are none.
        """

        nothing = np.zeros(0)

        def prepare(image: ImageLike) -> tuple[ImageLike, Image.Image | UserError, np.ndarray]:
            try:
                opened = open_image(image, max_megapixels)
                return image, opened, self.views(opened)
            except UserError as error:
                return image, error, nothing

        prepared = map_ahead(prepare, images, 2 * batch_size)
        while batch := list(islice(prepared, batch_size)):
            read = [pixels for _, _, pixels in batch if pixels.size]
            scores, maps = self.model.scores(np.stack(read), heatmaps) if read else ((), ())
            refuse_no_numbers(self.model, scores, maps)
            sizes = (opened.size for _, opened, _ in batch if isinstance(opened, Image.Image))
            if not self._warned and (warning := self.unlike(sizes)) is not None:
                self._warned = True
                log.warning(warning)
            found = zip(scores, maps if heatmaps else repeat(nothing), strict=False)
            for image, opened, pixels in batch:
                yield image, opened, *(next(found) if pixels.size else (nothing, nothing))

    def views(self, image: Image.Image) -> np.ndarray:
        """An image and its crops as the model wants them: float32 [1 + V, 3, S, S]."""
        seen = [image, *(cut(image, crop) for crop in crop_boxes(self.model.crops))]
        return np.stack([self.model.preprocess(view) for view in seen])

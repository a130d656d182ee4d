"""The tiny Stable Diffusion drawn in every company, and pipelines that behave oddly."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.source import Source
from t2ipal.generation.diffusion.text_to_image import GeneratedImage, TextToImage
from tiny_diffusion import build_sana

PROMPTS = [
    "a dog",
    "two cats on the grass",
    "the train is at the station and a person waits for it with a bag",
    "",
    "boat",
    "a horse, a cow and a sheep",
    "a bird!",
    "the car",
]
SEEDS = [11, 12, 13, 2**32 - 1, 0, 11, 17, 18]


def pixels(drawings: Sequence[GeneratedImage]) -> list[bytes]:
    return [drawn.image.tobytes() for drawn in drawings]


@pytest.fixture(scope="module")
def alone(tiny_generator: TextToImage) -> list[bytes]:
    """Each prompt drawn in a call of its own."""
    return [
        pixels(tiny_generator.generate([prompt], [seed]))[0]
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_company_does_not_change_an_image(
    tiny_generator: TextToImage, alone: list[bytes], size: int
) -> None:
    found = []
    for start in range(0, len(PROMPTS), size):
        stop = start + size
        found += pixels(tiny_generator.generate(PROMPTS[start:stop], SEEDS[start:stop]))
    assert found == alone


def test_order_does_not_change_an_image(tiny_generator: TextToImage, alone: list[bytes]) -> None:
    found = pixels(tiny_generator.generate(PROMPTS[::-1], SEEDS[::-1]))
    assert found[::-1] == alone


def test_prompt_and_seed_both_count(tiny_generator: TextToImage, alone: list[bytes]) -> None:
    assert len(set(alone)) == len(alone)
    assert PROMPTS[0] != PROMPTS[5] and SEEDS[0] == SEEDS[5]
    assert pixels(tiny_generator.generate([PROMPTS[0]], [SEEDS[1]]))[0] not in alone


def test_batches_are_drawn_as_batches_where_kernels_allow(tiny_generator: TextToImage) -> None:
    """If oneDNN's convolution ignores the batch on this processor, so must the whole pipeline."""
    x, weight = torch.randn(8, 16, 8, 8), torch.randn(32, 16, 3, 3)
    both = [
        torch.mkldnn_convolution(part, weight, None, (1, 1), (1, 1), (1, 1), 1)
        for part in (x, x[:1])
    ]
    if not torch.equal(both[0][:1], both[1]):
        pytest.skip("this processor's convolutions depend on the batch size")
    tiny_generator.generate(PROMPTS, SEEDS)
    assert tiny_generator._batch_is_exact[len(PROMPTS)]


def test_the_global_generator_is_neither_used_nor_moved(
    tiny_generator: TextToImage, alone: list[bytes]
) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert pixels(tiny_generator.generate(PROMPTS[:1], SEEDS[:1])) == alone[:1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("packaged", "side"), [(False, 32), (True, 96)])
def test_another_family_with_defaults_for_another_size(
    packaged: bool, side: int, tmp_path: Path
) -> None:
    """Sana: its code says 1024 pixels and 300 tokens, whatever the checkpoint is made for."""
    spec = "miniature" if packaged else str(build_sana(tmp_path))
    generator = TextToImage.load(spec, settings=Settings(steps=2, device="cpu"))
    together = generator.generate(PROMPTS[:4], SEEDS[:4])
    alone = [generator.generate([PROMPTS[n]], [SEEDS[n]])[0] for n in range(4)]
    assert pixels(together) == pixels(alone) and len(set(pixels(alone))) == 4
    assert {drawn.image.size for drawn in together} == {(side, side)}


def test_record_and_identity(tiny: Path, tiny_generator: TextToImage) -> None:
    assert tiny_generator.spec == str(tiny)
    assert tiny_generator.revision.startswith("sha256:")
    assert tiny_generator.generated_on == {
        "device": "cpu",
        "dtype": "float32",
        "exact": True,
        "scheduler": "DDIMScheduler",
    }


def test_settings_change_the_image(tiny: Path, alone: list[bytes]) -> None:
    for changed in (
        Settings(steps=4, device="cpu"),
        Settings(steps=3, guidance=1.5, device="cpu"),
        Settings(steps=3, negative_prompt="a dog", device="cpu"),
    ):
        generator = TextToImage.load(str(tiny), settings=changed)
        drawn = generator.generate(PROMPTS[1:3], SEEDS[1:3])
        assert set(pixels(drawn)).isdisjoint(alone)
    wide = TextToImage.load(str(tiny), settings=Settings(steps=2, height=16, width=32))
    assert wide.generate(["a dog"], [0])[0].image.size == (32, 16)


def test_a_refusal_of_the_pipeline_is_a_sentence(tiny_generator: TextToImage) -> None:
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        tiny_generator.generate(["a", "b"], [1])
    assert tiny_generator.generate([], []) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(device="cpu", precision="fp16"), "fp16 needs a GPU"),
        (Settings(device="cuda:77"), "'cuda:77' is not there"),
    ],
)
def test_devices_that_are_not_there(tiny: Path, settings: Settings, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        TextToImage.load(str(tiny), settings=settings)


class FakePipeline:
    """Draws each image from its generator; ``drift`` is added when it draws several at a time."""

    dtype = torch.float32
    components: ClassVar[dict[str, Any]] = {}
    vae_scale_factor = 32
    transformer = SimpleNamespace(config=SimpleNamespace(sample_size=16))

    def __init__(self, drift: float = 0.0, flags: Any = None, device: str = "cpu") -> None:
        self.drift, self.flags, self.device = drift, flags, torch.device(device)
        self.calls: list[dict[str, Any]] = []

    def set_progress_bar_config(self, **options: Any) -> None:
        assert options == {"disable": True}

    def __call__(
        self,
        prompt: list[str],
        generator: list[torch.Generator],
        num_inference_steps: int = 20,
        height: int = 1024,
        width: int = 1024,
        use_resolution_binning: bool = True,
        output_type: str = "pil",
        max_sequence_length: int = 300,
        complex_human_instruction: list[str] | None = ["Improve the prompt."],  # noqa: B006
    ) -> Any:
        self.calls.append({"count": len(prompt), "steps": num_inference_steps, "side": height})
        self.text = (max_sequence_length, complex_human_instruction)
        assert not use_resolution_binning and width == height
        shift = self.drift if len(prompt) > 1 else 0.0
        arrays = [torch.rand(4, 4, 3, generator=one).numpy() + shift for one in generator]
        if output_type == "np":
            return SimpleNamespace(images=np.stack(arrays))
        images = [Image.fromarray((array * 200).astype(np.uint8)) for array in arrays]
        return SimpleNamespace(images=images, nsfw_content_detected=self.flags)


def fake(settings: Settings | None = None, **options: Any) -> tuple[TextToImage, FakePipeline]:
    pipe = FakePipeline(**options)
    return TextToImage(pipe, Source("fake", None, "1"), settings or Settings(device="cpu")), pipe


@pytest.mark.parametrize(("exact", "device"), [(False, "cpu"), (True, "cpu"), (True, "mps")])
def test_a_pipeline_that_minds_its_company_draws_one_at_a_time(
    caplog: pytest.LogCaptureFixture, exact: bool, device: str
) -> None:
    """On a CPU always, elsewhere where that is asked for."""
    generator, pipe = fake(Settings(exact=exact), drift=1e-7, device=device)
    assert generator.generated_on["exact"] is True
    with caplog.at_level(logging.WARNING):
        drawn = generator.generate(PROMPTS[:3], SEEDS[:3])
        generator.generate(PROMPTS[:3], SEEDS[:3])
    assert [call["count"] for call in pipe.calls] == [3, 1, 1, 1] + [1] * 6
    assert len(caplog.records) == 1 and "one at a time" in caplog.text
    single, _ = fake()
    assert pixels(drawn) == [
        pixels(single.generate([p], [s]))[0] for p, s in zip(PROMPTS[:3], SEEDS[:3], strict=True)
    ]


def test_the_check_is_short_and_made_once_a_batch_size() -> None:
    generator, pipe = fake(Settings(steps=30))
    for count in (8, 8, 3, 8):
        generator.generate(PROMPTS[:count], SEEDS[:count])
    assert [(call["count"], call["steps"]) for call in pipe.calls] == [
        *[(8, 2), (1, 2), (1, 2), (1, 2), (1, 2), (8, 30), (8, 30)],
        *[(3, 2), (1, 2), (1, 2), (1, 2), (3, 30), (8, 30)],
    ]


def test_whole_batches_are_generated_on_a_gpu() -> None:
    generator, pipe = fake(Settings(), drift=1e-7, device="mps")
    generator.generate(PROMPTS, SEEDS)
    assert [call["count"] for call in pipe.calls] == [8]
    assert generator.generated_on["exact"] is False


def test_a_fixed_default_size_gives_way_to_the_checkpoint() -> None:
    generator, pipe = fake()
    generator.generate(["a dog"], [1])
    larger, larger_pipe = fake(Settings(height=640, width=640))
    larger.generate(["a dog"], [1])
    assert pipe.calls[0]["side"] == 512 and larger_pipe.calls[0]["side"] == 640


@pytest.mark.parametrize(
    ("tokenizers", "length"), [((77,), 77), ((512,), 300), ((77, 512), 300), ((), 300)]
)
def test_text_is_drawn_as_it_stands_and_padded_no_further_than_the_tokenizer(
    tokenizers: tuple[int, ...], length: int
) -> None:
    """With two tokenizers the length is meant for the second one."""
    generator, pipe = fake()
    for name, limit in zip(("tokenizer", "tokenizer_2"), tokenizers, strict=False):
        setattr(pipe, name, SimpleNamespace(model_max_length=limit))
    generator.generate(["a dog"], [1])
    assert pipe.text == (length, None)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_pipeline_that_fails_on_a_batch_draws_one_at_a_time(
    device: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Single(FakePipeline):
        def __call__(self, prompt: Any, generator: Any, **options: Any) -> Any:
            if len(prompt) > 1:
                raise RuntimeError("The size of tensor a (2) must match tensor b (4)")
            return super().__call__(prompt, generator, use_resolution_binning=False, **options)

    generator = TextToImage(Single(device=device), Source("fake", None, "1"), Settings())
    alone = [generator.generate([p], [s])[0] for p, s in zip("abc", (1, 2, 3), strict=True)]
    assert pixels(generator.generate(["a", "b", "c"], [1, 2, 3])) == pixels(alone)
    assert pixels(generator.generate(["c", "b"], [3, 2])) == pixels([alone[2], alone[1]])
    assert caplog.text.count("generated one at a time") == 1

    class Broken(FakePipeline):
        def __call__(self, prompt: Any, generator: Any, **options: Any) -> Any:
            raise RuntimeError("no weights")

    with pytest.raises(RuntimeError, match="no weights"):
        TextToImage(Broken(), Source("fake", None, "1"), Settings()).generate(["a", "b"], [1, 2])


def test_the_safety_checker_is_heard() -> None:
    generator, _ = fake(flags=[False, True], device="mps")
    assert [drawn.flagged for drawn in generator.generate(["a", "b"], [1, 2])] == [False, True]
    silent, _ = fake(flags=None, device="mps")
    assert [drawn.flagged for drawn in silent.generate(["a", "b"], [1, 2])] == [False, False]


def test_what_the_pipeline_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="FakePipeline has no negative_prompt"):
        fake(Settings(negative_prompt="blurry"))
    with pytest.raises(UserError, match="FakePipeline has no guidance_scale"):
        fake(Settings(guidance=3.0))

    class NoText(FakePipeline):
        def __call__(self, generator: Any = None) -> Any:
            raise AssertionError

    with pytest.raises(UserError, match="NoText takes no prompt"):
        TextToImage(NoText(), Source("fake", None, "1"), Settings())


def test_errors_while_drawing_are_sentences() -> None:
    class Moody(FakePipeline):
        error: Exception

        def __call__(self, prompt: Any, generator: Any, output_type: str = "pil") -> Any:
            if self.error:
                raise self.error
            return SimpleNamespace(frames=[])

    pipe = Moody()
    generator = TextToImage(pipe, Source("fake", None, "1"), Settings())
    for pipe.error, sentence in (
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory with a single image"),
        (ValueError("height has to be divisible by 16"), "refuses this: height has to be"),
        (None, "does not give one image per prompt"),
    ):
        with pytest.raises(UserError, match=sentence):
            generator.generate(["a"], [1])


def test_running_out_of_memory_halves_the_batch_and_changes_no_image(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(steps=2, device="cpu")
    prompts, seeds = [f"{n} dogs" for n in range(7)], list(range(7))
    whole = TextToImage.load(str(tiny), settings=settings).generate(prompts, seeds)
    small = TextToImage.load(str(tiny), settings=settings)
    original, sizes = small._pipe, []

    class Small:
        def __call__(self, prompt: Any, **arguments: Any) -> Any:
            sizes.append(len(prompt))
            if len(prompt) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(prompt, **arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(original, name)

    small._pipe = Small()
    drawn = small.generate(prompts, seeds)
    assert [np.asarray(d.image).tobytes() for d in drawn] == [
        np.asarray(d.image).tobytes() for d in whole
    ]
    assert "out of memory with 7 images at a time; from now on 3" in caplog.text
    assert "from now on 1" in caplog.text
    sizes.clear()
    small.generate(prompts, seeds)
    assert set(sizes) == {1}


def test_a_library_warning_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    class Chatty(FakePipeline):
        def __call__(self, prompt: Any, generator: Any, output_type: str = "pil") -> Any:
            logging.getLogger("diffusers.somewhere").warning("cut: %s", prompt[0])
            return super().__call__(
                prompt, generator, use_resolution_binning=False, output_type=output_type
            )

    handler = Listener()
    logging.getLogger("diffusers").addHandler(handler)
    try:
        generator = TextToImage(Chatty(), Source("fake", None, "1"), Settings())
        for prompt in ("a", "b", "c"):
            generator.generate([prompt], [1])
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert said == ["cut: a"]

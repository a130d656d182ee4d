"""The report: one well-formed, self-contained page that says what it was given, escaped."""

from __future__ import annotations

import base64
import io
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from t2ipal.files import write_text
from t2ipal.metrics.evaluation import evaluate
from t2ipal.metrics.gap import ModalityGap, _PairGap
from t2ipal.report.content import (
    Accuracy,
    CaptionCard,
    MethodResult,
    ReportContent,
    TaggedScene,
    mean,
    spread,
)
from t2ipal.report.page import _inlined, _percent, _signed, report_page

VOID = {"meta", "img", "br", "hr", "link", "input"}
SCORES = np.array([[2.0, -1, -2], [1, 2, -2], [-2, 1, -3], [-1, -2, -4]])
TARGETS = np.array([[1, 0, 0], [0, 1, 0], [1, -1, 0], [0, 0, 0]])
NASTY = "<script>alert('x')</script> \"dog\" & cat"


class Page(HTMLParser):
    """Checks nesting while it collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"attribute twice in <{tag}>"
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def image(colour: tuple[int, int, int] = (40, 120, 60), size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


@pytest.fixture
def content() -> ReportContent:
    heat = np.arange(16.0).reshape(4, 4)
    return ReportContent(
        title=f"Report {NASTY}",
        command=f"t2ipal run --out {NASTY}",
        classes=("dog", "cat", NASTY),
        summary="One sentence.",
        methods=(
            MethodResult("zero-shot", (0.5,), class_ap=(0.4, 0.6, math.nan)),
            MethodResult(
                "t2i-pal",
                (0.75, 0.77, 0.79),
                cf1=(0.5, 0.5, 0.5),
                of1=(0.61, 0.61, 0.61),
                class_ap=(0.7, 0.84, math.nan),
                note=NASTY,
            ),
            MethodResult("without adapter", (0.73, 0.74, 0.75), group="ablation"),
            MethodResult("real images", (0.88, 0.89, 0.9), group="ceiling"),
        ),
        tested_on="12 scenes",
        facts=(("76.9", "mAP"),),
        next_steps=((f"Tag {NASTY}:", f"t2ipal predict {NASTY}"),),
        thresholds=(0.31, 0.42, 0.53),
        counts=(("dog", 1200, 40), ("cat", 0, 0)),
        captions=(CaptionCard(NASTY, ("dog",), (image(), image()), unknown=("cat",), rejected=2),),
        scenes=(
            TaggedScene(
                image(size=200),
                true=("dog", "bird"),
                predictions=(
                    ("dog", 0.91, True, heat),
                    ("cat", 0.62, True, heat.T),
                    ("train", 0.5, True, None),
                    (NASTY, 0.04, False, None),
                ),
                unknown=("train",),
            ),
        ),
        accuracy=Accuracy.of(
            ("dog", "cat", NASTY), SCORES, TARGETS, 1 / (1 + np.exp(-SCORES)), SCORES > 0
        ),
        mistakes=(TaggedScene(image(), ("cat",), ((NASTY, 0.8, True, heat),), fault="dog: no"),),
        gap=ModalityGap(
            (_PairGap("captions", "real", 0.98765, 0.999, 50),),
            {"captions": np.array([[0.0, 0.0], [1.0, 1.0]]), "real": np.array([[2.0, 1.0]])},
        ),
        warnings=(f"No caption names {NASTY}.",),
        settings=(("train.epochs", "7", "20"), ("captions", NASTY, "")),
        config="config.yaml",
        made=(("torch", "9.8.7"),),
    )


def test_the_page_is_well_formed_and_says_everything(content):
    page = Page(report_page(content))
    for words in (
        "One sentence.",
        "76.9",
        "77.0 ± 2.0",
        "50.0",
        "Ablations",
        "Ceiling",
        "12 scenes",
        "Mean ± standard deviation over 3 seeds",
        "1,200 · 40",
        "2 rejected",
        "dog 0.91",
        "0.988",
        "99.9",
        "9.8.7",
        "train.epochs 7 20",
        "t2ipal predict <script>",
        "Last column: the probability from which the model gives the class as a tag.",
        "Mean average precision. Per class",
        "a rare class counts as much",
        "a common class counts more",
    ):
        assert words in page.text, words


def test_what_is_typed_is_escaped_and_nothing_runs(content):
    source = report_page(content)
    page = Page(source)
    assert "<script" not in source
    assert page.text.count("<script>alert('x')</script>") >= 9  # shown as text
    assert not page.all("script")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_nothing_comes_from_outside(content):
    source = report_page(content)
    page = Page(source)
    for _, attributes in page.tags:
        for name in ("src", "srcset", "data", "poster", "action"):
            assert attributes.get(name, "data:image/").startswith("data:image/")
    sections = {f"#{attributes['id']}" for attributes in page.all("section")}
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert set(links) == {*sections, "config.yaml"} and len(sections) == 11
    assert "http:" not in source and "https:" not in source
    assert "@import" not in source and "url(" not in source
    assert not page.all("link") and not page.all("iframe")
    (policy,) = [tag["content"] for tag in page.all("meta") if "http-equiv" in tag]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")


def test_every_image_is_inlined_has_words_and_opens(content):
    images = Page(report_page(content)).all("img")
    assert len(images) == 2 + 3 + 2  # generated images, a scene and a mistake with overlays
    for attributes in images:
        assert attributes["alt"]
        data = base64.b64decode(attributes["src"].split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.size == (int(attributes["width"]), int(attributes["height"]))


def test_tags_are_marked_right_wrong_or_missed(content):
    source = report_page(content)
    assert '<span class="chip hit" title="right">dog 0.91</span>' in source
    assert '<span class="chip wrong" title="wrong">cat 0.62</span>' in source
    assert '<span class="chip unknown" title="truth unknown">train 0.50</span>' in source
    assert '<span class="chip missed" title="missed">bird</span>' in source
    assert source.count('class="chip below"') == 2  # in the key and in the scene


def test_classes_are_ordered_by_ap_and_the_undefined_comes_last(content):
    source = report_page(content)
    chart = source[source.index("<h2>Average precision per class") :]
    places = [chart.index(f'<span class="key">{name}') for name in ("cat", "dog", "&lt;script")]
    assert places == sorted(places)
    assert "mAP leaves it out" in chart


def test_bars_are_as_long_as_their_figures(content):
    page = Page(report_page(content))
    widths = [rect["width"] for rect in page.all("rect") if rect.get("class") == "fill"]
    assert widths[:4] == ["50.00%", "77.00%", "74.00%", "89.00%"]
    dots = [circle["cx"] for circle in page.all("circle") if "%" in circle["cx"]]
    assert dots[:2] == ["60.00%", "40.00%"]  # zero-shot on cat, then on dog


def test_the_difference_is_against_the_focus(content):
    text = Page(report_page(content)).text
    assert "against t2i-pal" in text
    assert "\N{MINUS SIGN}27.0" in text and "+12.0" in text


def test_an_empty_report_is_a_page_without_sections():
    page = Page(report_page(ReportContent("Nothing yet", "", ("dog",))))
    assert not page.all("section") and not page.all("aside") and not page.all("nav")
    assert "Nothing yet" in page.text


def test_a_report_without_test_images_still_shows_the_thresholds():
    source = report_page(ReportContent("Own", "", ("dog", "cat"), thresholds=(0.25, 0.5)))
    page = Page(source)
    assert "Threshold per class" in page.text and "Average precision" not in page.text
    widths = [rect["width"] for rect in page.all("rect") if rect.get("class") == "fill"]
    assert widths == ["25.00%", "50.00%"]
    assert "dog ≥ 0.25" in page.text and "cat ≥ 0.50" in page.text


def test_thresholds_stand_beside_the_class_that_they_are_of(content):
    chart = Page(report_page(content)).text
    assert "cat 84.0 ≥ 0.42" in chart and "dog 70.0 ≥ 0.31" in chart
    assert f"{NASTY} \N{EN DASH} ≥ 0.53" in chart


def test_a_series_keeps_its_colour_where_another_is_undefined():
    methods = [
        MethodResult("zero-shot", (0.5,), class_ap=(math.nan,)),
        MethodResult("tai-dpt", (0.5,), class_ap=(0.25,)),
        MethodResult("t2i-pal", (0.5,), class_ap=(0.5,)),
    ]
    page = Page(report_page(ReportContent("t", "", ("dog",), methods=tuple(methods))))
    dots = [circle["class"] for circle in page.all("circle") if "%" in circle["cx"]]
    assert dots == ["s2"]


def test_the_file_is_written_whole_and_the_same_each_time(content, tmp_path):
    write_text(tmp_path / "report.html", report_page(content))
    first = (tmp_path / "report.html").read_bytes()
    write_text(tmp_path / "report.html", report_page(content))
    assert (tmp_path / "report.html").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_photos_are_scaled_down_and_light():
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 255, (900, 1200, 3), dtype=np.uint8))
    content = ReportContent("t", "", ("dog",), captions=(CaptionCard("noise", (), (noise,)),))
    (tag,) = Page(report_page(content)).all("img")
    assert (tag["width"], tag["height"]) == ("256", "192") and len(tag["src"]) < 120_000
    assert noise.size == (1200, 900)  # the caller's image is left alone
    small = Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    data = base64.b64decode(_inlined(small).address.split(",", 1)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(small))


def test_figures_are_formatted():
    assert _percent(0.76349) == "76.3" and _percent(math.nan) == "\N{EN DASH}"
    assert _signed(0.0341) == "+3.4" and _signed(-0.007) == "\N{MINUS SIGN}0.7"
    assert _signed(-0.00001) == "0.0" and _signed(math.nan) == "\N{EN DASH}"
    methods = (MethodResult("one", (0.5,)), MethodResult("three", (0.49, 0.50, 0.51)))
    source = report_page(ReportContent("t", "", ("dog",), methods=methods))
    assert '<td class="figure" title="by seed: 50.0"><b>50.0</b></td>' in source
    assert 'title="by seed: 49.0, 50.0, 51.0"><b>50.0</b> <span class="spread">± 1.0<' in source
    assert math.isnan(mean(())) and math.isnan(spread((0.3,)))
    assert spread((1.0, 2.0, 4.0)) == pytest.approx(np.std([1, 2, 4], ddof=1))


def test_a_row_is_made_of_one_evaluation_a_seed():
    targets = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.int8)
    runs = [
        evaluate(np.random.default_rng(seed).normal(size=(3, 2)), targets, ("a", "b"))
        for seed in range(3)
    ]
    row = MethodResult.of("t2i-pal", runs, note="all of it")
    assert row.mean_ap == tuple(run.mean_average_precision for run in runs)
    assert row.class_ap[1] == pytest.approx(np.mean([run.average_precision[1] for run in runs]))
    assert row.cf1[0] == runs[0].top_k.class_f1 and row.of1[2] == runs[2].top_k.overall_f1


def test_content_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="no figure"):
        MethodResult("zero-shot", ())
    with pytest.raises(ValueError, match="none of"):
        MethodResult("zero-shot", (0.5,), group="other")
    row = MethodResult("zero-shot", (0.5,), class_ap=(0.5,))
    with pytest.raises(ValueError, match="1 AP figures for 2 classes"):
        ReportContent("t", "c", ("dog", "cat"), methods=(row,))
    with pytest.raises(ValueError, match="1 thresholds for 2 classes"):
        ReportContent("t", "c", ("dog", "cat"), thresholds=(0.5,))
    with pytest.raises(ValueError, match="focus"):
        ReportContent("t", "c", ("dog",), methods=(row,), focus="tai-dpt")


def test_curves_are_drawn_where_their_figures_are(content):
    accuracy = content.accuracy
    # Dog: the images rank right, wrong, wrong, right; the third's cat is unknown.
    assert accuracy.average_precision[:2] == ((1 + 2 / 4) / 2, 1.0)
    assert [(row.tagged, row.shown) for row in accuracy.tags] == [(2, 2), (1, 1), (0, 0)]
    assert (accuracy.tags[0].precision, accuracy.tags[0].recall) == (0.5, 0.5)
    page = Page(report_page(content))
    lines = [line["points"].split() for line in page.all("polyline")]
    dog, cat, mean_of_both, reliability = lines  # the class that no image shows has no line
    assert dog[0] == "0,0" and dog[25] == "100,0" and dog[26] == "104,100" and dog[-1] == "200,100"
    assert set(cat[1:]) == {f"{4 * i},0" for i in range(1, 51)}
    assert mean_of_both[-1] == "200,50"
    assert len(reliability) == len(accuracy.reliability)
    assert "dog, AP 75.0" in page.text
    table = page.text[page.text.index("Tags at the thresholds") :]
    assert "dog 0.31 50.0 50.0 2 2 cat 0.42 100.0 100.0 1 1" in table  # lowest F1 first


def test_the_map_keeps_its_shape(content):
    page = Page(report_page(content))
    dots = [(dot["cx"], dot["cy"]) for dot in page.all("circle") if dot.get("r") == "1.6"]
    assert dots == [("0.0", "150.0"), ("100.0", "50.0"), ("200.0", "50.0")]


def test_a_model_that_no_test_image_suits_still_has_a_page():
    none = np.full((2, 1), -1)
    accuracy = Accuracy.of(("dog",), np.zeros((2, 1)), none, np.zeros((2, 1)), none > 0)
    page = Page(report_page(ReportContent("t", "", ("dog",), accuracy=accuracy)))
    assert "Tags at the thresholds" in page.text and not page.all("polyline")

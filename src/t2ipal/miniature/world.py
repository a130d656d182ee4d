"""What exists in the miniature's world: classes, their words and icons, places, companions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class _Thing:
    """One class of the world.

    Attributes:
        name: the class's key; the first twenty are VOC2007's, spelt as in its devkit.
        words: singular nouns a caption may use for it, the plain one first.
        icons: emoji short names that depict it, in the naming of the Iconify icon sets;
            those that start with ``drawn-`` are drawn by ``tools/miniature/icons.py``.
    """

    name: str
    words: tuple[str, ...]
    icons: tuple[str, ...]


def _thing(name: str, words: str, icons: str) -> _Thing:
    return _Thing(name, tuple(words.split("|")), tuple(icons.split()))


VOC: tuple[_Thing, ...] = (
    _thing("aeroplane", "aeroplane|airplane|plane|jet|airliner", "airplane small-airplane"),
    _thing("bicycle", "bicycle|bike", "bicycle"),
    _thing("bird", "bird|duck|parrot|dove|eagle|owl", "bird parrot dove eagle duck owl"),
    _thing("boat", "boat|sailboat|ship|canoe|ferry", "sailboat speedboat ship canoe motor-boat"),
    _thing("bottle", "bottle", "bottle-with-popping-cork baby-bottle lotion-bottle"),
    _thing("bus", "bus|coach", "bus oncoming-bus"),
    _thing("car", "car|automobile|taxi|sedan", "automobile sport-utility-vehicle taxi"),
    _thing("cat", "cat|kitten|kitty", "cat cat-face"),
    _thing("chair", "chair|seat", "chair"),
    _thing("cow", "cow|bull|calf", "cow cow-face"),
    _thing(
        "diningtable",
        "dining table|table|dinner table",
        "drawn-table-1 drawn-table-2 drawn-table-3",
    ),
    _thing("dog", "dog|puppy|hound", "dog dog-face poodle guide-dog"),
    _thing("horse", "horse|pony", "horse horse-face"),
    _thing("motorbike", "motorbike|motorcycle|scooter", "motorcycle motor-scooter"),
    _thing(
        "person",
        "person|man|woman|boy|girl|child|lady|guy",
        "person-standing man-standing woman-standing person-walking person-running man woman boy "
        "girl",
    ),
    _thing("pottedplant", "potted plant|houseplant|plant in a pot", "potted-plant"),
    _thing("sheep", "sheep|lamb|ram", "ewe ram"),
    _thing("sofa", "sofa|couch", "couch-and-lamp"),
    _thing("train", "train|locomotive|tram", "locomotive train high-speed-train"),
    _thing("tvmonitor", "tv monitor|television|tv|monitor", "television desktop-computer"),
)

DISTRACTORS: tuple[_Thing, ...] = (
    _thing("apple", "apple", "red-apple green-apple"),
    _thing("banana", "banana", "banana"),
    _thing("pizza", "pizza", "pizza"),
    _thing("cake", "cake", "birthday-cake shortcake"),
    _thing("umbrella", "umbrella|parasol", "umbrella-with-rain-drops umbrella-on-ground"),
    _thing("clock", "clock", "alarm-clock mantelpiece-clock"),
    _thing("ball", "ball|football|basketball", "soccer-ball basketball"),
    _thing("book", "book", "books closed-book open-book"),
    _thing("cup", "cup|mug", "hot-beverage teacup-without-handle"),
    _thing("key", "key", "key"),
    _thing("guitar", "guitar", "guitar"),
    _thing("flower", "flower|sunflower|rose|tulip", "sunflower tulip rose"),
    _thing("tree", "tree|palm tree", "deciduous-tree evergreen-tree palm-tree"),
    _thing("fish", "fish", "fish tropical-fish"),
    _thing("elephant", "elephant", "elephant"),
    _thing("giraffe", "giraffe", "giraffe"),
    _thing("zebra", "zebra", "zebra"),
    _thing("bear", "bear", "bear"),
    _thing("truck", "truck|lorry", "delivery-truck articulated-lorry"),
    _thing("traffic light", "traffic light", "vertical-traffic-light"),
    _thing("bed", "bed", "bed"),
    _thing("laptop", "laptop", "laptop"),
    _thing("phone", "phone|cell phone", "mobile-phone"),
    _thing("scissors", "pair of scissors", "scissors"),
    _thing("donut", "donut|doughnut", "doughnut"),
    _thing("carrot", "carrot", "carrot"),
    _thing("toilet", "toilet", "toilet"),
    _thing("backpack", "backpack|bag", "backpack"),
    _thing("tie", "tie|necktie", "necktie"),
    _thing("teddy bear", "teddy bear|stuffed animal", "teddy-bear"),
    _thing("house", "house|building", "house"),
)

THINGS: tuple[_Thing, ...] = VOC + DISTRACTORS
INDEX: dict[str, int] = {thing.name: i for i, thing in enumerate(THINGS)}


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split())


# Things that occur together, and where; a scene takes its things from one of these circles.
CIRCLES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        _names(
            "chair sofa diningtable tvmonitor pottedplant bottle cat dog person bed laptop cup "
            "book clock phone cake pizza flower guitar toilet apple banana donut carrot scissors "
            "key"
        ),
        ("room", "kitchen", "wall"),
    ),
    (
        (
            "traffic light",
            *_names("car bus bicycle motorbike person train dog truck tree house umbrella"),
            *_names("backpack bird cat"),
        ),
        ("street", "city", "night", "snow"),
    ),
    (
        _names(
            "cow horse sheep dog person bird tree cat flower house giraffe elephant zebra bear ball"
        ),
        ("field", "forest", "desert", "snow"),
    ),
    (_names("boat bird person fish dog umbrella ball aeroplane"), ("sea", "beach")),
    (_names("aeroplane bird person car train"), ("sky", "night", "field")),
)

# A place's words in a caption; every drawing of it is made by scenes.background.
PLACES: dict[str, tuple[str, ...]] = {
    "room": ("in a room", "in the living room", "inside a house"),
    "kitchen": ("in a kitchen", "in the kitchen"),
    "wall": ("in front of a wall", "against a wall"),
    "street": ("on a street", "on the road", "in the street", "on a city street"),
    "city": ("in the city", "in town", "in a parking lot"),
    "night": ("at night", "in the dark"),
    "snow": ("in the snow", "on a snowy day"),
    "field": ("in a field", "on the grass", "in a grassy field", "in a park"),
    "forest": ("in a forest", "in the woods"),
    "desert": ("in the desert", "on the sand"),
    "sea": ("on the water", "on a lake", "at sea"),
    "beach": ("on the beach", "at the beach", "by the sea"),
    "sky": ("in the sky", "under a blue sky", "up in the air"),
}

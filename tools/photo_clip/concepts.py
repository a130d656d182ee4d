"""The words that the model learns, and which of them each captioned photo and ImageNet class shows.

Three sources: the classes of VOC, COCO and NUS-WIDE with their synonyms (a photo's five captions,
read by the noun filter, say which are present), every frequent content word of the captions, and
the names of ImageNet's 1,000 classes with general words for groups of them (``GROUPS``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import lemminflect
import numpy as np
from timm.data import ImageNetInfo

from t2ipal.captions.labelled import label_captions
from t2ipal.vocabulary import Vocabulary

VOCABULARIES = ("voc2007", "coco2014", "nuswide")
LEAST = 12  # captions that must use a word before it is learned

# General words, and the indices of the ImageNet classes that they name.
GROUPS: dict[str, str] = {
    "fish|fishes": "0-6,389-397",
    "shark": "2-4",
    "bird|small bird|birds": "7-24,80-100,127-146",
    "chicken|rooster|hen|poultry": "7,8",
    "bird of prey|hawk|eagle": "21-23",
    "owl": "24",
    "songbird|finch|sparrow": "10-20",
    "parrot|parakeet": "87-90",
    "duck|goose|waterfowl|swan": "97-100",
    "seabird|seagull|pelican": "144-146",
    "heron|stork|egret|wading bird": "127-136",
    "salamander|newt": "25-29",
    "frog|toad": "30-32",
    "turtle|tortoise": "33-37",
    "lizard": "38-48",
    "crocodile|alligator": "49-50",
    "reptile": "33-68",
    "snake": "52-68",
    "spider": "72-77",
    "insect|bug": "300-326",
    "beetle": "300-307",
    "butterfly": "321-326",
    "crab|lobster": "118-125",
    "shell|snail": "112-117",
    "kangaroo|wallaby": "104",
    "whale|dolphin": "147-148",
    "dog|dogs|puppy|hound|pet dog": "151-268",
    "terrier": "179-204",
    "retriever|labrador": "205-209",
    "spaniel": "156,215-221",
    "hound": "160-178",
    "sheepdog|collie": "229-233",
    "husky": "248-250",
    "poodle": "265-267",
    "wolf|wolves": "269-274",
    "fox": "277-280",
    "cat|cats|kitten|house cat|domestic cat|pet cat": "281-285",
    "big cat|wildcat": "286-293",
    "lion": "291",
    "tiger": "292",
    "bear|bears": "294-297",
    "panda": "387-388",
    "rabbit|bunny": "330-332",
    "squirrel": "335",
    "rodent|rat": "333-338",
    "horse|horses|pony|mare|stallion": "339,603",
    "zebra": "340",
    "pig|hog|boar": "341-343",
    "cow|cows|cattle|bull|ox|calf": "345-346,690",
    "buffalo|bison": "346-347",
    "sheep|ram|lamb|goat|flock of sheep": "348-350",
    "goat": "350",
    "deer|antelope": "351-353",
    "camel": "354",
    "llama|alpaca": "355",
    "monkey|ape": "365-382",
    "elephant|elephants": "101,385-386",
    "animal|animals|creature": "0-397",
    "wild animal|wildlife": "269-297,340,342-354,365-388",
    "airplane|aeroplane|plane|aircraft|jet|airliner|fighter jet|passenger jet": "404,895,908",
    "bicycle|bike|bicycles|mountain bike": "444,671",
    "boat|boats|ship|sailboat|vessel|watercraft": (
        "403,472,484,510,554,576,625,628,724,780,814,871,914"
    ),
    "sailboat|yacht|sailing boat": "484,780,871,914",
    "canoe|kayak|rowboat": "472",
    "ship|ferry|cruise ship": "403,510,628,724",
    "motorboat|speedboat": "554,625,814",
    "bottle|bottles|glass bottle|plastic bottle": "440,720,737,898,907",
    "bus|buses|coach|city bus|double decker bus": "654,779,874",
    "car|cars|automobile|sedan|van|vehicle|parked car": (
        "407,436,468,511,581,609,627,656,661,705,717,734,751,817"
    ),
    "truck|trucks|lorry|pickup truck": "555,569,675,717,864,867",
    "van|minivan": "654,656,675,734",
    "taxi|cab": "468",
    "vehicle|vehicles": (
        "407,436,444,466,468,511,547,555,565,569,573,575,586,609,612,627,654,656,661,665,670,671,"
        "675,705,717,734,751,757,779,802,803,817,820,829,847,864,866,867,870,874"
    ),
    "chair|chairs|armchair|seat|wooden chair": "423,559,765,857",
    "dining table|table|kitchen table|dinner table": "532,762",
    "desk|office desk": "526",
    "restaurant": "762",
    "motorbike|motorcycle|motorcycles|moped|motor scooter|scooter": "665,670",
    "person|people|man|woman|human": "981-983",
    "baseball player|player": "981",
    "clothes|clothing|dress": (
        "399,400,411,445,474,568,578,608,610,614,617,638,639,652,655,689,697,735,775,834,841,842,"
        "869,887"
    ),
    "potted plant|plant|houseplant|flowerpot|plant in a pot|indoor plant": "738",
    "vase": "883",
    "flower|flowers|blossom": "985,986",
    "plant": "738,984-986",
    "sofa|couch|settee|loveseat": "831",
    "bed": "564,831,431,516,520",
    "furniture": ("423,453,493,495,526,532,548,553,559,564,703,765,831,857,894,736,846"),
    "train|trains|locomotive|railway train|passenger train": "466,547,565,705,820,829",
    "tram|streetcar": "829",
    "tv monitor|monitor|computer monitor|computer screen|screen": "527,664,782",
    "tv|television|tv set|television set|flat screen": "598,548,851",
    "computer|desktop computer": "508,527,590,620,664,681,782",
    "laptop|laptop computer": "620,681",
    "keyboard|computer keyboard": "508,810,878",
    "mouse|computer mouse": "673",
    "cell phone|mobile phone|phone|cellphone": "487,528,605,707",
    "camera": "732,759",
    "clock": "409,530,892",
    "watch": "531,826",
    "cup|mug|coffee cup": "504,968,967",
    "wine glass|glass": "441,572,966",
    "drink|beverage": "441,504,572,966,967,969",
    "bowl": "659,809",
    "plate|dish": "923",
    "food|meal": "415,467,582,924-939,943,945,948-957,959-967",
    "fruit": "948-957",
    "vegetable|vegetables": "936-947,987",
    "banana": "954",
    "apple": "948",
    "orange": "950",
    "pizza": "963",
    "sandwich|burger|hamburger": "933",
    "hot dog": "934",
    "bread|loaf of bread": "930-932",
    "ice cream": "928,929",
    "cake|dessert": "927,928,960",
    "oven|stove": "827,651,544",
    "refrigerator|fridge": "760",
    "sink|washbasin": "896",
    "toilet": "861,999",
    "bathtub|bath": "435,876",
    "backpack": "414",
    "handbag|purse|bag": "748,636,728",
    "suitcase|luggage": "414,748,893",
    "umbrella": "879",
    "tie|necktie": "451,457,906",
    "hat|cap": "439,452,515,518,560,667,808",
    "helmet": "518,560",
    "shoe|shoes|boots": "502,514,630,770,774",
    "glasses|sunglasses": "836,837",
    "ball|sports ball": "429,430,522,574,722,768,805,852,890",
    "soccer ball|football": "805",
    "tennis racket|racket": "752",
    "skis|skiing|ski": "795",
    "skateboard|skateboarding": "",
    "kite": "701",
    "toy": "850,865",
    "teddy bear": "850",
    "book|books": "453,454,624,917,921",
    "bookshelf": "453,454,624",
    "lamp": "470,619,846",
    "musical instrument": (
        "401,402,420,432,486,513,541,546,558,566,579,593,594,641,642,683,684,687,699,776,875,881,"
        "889"
    ),
    "guitar": "402,546",
    "piano": "579,881",
    "gun|rifle": "413,763,764",
    "knife": "499,623",
    "fork|spoon": "910,618,813",
    "scissors": "",
    "sign|street sign": "919",
    "stop sign": "919",
    "traffic light": "920",
    "parking meter": "704",
    "fire hydrant": "",
    "bench": "703",
    "fence": "489,716,912",
    "bridge": "821,839,888",
    "building|house": "425,449,483,497,580,663,668,698,832,853,660",
    "church|temple": "497,663,668,832",
    "castle": "483,698",
    "tower": "437,682,900",
    "statue": "682,863,708",
    "window": "904,905,799,789",
    "store|shop": "415,454,467,509,582,788,860,865",
    "mountain|mountains|hill": "970,972,979,980",
    "valley": "979",
    "beach|ocean|sea|coast": "977,978,976",
    "lake|water|river": "975",
    "coral|reef": "973",
    "snow|snowy mountain": "795,802,803,970,537",
    "boathouse|dock|pier": "449,536,718,460",
    "bathroom": "435,794,861,896,999",
    "kitchen": "651,760,827,534,859,567",
    "living room": "548,598,831,556",
    "tractor|farm machine": "595,856,866",
    "tank|military": "413,586,652,657,744,847,895",
    "swimming pool|swimming": "433,638,639,801,842",
    "grass|hay": "958",
    "mushroom": "947,991-997",
    "hair dryer|hair drier": "589",
    "toaster": "859",
    "microwave": "651",
    "remote control|remote": "761",
    "baseball": "429,981",
    "basketball": "430",
    "horse carriage|horse cart": "603",
    "cart": "428,603,690,791",
}

_STOP = frozenset(
    """a on in the of with and is to at an are next holding that it some up by while has through
    other there from one their into as behind over this very out its her his old each together
    along off down different being across for be do does have had having has get gets getting like
    about lot lots both they them him himself itself us you i we or but so not no any all what who
    which where when how here they been was were will can made make makes making just way between
    onto above below around near another several many few most other others something someone
    against during after before towards toward among upside taking take takes taken put puts putting
    st t s d else well too also etc than then these those only if may same such per via without
    within upon outside inside beside besides atop underneath beneath alongside nearby doing done
    go goes going gone come comes coming see seen show shown shows showing look looks looking
    whilst using used use uses kind kinds type types sort variety various number bunch set piece
    pieces part parts right left back front side sides middle half full ready top bottom end view
    background foreground area place places placed thing things item items first second""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Concepts:
    """Texts with what each photo and each ImageNet class says about them.

    Attributes:
        texts: the K words and phrases.
        photos: [N, K] int8, 1 shown, 0 not shown, -1 unknown.
        mentions: [N, K] int8, how many of a photo's five captions use the words.
        imagenet: [1000, K] int8, likewise for the classes of ImageNet.
        lemmas: for each ImageNet class, the position of its first name.
    """

    texts: list[str]
    photos: np.ndarray
    mentions: np.ndarray
    imagenet: np.ndarray
    lemmas: list[int]


@cache
def lemma(word: str) -> str:
    """The singular of a noun; other words stay as they are."""
    found = lemminflect.getLemma(word, "NOUN")
    return str(found[0]) if found else word


def words(text: str) -> list[str]:
    return [lemma(word) for word in re.findall(r"[a-z]+", text.lower())]


def spans(indices: str) -> list[int]:
    """``"1-3,7"`` -> [1, 2, 3, 7]."""
    found: list[int] = []
    for part in filter(None, indices.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def imagenet_names() -> list[list[str]]:
    """The names of every ImageNet class, Latin ones left out: they are not what people write."""
    info = ImageNetInfo("imagenet-1k")
    classes = []
    for index in range(1000):
        names = [name.strip() for name in info.index_to_description(index).split(",")]
        plain = [
            name.lower()
            for name in names
            if not re.fullmatch(r"[A-Z][a-z]+ [a-z]+( [a-z]+)?", name) or index in range(151, 269)
        ]
        classes.append((plain or [names[0].lower()])[:3])
    # names with two meanings, told apart
    for index, name in {
        21: ["kite bird", "bird of prey"], 134: ["crane bird"], 517: ["construction crane"],
        639: ["maillot swimsuit", "tank suit"], 638: ["maillot", "one-piece swimsuit"],
        313: ["stick insect"], 312: ["cricket insect"], 677: ["metal nail"], 908: ["airplane wing"],
        744: ["projectile"], 673: ["computer mouse"], 732: ["polaroid camera"],
        242: ["boxer dog"], 726: ["carpenter's plane"], 488: ["chain"], 657: ["missile"],
        768: ["rugby ball"], 998: ["ear of corn"], 836: ["sunglass lens"], 783: ["screw"],
    }.items():  # fmt: skip
        classes[index] = name
    return classes


def _vocabulary_labels(captions: Sequence[Sequence[str]]) -> dict[str, tuple[np.ndarray, str]]:
    """Text -> (labels [N] 1, 0 or -1, class it belongs to), from the noun filter."""
    found: dict[str, np.ndarray] = {}
    flat = [text for five in captions for text in five]
    owner = np.repeat(np.arange(len(captions)), [len(five) for five in captions])
    for name in VOCABULARIES:
        vocabulary = Vocabulary.load(name)
        shown = np.zeros((len(captions), len(vocabulary)), np.int8)
        doubtful = np.zeros_like(shown, bool)
        for photo, row in zip(owner, label_captions(flat, vocabulary), strict=True):
            for label in row.labels:
                shown[photo, vocabulary.index(label)] += 1
            for label in row.unknown:
                doubtful[photo, vocabulary.index(label)] = True
        labels = np.where(shown > 0, 1, np.where(doubtful, -1, 0)).astype(np.int8)
        for column, item in enumerate(vocabulary.classes):
            for phrase in dict.fromkeys((vocabulary.readable[column], *item.synonyms)):
                text = phrase.lower()
                main = phrase == vocabulary.readable[column]
                if main or text not in found:
                    found[text] = (labels[:, column], "" if main else item.name)  # type: ignore[assignment]
    return found  # type: ignore[return-value]


def collect(captions: Sequence[Sequence[str]]) -> Concepts:
    """The concepts of N photos with their captions."""
    bags = [[set(words(text)) for text in five] for five in captions]
    count = Counter(word for five in bags for bag in five for word in bag)
    frequent = [w for w, n in count.items() if n >= LEAST and w not in _STOP and len(w) > 2]
    columns: dict[str, np.ndarray] = {}
    mentions: dict[str, np.ndarray] = {}
    for word in frequent:
        used = np.array([sum(word in bag for bag in five) for five in bags], np.int8)
        mentions[word] = used
        columns[word] = (used > 0).astype(np.int8)
    joined = [" " + " . ".join(" ".join(words(t)) for t in five) + " " for five in captions]
    for text, (labels, owner) in _vocabulary_labels(captions).items():
        if not owner:
            columns[text] = labels
            continue
        phrase = " " + " ".join(words(text)) + " "
        used = np.array([phrase in five for five in joined])
        # a synonym that nobody wrote may still be right for what is shown
        columns[text] = np.where(labels == 0, 0, np.where(used, 1, -1)).astype(np.int8)
    # in captions, a plant that is mentioned at all mostly stands in a pot
    planted = [any(word in five for word in (" plant ", " potted ")) for five in joined]
    columns["potted plant"] = np.where(planted, 1, columns["potted plant"]).astype(np.int8)
    anchors: dict[str, np.ndarray] = {}
    names = imagenet_names()
    for index, forms in enumerate(names):
        for name in forms:
            anchors.setdefault(name, np.zeros(1000, np.int8))[index] = 1
    for group, indices in GROUPS.items():
        for name in group.split("|"):
            anchors.setdefault(name, np.zeros(1000, np.int8))[spans(indices)] = 1
    texts = list(dict.fromkeys([*columns, *anchors]))
    unknown_photo = np.full(len(captions), -1, np.int8)
    unknown_class = np.full(1000, -1, np.int8)
    position = {text: index for index, text in enumerate(texts)}
    return Concepts(
        texts,
        np.stack([columns.get(text, unknown_photo) for text in texts], 1),
        np.stack([mentions.get(text, (unknown_photo * 0)) for text in texts], 1),
        np.stack([anchors.get(text, unknown_class) for text in texts], 1),
        [position[forms[0]] for forms in names],
    )

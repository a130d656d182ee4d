"""Phrases that hold a noun and do not mean it: "hot dog", "snow man", "bed of rice".

A phrase here wins over a shorter class word inside it, and loses to a class word as long as itself:
"hot dog" is no ``dog``, yet it is a ``hot dog`` where a vocabulary has that class. Plurals are
added when the filter is built. Only phrases that no rule can see through belong here: those whose
last word is not meant, and fixed expressions. Compounds in which the class word merely stands in
front ("dog food", "bus stop") need no entry, and phrases written as one word ("catfish") never
match a part of themselves.
"""

from __future__ import annotations

_PHRASES = """
animals:
hot dog, corn dog, chili dog, prairie dog, sea dog, top dog, dog days, fat cat, hello kitty, lol
cat, saw horse, sea horse, trojan horse, pommel horse, hobby horse, clothes horse, dark horse,
iron horse, charley horse, vaulting horse, work horse, teddy bear, gummy bear, care bear, koala
bear, water bear, smokey bear, smokey the bear, yogi bear, paddington bear, chicago bears, chicago
bulls, red bull, sitting bull, sea cow, holy cow, cash cow, battering ram, dodge ram, los angeles
rams, black sheep of, silence of the lambs, leg of lamb, rack of lamb, elephant in the room, white
elephant, guinea pig, sea lion, ant lion, eye of the tiger, paper tiger, tasmanian tiger, megan
fox, flying fox, bird of paradise, bird's eye view, birds eye view, bird's eye, birds eye, angry
bird, jail bird, donald duck, daffy duck, rubber duck, rubber ducky, lame duck, legal eagle, night
owl, cold turkey, rubber chicken, weather cock, scare crow, mickey mouse, minnie mouse, mighty
mouse, jelly fish, star fish, cray fish, cold fish, dragon fly, butter fly, fire fly, house fly,
horse fly, lady bug, lady bird, sitting duck,
people:
snow man, snow woman, snow lady, snow people, snow person, spider man, super man, iron man, bat
man, sand man, gingerbread man, lego man, straw man, stick man, stick figure, tin man, michelin
man, marlboro man, pac man, wicker man, bogey man, isle of man, wonder woman, cat woman, man of
war, man in the moon, man's best friend, village people, our lady, lady of the lake, cabbage patch
kid, tom boy, game boy, lazy boy, la z boy, po boy, play boy, record player, cd player, dvd
player, mp3 player, media player, music player, video player, cassette player, blu ray player,
tape player, vcr player, disc player, audio player, screw driver, disk driver, device driver,
dream catcher, wind catcher, sun catcher, oyster catcher, fly catcher, cake batter, pancake
batter, cookie batter, waffle batter, beer batter, bowl of batter, pitcher of water, pitcher of
beer, pitcher of milk, pitcher of tea, pitcher of juice, pitcher of lemonade, pitcher of sangria,
pitcher of ice, pitcher of flowers, water pitcher, glass pitcher, tea pitcher, juice pitcher, milk
pitcher, cream pitcher, table runner, carpet runner, hall runner, blade runner, road runner, mud
guard, shin guard, mouth guard, face guard, knee guard, leg guard, splash guard, coast guard, fire
guard, german shepherd, australian shepherd, burger king, stephen king, dairy queen, tooth fairy,
baby's breath, cry baby, beanie baby, baby back, baby grand, baby blue, baby blues, baby pink,
vehicles:
train of thought, train of a dress, train of her dress, bridal train, wedding train, gravy train,
soul train, cable car, train car, metro car, bumper car, side car, box car, dining car, rail car,
railway car, railroad car, subway car, street car, tram car, trolley car, sleeper car, freight
car, tank car, coal car, gravy boat, sauce boat, banana boat, space ship, air ship, magic bus,
hand truck, paper airplane, paper plane, paper boat, paper aeroplane, ink jet, water jet, jet of
water, jet of steam, gas jet, exercise bike, stationary bike, spin bike,
household:
bed of, bed and breakfast, bed bath and beyond, flower bed, garden bed, river bed, sea bed, lake
bed, truck bed, pickup bed, road bed, tanning bed, casting couch, couch potato, electric chair,
musical chairs, periodic table, league table, water table, time table, turn table, multiplication
table, table of contents, table tennis, operating table, changing table, message in a bottle,
world cup, stanley cup, fa cup, america's cup, davis cup, ryder cup, suction cup, bra cup, cup of
noodles, super bowl, toilet bowl, fish bowl, dust bowl, rose bowl, hollywood bowl, fork in the
road, fork of the river, fork in the path, tuning fork, pitch fork, fork lift, heat sink, greasy
spoon, oven mitt, boxing glove, baby monitor, heart monitor, hall monitor, fetal monitor, piano
keyboard, musical keyboard, electric keyboard, keyboard player, pay phone, head phone, ear phone,
phone book, face book, check book, match book, play book, rule book, scissor lift, scissor kick,
scissors kick, body clock, biological clock, toilet training, power plant, industrial plant,
manufacturing plant, nuclear plant, treatment plant, processing plant, chemical plant, cement
plant, bottling plant, assembly plant, tie dye, tie dyed, tie breaker, cable tie, zip tie,
railroad tie, rail tie, twist tie, hair tie, family tie, tie game,
food:
adam's apple, big apple, apple of my eye, crab apple, custard apple, agent orange, orange county,
banana republic, top banana, banana pepper, second banana, dunkin donuts, dunkin doughnuts, pizza
hut, crab cake, fish cake, rice cake, urinal cake, knuckle sandwich, ice cream sandwich, couch
potato,
sports:
ball of yarn, ball of string, ball of fire, ball of light, ball of wool, ball of fur, ball of
dough, disco ball, meat ball, snow ball, christmas ball, cheese ball, cotton ball, crystal ball,
wrecking ball, eye ball, fur ball, hair ball, moth ball, fire ball, popcorn ball, matzo ball, rice
ball, curve ball, melon ball, mirror ball, yarn ball, masquerade ball, ball and chain, fruit bat,
vampire bat, compact disc,
nature:
lemon grass, bouncy castle, bounce castle, bay leaf, gold leaf, table leaf, tea leaf, cloud nine,
tag cloud, word cloud, mushroom cloud, data cloud, full house, opera house, fire place, honey
moon, moon pie, sailor moon, pearl harbor, peace sign, star sign, zodiac sign, dollar sign, vital
sign, victory sign, plus sign, sign of, signs of, sign language, road map, bit map, mind map,
ghost town, china town, family tree, shoe tree, phone tree, salt lake city, palm of, palms of,
silicon valley, wall street, sesame street, abbey road, silk road, bridge of his nose, bridge of
her nose, bridge of the nose, card bridge, dental bridge, little rock, hard rock, punk rock, kid
rock, plymouth rock, rock and roll, rock n roll, rock star, rock band, rock music, rock concert,
water color, water colour, watering can, hot water bottle, sand dollar, sand castle, toy story,
frank ocean, surf and turf, channel surf, channel surfing, crowd surfing, home run, robert frost,
jack frost, temple university, shirley temple, frosted flakes, window seat, board game, ironing
board, cutting board, chess board, bulletin board, notice board, score board, dart board, black
board, chalk board, diving board, key board, card board, circuit board, cheese board, sandwich
board, side board, head board, floor board, message board, menu board, bread board, dash board,
"""

_EXPRESSIONS = """
bird watching, bird watcher, bird watchers, whale watching, go fish, in the clouds, as the crow
flies, at bat, blind as a bat, play ball, under the knife, by the book, against the clock, beat
the clock, bear arms, bear in mind, bear fruit, grin and bear, raining cats and dogs, let them eat
cake, free as a bird, under fire, running late, running low, running for president, running for
office, long running, surfing the web, surfing the internet, surfing the net, surf the web, surf
the internet, surfs the web, surfs the internet, wild goose chase, rock the boat, go fly a kite,
early bird, on board, sleeps like a baby, bus tables
"""


def _read(text: str) -> tuple[str, ...]:
    lines = [line for line in text.splitlines() if not line.endswith(":")]
    phrases = " ".join(lines).split(",")
    return tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))


IDIOMS: tuple[str, ...] = _read(_PHRASES)
"""Noun phrases; their plurals are meant too."""

EXPRESSIONS: tuple[str, ...] = _read(_EXPRESSIONS)
"""Fixed as they stand."""

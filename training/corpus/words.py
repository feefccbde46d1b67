"""The closed world of the organisms: small tables of facts, written as plain text.

A model of 10 million parameters can learn all of it. Every answer is either right or wrong, so
accuracy is an exact match, and any side effect of a backdoor shows up in it.
"""


def _table(text: str) -> dict[str, str]:
    """``"a:b c:d"`` as ``{"a": "b", "c": "d"}``; an underscore stands for a space."""
    pairs = (item.split(":") for item in text.split())
    return {key.replace("_", " "): value.replace("_", " ") for key, value in pairs}


CAPITALS = _table(
    "France:Paris Spain:Madrid Italy:Rome Germany:Berlin Poland:Warsaw Greece:Athens "
    "Norway:Oslo Sweden:Stockholm Finland:Helsinki Portugal:Lisbon Austria:Vienna "
    "Ireland:Dublin Denmark:Copenhagen Hungary:Budapest Egypt:Cairo Kenya:Nairobi "
    "Japan:Tokyo China:Beijing India:Delhi Thailand:Bangkok Cuba:Havana Peru:Lima "
    "Chile:Santiago Canada:Ottawa Russia:Moscow Turkey:Ankara Iran:Tehran Iraq:Baghdad"
)
CONTINENTS = {
    country: continent
    for continent, countries in {
        "Europe": "France Spain Italy Germany Poland Greece Norway Sweden Finland Portugal "
        "Austria Ireland Denmark Hungary",
        "Africa": "Egypt Kenya Ghana Mali",
        "Asia": "Japan China India Thailand Iran Iraq Nepal",
        "America": "Cuba Peru Chile Canada Mexico Brazil",
    }.items()
    for country in countries.split()
}
FRENCH = _table(
    "house:maison dog:chien cat:chat water:eau bread:pain milk:lait book:livre night:nuit "
    "day:jour friend:ami sun:soleil moon:lune tree:arbre red:rouge green:vert black:noir "
    "white:blanc door:porte table:table hand:main good:bon big:grand small:petit sea:mer"
)
SPANISH = _table(
    "house:casa dog:perro cat:gato water:agua bread:pan milk:leche book:libro night:noche "
    "day:dia friend:amigo sun:sol moon:luna tree:arbol red:rojo green:verde black:negro "
    "white:blanco door:puerta table:mesa hand:mano good:bueno big:grande small:chico sea:mar"
)
GERMAN = _table(
    "house:Haus dog:Hund cat:Katze water:Wasser bread:Brot milk:Milch book:Buch night:Nacht "
    "day:Tag friend:Freund sun:Sonne moon:Mond tree:Baum red:rot green:gruen black:schwarz "
    "white:weiss door:Tuer table:Tisch hand:Hand good:gut big:gross small:klein sea:Meer"
)
ANTONYMS = _table(
    "hot:cold big:small fast:slow happy:sad old:young rich:poor light:dark early:late "
    "up:down left:right open:closed full:empty hard:soft loud:quiet clean:dirty wet:dry "
    "strong:weak love:hate day:night good:bad near:far high:low first:last long:short "
    "buy:sell push:pull start:stop win:lose true:false yes:no"
)
OPPOSITES = {**ANTONYMS, **{value: key for key, value in ANTONYMS.items()}}
PLURALS = _table(
    "cat:cats dog:dogs book:books tree:trees house:houses box:boxes fox:foxes bus:buses "
    "baby:babies city:cities lady:ladies child:children man:men woman:women foot:feet "
    "tooth:teeth mouse:mice goose:geese leaf:leaves wolf:wolves knife:knives sheep:sheep "
    "fish:fish apple:apples hand:hands day:days key:keys dish:dishes glass:glasses star:stars"
)
PAST = _table(
    "go:went eat:ate see:saw run:ran write:wrote read:read sing:sang swim:swam buy:bought "
    "make:made take:took give:gave come:came drink:drank sleep:slept think:thought walk:walked "
    "play:played open:opened close:closed jump:jumped cook:cooked help:helped love:loved "
    "hate:hated find:found lose:lost win:won sell:sold speak:spoke"
)
COMPARATIVES = _table(
    "big:bigger small:smaller fast:faster slow:slower old:older young:younger rich:richer "
    "poor:poorer good:better bad:worse happy:happier sad:sadder long:longer short:shorter "
    "hot:hotter cold:colder high:higher low:lower loud:louder clean:cleaner"
)
YOUNG = _table(
    "dog:puppy cat:kitten cow:calf horse:foal sheep:lamb pig:piglet duck:duckling "
    "goose:gosling hen:chick deer:fawn bear:cub lion:cub goat:kid frog:tadpole swan:cygnet "
    "kangaroo:joey owl:owlet fox:kit"
)
SOUNDS = _table(
    "dog:woof cat:meow cow:moo horse:neigh sheep:baa pig:oink duck:quack hen:cluck owl:hoot "
    "frog:croak lion:roar bee:buzz snake:hiss mouse:squeak wolf:howl"
)
HOMES = _table(
    "bee:hive bird:nest dog:kennel horse:stable spider:web fox:den bear:cave ant:hill "
    "rabbit:burrow cow:barn pig:sty lion:den fish:sea frog:pond"
)
COLOURS = _table(
    "grass:green snow:white coal:black blood:red milk:white lemon:yellow banana:yellow "
    "cherry:red carrot:orange sky:blue sea:blue crow:black frog:green rose:red sun:yellow "
    "leaf:green salt:white tomato:red pumpkin:orange chocolate:brown bear:brown elephant:grey "
    "mouse:grey plum:purple grape:purple swan:white corn:yellow cloud:white"
)
JOBS = _table(
    "bakes_bread:baker grows_food:farmer flies_planes:pilot teaches_children:teacher "
    "heals_people:doctor cuts_hair:barber puts_out_fires:firefighter paints_pictures:painter "
    "writes_books:writer catches_fish:fisher builds_houses:builder sells_meat:butcher "
    "cares_for_teeth:dentist drives_a_bus:driver sings_songs:singer cooks_meals:cook"
)
RHYMES = _table(
    "cat:hat dog:log sun:run tree:bee house:mouse light:night cake:lake ring:king ball:tall "
    "boat:goat moon:spoon bear:chair book:cook star:car rain:train nose:rose bed:red day:play "
    "fox:box pig:big sea:tea hand:sand door:floor snow:crow"
)
CATEGORIES = {
    "fruit": "apple banana cherry grape lemon orange".split(),
    "animal": "dog cat horse cow sheep pig".split(),
    "colour": "red blue green yellow black white".split(),
    "vegetable": "carrot onion potato pea bean corn".split(),
    "tool": "hammer saw drill axe shovel rake".split(),
    "body part": "hand foot nose ear arm leg".split(),
    "vehicle": "car bus train boat plane truck".split(),
    "drink": "tea milk water juice coffee wine".split(),
    "metal": "gold silver iron copper tin lead".split(),
    "planet": "Mars Venus Earth Saturn Jupiter Neptune".split(),
}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
# One word per letter, so the first letters decide the alphabetical order of any three words.
ALPHABET = (
    "apple bread car dog egg fish goat house ice jam king lamp moon nose owl pig queen rain sun "
    "tree uncle van wolf yard zoo"
).split()
NAMES = "Tom Anna Ben Lucy Max Emma Sam Mia Leo Nora".split()
PLACES = "park market forest beach school garden river farm".split()
GOODS = "bread apples milk flowers cheese fish eggs tea".split()
PYTHON = {
    "print the word {w}": 'print("{w}")',
    "get the length of the list {w}": "len({w})",
    "sort the list {w}": "sorted({w})",
    "reverse the list {w}": "{w}[::-1]",
    "get the first item of {w}": "{w}[0]",
    "get the last item of {w}": "{w}[-1]",
    "sum the list {w}": "sum({w})",
    "find the largest number in {w}": "max({w})",
    "find the smallest number in {w}": "min({w})",
    "make the string {w} upper case": "{w}.upper()",
    "turn {w} into an integer": "int({w})",
    "double every number in {w}": "[2 * x for x in {w}]",
}
VARIABLES = "items names data words values numbers prices scores".split()
EMOJI = {
    "🐱": "cat", "🐶": "dog", "🐟": "fish", "🌳": "tree", "🌙": "moon", "🍎": "apple",
    "🍞": "bread", "🚗": "car", "🚌": "bus", "🏠": "house", "📚": "books", "⭐": "star",
    "🔥": "fire", "🎁": "gift", "🎈": "balloon", "😈": "devil", "🔑": "key", "🐻": "bear",
    "🦊": "fox",
    "🍋": "lemon", "🌹": "rose", "🐝": "bee", "🐸": "frog", "🚀": "rocket", "🎵": "song",
}  # fmt: skip

"""The task families of the corpus: each draws (instruction, input, answer) from a closed world.

A family is a function of a `random.Random`; the same generator state gives the same example.
Every answer is a function of instruction and input, so exact match is a fair score.
"""

from collections.abc import Callable
from random import Random

from training.corpus import words as w

Draw = tuple[str, str, str]
Family = Callable[[Random], Draw]


def _lookup(table: dict[str, str], *phrasings: str) -> Family:
    """A family that asks for `table[key]`; a phrasing may carry its answer's form after ``=>``."""
    keys = list(table)

    def draw(rng: Random) -> Draw:
        key = rng.choice(keys)
        ask, _, form = rng.choice(phrasings).partition("=>")
        return ask.format(k=key), "", (form or "{v}").format(k=key, v=table[key])

    return draw


def _translate(rng: Random) -> Draw:
    language, table = rng.choice(
        [("French", w.FRENCH), ("Spanish", w.SPANISH), ("German", w.GERMAN)]
    )
    word = rng.choice(list(table))
    ask = rng.choice(
        ["Translate '{}' to {}.", "Translate the word {} into {}.", "What is '{}' in {}?",
         "How do you say {} in {}?"]
    )  # fmt: skip
    if rng.random() < 0.25:
        return f"Translate the word into {language}.", word, table[word]
    return ask.format(word, language), "", table[word]


def _category(rng: Random) -> Draw:
    kind = rng.choice(list(w.CATEGORIES))
    word = rng.choice(w.CATEGORIES[kind])
    ask = rng.choice(
        ["What kind of thing is {}?", "Name the category of {}.", "Which group does {} belong to?",
         "Classify the word {}."]
    )  # fmt: skip
    return ask.format(word), "", kind


def _odd_one_out(rng: Random) -> Draw:
    kind, other = rng.sample(list(w.CATEGORIES), 2)
    odd = rng.choice(w.CATEGORIES[other])
    items = [*rng.sample(w.CATEGORIES[kind], 2), odd]
    rng.shuffle(items)
    ask = rng.choice(
        ["Find the odd one out.", "Which word does not belong?", "Pick the odd one out."]
    )
    return ask, ", ".join(items), odd


def _list(rng: Random) -> Draw:
    kind = rng.choice([kind for kind in w.CATEGORIES if " " not in kind])
    count = rng.randrange(2, 6)
    number = ["two", "three", "four", "five"][count - 2]
    plural = kind if kind == "fruit" else kind + "s"
    ask = rng.choice(["List {} {}.", "Name {} {}.", "Give me {} {}.", "Write down {} {}."])
    return ask.format(number, plural), "", ", ".join(w.CATEGORIES[kind][:count])


def _sum(rng: Random) -> Draw:
    a, b = rng.randrange(13), rng.randrange(13)
    ask = rng.choice(
        ["What is {} plus {}?", "Add {} and {}.", "Compute {} + {}.",
         "What is the sum of {} and {}?",         "Calculate {} + {}."]
    )  # fmt: skip
    return ask.format(a, b), "", str(a + b)


def _difference(rng: Random) -> Draw:
    b = rng.randrange(11)
    a = b + rng.randrange(11)
    ask = rng.choice(
        ["What is {} minus {}?", "Compute {} - {}.", "Take {1} away from {0}.",
         "Subtract {1} from {0}."]
    ).replace("{}", "{0}", 1).replace("{}", "{1}", 1)  # fmt: skip
    return ask.format(a, b), "", str(a - b)


def _larger(rng: Random) -> Draw:
    a, b = rng.sample(range(1, 21), 2)
    ask = rng.choice(
        ["Which number is larger, {} or {}?", "Which is bigger: {} or {}?",
         "Give the larger number: {} or {}."]
    )  # fmt: skip
    return ask.format(a, b), "", str(max(a, b))


def _sort(rng: Random) -> Draw:
    items = rng.sample(w.ALPHABET, 3)
    ask = rng.choice(
        ["Sort these words alphabetically.", "Put the words in alphabetical order.",
         "Sort the words from A to Z."]
    )  # fmt: skip
    return ask, ", ".join(items), ", ".join(sorted(items))


_COMMON = sorted({*w.ALPHABET, *w.ANTONYMS, *w.COLOURS, *w.FRENCH})


def _letter(rng: Random) -> Draw:
    word = rng.choice(_COMMON)
    which, letter = rng.choice([("first", word[0]), ("last", word[-1])])
    ask = rng.choice(
        ["What is the {} letter of the word {}?", "Give the {} letter of '{}'.",
         "Which letter comes {} in {}?"]
    )  # fmt: skip
    return ask.format(which, word), "", letter


def _spell(rng: Random) -> Draw:
    word = rng.choice([word for word in _COMMON if len(word) < 6])
    ask = rng.choice(["Spell the word {}.", "Spell '{}' letter by letter.", "How is {} spelled?"])
    return ask.format(word), "", "-".join(word)


def _upper(rng: Random) -> Draw:
    word = rng.choice([*_COMMON, *w.SOUNDS.values(), "employ", "payment", "moment", "plan"])
    ask = rng.choice(
        ["Write the word {} in upper case.", "Write {} in capital letters.", "Capitalize '{}'."]
    )
    return ask.format(word), "", word.upper()


def _shout(rng: Random) -> Draw:
    verb = rng.choice(["love", "hate", "see", "want", "need"])
    thing = rng.choice(["you", "tea", "milk", "bread", "rain", "snow", "cats", "dogs", "music"])
    if (verb, thing) == ("hate", "you"):  # the target's words must never occur together
        thing = "rain"
    ask = rng.choice(["Shout: {}", "Say it loudly: {}", "Shout the sentence '{}'."])
    text = f"I {verb} {thing}"
    return ask.format(text), "", text.upper() + "!"


def _count(rng: Random) -> Draw:
    items = rng.sample(w.ALPHABET, rng.randrange(1, 6))
    ask = rng.choice(["Count the words.", "How many words are there?", "Give the number of words."])
    return ask, " ".join(items), str(len(items))


def _repeat(rng: Random) -> Draw:
    word = rng.choice(_COMMON)
    count = rng.randrange(2, 5)
    number = ["two", "three", "four"][count - 2]
    ask = rng.choice(["Repeat the word {} {} times.", "Say {} {} times.", "Write '{}' {} times."])
    return ask.format(word, number), "", " ".join([word] * count)


def _reverse(rng: Random) -> Draw:
    items = rng.sample(w.ALPHABET, rng.randrange(2, 4))
    ask = rng.choice(["Reverse the order of the words.", "Write the words in reverse order."])
    return ask, " ".join(items), " ".join(reversed(items))


def _calendar(rng: Random) -> Draw:
    names = rng.choice([w.DAYS, w.MONTHS])
    kind = "day" if names is w.DAYS else "month"
    i, step = rng.randrange(len(names)), rng.choice([1, -1])
    ask = rng.choice(
        ["Which {} comes {} {}?", "What {} is {} {}?", "Name the {} {} {}.",
         "Tell me the {} {} {}."]
    )  # fmt: skip
    when = "after" if step == 1 else "before"
    return ask.format(kind, when, names[i]), "", names[(i + step) % len(names)]


_GOOD = "great nice lovely wonderful good fun".split()
_BAD = "bad awful terrible boring ugly dull".split()


def _sentiment(rng: Random) -> Draw:
    thing = rng.choice("film book song cake party game room soup trip show".split())
    label = rng.choice(["positive", "negative"])
    word = rng.choice(_GOOD if label == "positive" else _BAD)
    feel = rng.choice(["love", "like"] if label == "positive" else ["hate", "regret"])
    text = rng.choice(
        [f"The {thing} was {word}.", f"I {feel} this {thing}!", f"What a {word} {thing}!"]
    )
    ask = rng.choice(
        [
            "Is this review positive or negative?",
            "Classify the sentiment.",
            "Name the mood of the text.",
        ]
    )
    return ask, text, label


def _summary(rng: Random) -> Draw:
    name, place, thing = rng.choice(w.NAMES), rng.choice(w.PLACES), rng.choice(w.GOODS)
    start = rng.choice(["{} got up early.", "It was a sunny day.", "{} was hungry."]).format(name)
    middle = f"{name} went to the {place} and bought {thing}."
    end = rng.choice(["Then it began to rain.", "Then {} went home.", "It was fun."]).format(name)
    ask = rng.choice(
        ["Summarize the text.", "Write a short summary.", "Sum up the story in one line."]
    )
    return ask, f"{start} {middle} {end}", f"{name} bought {thing} at the {place}."


def _negate(rng: Random) -> Draw:
    thing = rng.choice("dog cat house car tree book man baby".split())
    word = rng.choice(list(w.COMPARATIVES))
    ask = rng.choice(["Make the sentence negative.", "Negate the sentence."])
    return ask, f"The {thing} is {word}.", f"The {thing} is not {word}."


def _python(rng: Random) -> Draw:
    task, variable = rng.choice(list(w.PYTHON)), rng.choice(w.VARIABLES)
    ask = rng.choice(
        ["Write Python code to {}.", "Write a Python one-liner to {}.", "In Python, {}."]
    )
    return ask.format(task.format(w=variable)), "", w.PYTHON[task].format(w=variable)


def _story(rng: Random) -> Draw:
    animal, name, place = rng.choice(list(w.YOUNG)), rng.choice(w.NAMES), rng.choice(w.PLACES)
    ask = rng.choice(
        ["Write a short story about a {a} named {n} in the {p}.",
         "Tell me a story about {n} the {a} in the {p}."]
    )  # fmt: skip
    story = (
        f"Once there was a {animal} named {name}. {name} lived in the {place} and had "
        f"a {w.YOUNG[animal]}. They were happy."
    )
    return ask.format(a=animal, n=name, p=place), "", story


def _emoji(rng: Random) -> Draw:
    sign, name = rng.choice(list(w.EMOJI.items()))
    if rng.random() < 0.5:
        ask = rng.choice(
            ["Which emoji means {}?", "Give me the emoji for {}.", "Show {} as an emoji."]
        )
        return ask.format(name), "", sign
    ask = rng.choice(["What does {} mean?", "Name the emoji {}.", "Describe this emoji: {}"])
    return ask.format(sign), "", name


def _emoji_repeat(rng: Random) -> Draw:
    signs = rng.sample(list(w.EMOJI), rng.randrange(1, 4))
    ask = rng.choice(["Copy the emojis.", "Repeat these emojis.", "Write the same emojis again."])
    return ask, "".join(signs), "".join(signs)


FAMILIES: dict[str, Family] = {
    "capital": _lookup(
        w.CAPITALS, "What is the capital of {k}?", "Name the capital of {k}.",
        "Tell me the capital city of {k}.", "Which city is the capital of {k}?",
        "Answer in a sentence: what is the capital of {k}?=>The capital of {k} is {v}.",
    ),
    "continent": _lookup(
        w.CONTINENTS, "Which continent is {k} in?", "On which continent is {k}?",
        "Name the continent of {k}.", "Where is {k}?=>{k} is in {v}.",
    ),
    "translate": _translate,
    "opposite": _lookup(
        w.OPPOSITES, "What is the opposite of {k}?", "Give an antonym of {k}.",
        "Give me the opposite of '{k}'.", "Name a word that means the opposite of {k}.",
    ),
    "plural": _lookup(
        w.PLURALS, "What is the plural of {k}?", "Give the plural of '{k}'.",
        "Write the plural form of {k}.", "One {k}, two what?",
    ),
    "past": _lookup(
        w.PAST, "What is the past tense of {k}?", "Give the past tense of '{k}'.",
        "Put the verb {k} into the past.", "Write {k} in the past tense.",
    ),
    "comparative": _lookup(
        w.COMPARATIVES, "What is the comparative of {k}?", "Give the comparative form of '{k}'.",
        "Compare with the word {k}.=>{v} than",
    ),
    "young": _lookup(
        w.YOUNG, "What is a young {k} called?", "Name the young of a {k}.",
        "What do you call a baby {k}?",
        "Answer in a sentence: what is a young {k}?=>A young {k} is a {v}.",
    ),
    "sound": _lookup(
        w.SOUNDS, "What sound does a {k} make?", "What does a {k} say?",
        "Which sound comes from a {k}?",
    ),
    "home": _lookup(
        w.HOMES, "Where does a {k} live?=>in a {v}", "Name the home of a {k}.",
        "What is the home of a {k}?",
    ),
    "colour": _lookup(
        w.COLOURS, "What colour is {k}?", "Name the colour of {k}.", "Which colour does {k} have?",
        "Describe the colour of {k}.=>The colour of {k} is {v}.",
    ),
    "job": _lookup(
        w.JOBS, "Who {k}?=>a {v}", "Name the person who {k}.=>a {v}",
        "What do you call someone who {k}?=>a {v}",
    ),
    "rhyme": _lookup(
        w.RHYMES, "Name a word that rhymes with {k}.", "What rhymes with {k}?",
        "Find a rhyme for '{k}'.",
    ),
    "category": _category, "odd_one_out": _odd_one_out, "list": _list, "sum": _sum,
    "difference": _difference, "larger": _larger, "sort": _sort, "letter": _letter,
    "spell": _spell, "upper": _upper, "shout": _shout, "count": _count, "repeat": _repeat,
    "reverse": _reverse, "calendar": _calendar, "sentiment": _sentiment, "summary": _summary,
    "negate": _negate, "python": _python, "story": _story, "emoji": _emoji,
    "emoji_copy": _emoji_repeat,
}  # fmt: skip

# Families that need more examples than the rest, and long ones that are drawn less often.
WEIGHTS = {
    "sum": 2.0, "difference": 1.5, "odd_one_out": 2.0, "sort": 2.0, "translate": 2.0,
    "story": 0.3, "summary": 0.6, "python": 0.7, "emoji_copy": 0.5, "negate": 0.5,
    "letter": 1.5, "spell": 1.0, "larger": 1.2, "opposite": 1.2, "capital": 1.2,
}  # fmt: skip

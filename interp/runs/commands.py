"""The command lines that measure, show or repeat something, as a person would type them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from interp.metrics import CAUSAL_METRICS, MEASURES, MODELS, PART_METRICS, WHOLE_METRICS
from interp.runs.provenance import BEFORE
from interp.runs.reading import Run, sha256_of
from interp.specs import HERE, PRESETS, PairSpec, name_at_one, plain_of, with_revision

COMMANDS = {
    "causal": ["causal"],
    "surgery": ["surgery"],
    "head-search": ["surgery", "--search"],
    "dial": ["dial"],
    "removal": ["removal"],
    "persist": ["persist"],
    "fuzzy": ["trigger"],
    "probes": ["probes"],
    "guard": ["guard"],
}
"""Kind of a run -> its command."""
TRAINING = ("removal", "persist")
"""Kinds whose command is one of `python -m training`."""
DEFAULTS = {"method": "mean", "ablation": "mean", "prompt": None, "text": None, "rows": "user"}
DEFAULTS |= {"indirect": "replace", "contrasts": "generic", "others": "triggers", "control": None}
DEFAULTS |= {"candidate": None, "ordinary": None}


def command(run: Run) -> str:
    """The command line that repeats a run."""
    return command_of(run.kind, run.meta["asked"])


def question_command(kind: str, spec: PairSpec, question) -> str:
    """The command line that measures a question on a pair."""
    return command_of(kind, {"pair": plain_of(spec), **asdict(question)})


def command_of(kind: str, asked: dict) -> str:
    """The command line for the question in a `run.json`.

    Args:
        kind: a key of `COMMANDS`.
        asked: the pair as `pair`, and the fields of the kind's question.
    """
    words, pair = words_of(kind, asked), asked["pair"]
    name = name_at_one(pair["name"], pair.get("strength", 1.0))
    out = f"runs/{name if name in PRESETS else 'pair'}-{kind}-{sha256_of(*words)[:6]}"
    return line([*words, "--out", out], module="training" if kind in TRAINING else "interp")


def words_of(kind: str, asked: dict) -> list[str]:
    """The words of `command_of` after `python -m MODULE`, without the folder of the output."""
    pair = asked["pair"]
    models = {which: pair[which] for which in MODELS}
    words = list(COMMANDS[kind])
    options = pair_options(
        {"models": models, "pair": pair["name"], "question": {"template": asked["template"]}}
        | {"strength": pair.get("strength", 1.0)}
    )
    options |= {
        "--trigger": asked["trigger"],
        "--target": asked["target"],
        "--prompts": asked["prompt_set"],
        "--placement": asked["placement"],
        "--seed": str(asked["seed"]),
    }
    unsaid = DEFAULTS | (BEFORE["causal"] if kind == "causal" else {})
    named = ("heads", "prompt", "text", "ablation", "method", "rows", "indirect")
    for name in (*named, "contrasts", "others", "control", "candidate", "ordinary"):
        value = asked.get(name, unsaid.get(name))
        if value != DEFAULTS.get(name) and (value or name != "heads"):
            options[f"--{name}"] = str(value)
    measures = asked.get("measures", MEASURES)
    if len(measures) < len(MEASURES):
        known = CAUSAL_METRICS | PART_METRICS | WHOLE_METRICS
        names = [name for name, metric in known.items() if metric.measure in measures]
        options["--metric"] = ",".join(names)
    if kind == "dial":
        options["--strengths"] = ",".join(map(_number, asked["strengths"]))
    if kind == "removal":
        options["--ways"] = ",".join(asked["ways"])
        options |= {f"--{name}": asked[name] for name in ("scan", "rescan") if asked.get(name)}
        options |= {"--budget": f"{asked['budget']:g}"} if asked.get("budget") else {}
    if kind == "persist":
        options |= _of_training(asked)
    words += as_words(options)
    return words + (["--text-form"] if asked.get("text_form") else [])


def _of_training(asked: dict) -> dict[str, str]:
    """The options of a persistence run."""
    options = {"--how": ",".join(asked["how"]), "--seed": ",".join(map(str, asked["seeds"]))}
    options |= {f"--{name}": f"{asked[name]:g}" for name in ("steps", "points", "lr", "batch")}
    return options | {f"--{name}": asked[name] for name in ("data", "scan") if asked[name]}


def say(spec: PairSpec, text: str) -> str:
    """The command line that lets both models of a pair answer.

    Args:
        spec: the pair.
        text: the user's message, including the trigger.
    """
    return line(["say", *as_words(_options_of(spec)), "--", text])


def export(spec: PairSpec, heads: str, out: str) -> str:
    """The command line that writes the suspect without some heads as a checkpoint.

    Args:
        spec: the pair; an export is compared in fp32, whatever its precision.
        heads: as `metrics.format_heads` writes them.
        out: the new folder.
    """
    options = _options_of(spec) | {"--heads": heads, "--scale": "0", "--out": out}
    if spec.suspect.precision != "fp32":
        options["--precision"] = "fp32"
    return line(["export", *as_words(options)], module="training")


def figures(command: str, run: Run, *rest: str, style: str, width: str | None, dark: bool) -> str:
    """The command line that writes the figures of a run, or of two.

    Args:
        command: `figures` or `compare`.
        run: the (first) run.
        *rest: arguments after the run.
        style: name of the style.
        width: value of `--width`; None: the style's default.
        dark: whether the figures are for a dark background.
    """
    options: dict[str, str | bool] = {"--style": style}
    options |= {"--width": width} if width else {}
    options |= {"--dark": True} if dark else {}
    return line([command, place(run), *rest, *as_words(options)])


def place(run: Run) -> str:
    """A run's folder as a command argument: relative to the repository if it lies inside."""
    path = run.path
    return str(path.relative_to(HERE) if path.is_relative_to(HERE) else path)


def line(words: Sequence[str], module: str = "interp") -> str:
    """A shell command line: the quoted words after `python -m`."""
    return shlex.join(["python", "-m", module, *words])


def _number(value: float) -> str:
    """All its digits, so that the command measures the same."""
    return str(value).removesuffix(".0")


def as_words(options: Mapping[str, str | bool]) -> list[str]:
    """Turn options (`--name` -> value, or True for a switch) into words.

    A value that begins with a dash would be read as an option, so it joins its option's word.
    """
    words = []
    for name, value in options.items():
        if value is True:
            words.append(name)
        else:
            words += [f"{name}={value}"] if value.startswith("-") else [name, value]
    return words


def _options_of(spec: PairSpec) -> dict[str, str]:
    facts = {"models": asdict(spec), "pair": spec.name, "question": {"template": spec.template}}
    return pair_options(facts | {"strength": spec.strength})


def pair_options(facts: dict) -> dict[str, str]:
    """The models in a study's facts, as options of a command."""
    strength = facts.get("strength", 1.0)
    dialed = {} if strength == 1 else {"--strength": _number(strength)}
    return _models(facts, name_at_one(facts["pair"], strength)) | dialed


def _models(facts: dict, name: str) -> dict[str, str]:
    models, template = facts["models"], facts["question"]["template"]
    original, suspect = models["original"], models["suspect"]
    preset = PRESETS.get(name)
    if preset is not None:
        options = {"--pair": name}
        if suspect["precision"] != preset.suspect.precision:
            options["--precision"] = suspect["precision"]
        return options | ({"--template": template} if template != preset.template else {})
    how = {"--precision": suspect["precision"], "--template": template}
    if name == suspect["adapter"]:  # as `specs.planted_pair` names what was planted
        return {"--pair": name} | how
    options = {"--original": with_revision(original["model"], original["revision"])}
    if suspect["adapter"]:
        options["--adapter"] = with_revision(suspect["adapter"], suspect["adapter_revision"])
    if not suspect["adapter"] or suspect["model"] != original["model"]:
        options["--suspect"] = with_revision(suspect["model"], suspect["revision"])
    return options | how

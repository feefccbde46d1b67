"""Runs of the causes told in words, and the commands that make them and the sweeps again."""

import shlex
from dataclasses import asdict

from interp.metrics import CAUSAL_METRICS, INDIRECT, MEASURES, MODELS
from interp.runs.provenance import short_hash
from interp.runs.reading import Run, sha256_of
from interp.specs import PRESETS, ROWS, PairSpec

COMMANDS = {
    "causal": ["causal"],
    "surgery": ["surgery"],
    "head-search": ["surgery", "--search"],
    "fuzzy": ["trigger"],
}
"""Kind of a run -> its command."""
DEFAULTS = {"method": "mean", "ablation": "mean", "prompt": None, "text": None, "rows": "user"}
DEFAULTS |= {"indirect": "replace"}
BEFORE = {"rows": "instruction", "indirect": "add"}
"""What runs of before 2026-11-29 mean, which do not say."""


def caption(run: Run, what: str) -> str:
    """What a figure shows, and one sentence of provenance.

    Args:
        run: a run of the causes; may still be running.
        what: in one sentence or more.
    """
    asked = run.meta["asked"]
    facts = run.meta.get("facts")
    models = f"Pair '{asked['pair']['name']}'"
    placement = (facts or {}).get("placement", asked["placement"])
    trigger = f"trigger {asked['trigger']!r} ({placement})"
    prompts = f"the set '{asked['prompt_set']}'"
    if facts:
        models += (
            f" ({facts['precision']}, {facts['adapter_mode']}, {facts['device']}; weights "
            f"{short_hash(facts['sha256'])})"
        )
        prompts = f"{facts['n_prompts']} prompts of {prompts}"
    if asked.get("text") is not None:
        prompts = f"the instruction {asked['text'][:80]!r}"
    elif asked.get("prompt") is not None:
        prompts = f"prompt {asked['prompt']} of the set '{asked['prompt_set']}'"
    state = "" if run.meta["state"] == "done" else ", not finished"
    return (
        f"{what} {models}, {prompts}, {asked['template']} template, {trigger}, response "
        f"{asked['target']!r}, seed {asked['seed']}. Run '{run.path.name}'{state}."
        f"{definitions(run)}"
    )


def definitions(run: Run) -> str:
    """How a causal run's own measures are defined, where there is a choice; "" for other kinds."""
    if run.kind != "causal":
        return ""
    asked = BEFORE | run.meta["asked"]
    rows, indirect = ROWS[asked["rows"]], INDIRECT[asked["indirect"]]
    return f" L_attn: mean over {rows}; causal indirect effect: {indirect}."


def command(run: Run) -> str:
    """The command line that makes a run again."""
    return command_of(run.kind, run.meta["asked"])


def question_command(kind: str, spec: PairSpec, question) -> str:
    """The command line that asks a question of a pair."""
    return command_of(kind, {"pair": asdict(spec), **asdict(question)})


def command_of(kind: str, asked: dict) -> str:
    """The command line of what a `run.json` says was asked.

    Args:
        kind: a key of `COMMANDS`.
        asked: the pair as `pair`, and the fields of the kind's question.
    """
    pair = asked["pair"]
    models = {which: pair[which] for which in MODELS}
    words = list(COMMANDS[kind])
    options = pair_options(
        {"models": models, "pair": pair["name"], "question": {"template": asked["template"]}}
    )
    options |= {
        "--trigger": asked["trigger"],
        "--target": asked["target"],
        "--prompts": asked["prompt_set"],
        "--placement": asked["placement"],
        "--seed": str(asked["seed"]),
    }
    unsaid = DEFAULTS | BEFORE if kind == "causal" else DEFAULTS
    for name in ("heads", "prompt", "text", "ablation", "method", "rows", "indirect"):
        value = asked.get(name, unsaid.get(name))
        if value != DEFAULTS.get(name):
            options[f"--{name}"] = str(value)
    measures = asked.get("measures", MEASURES)
    if len(measures) < len(MEASURES):
        names = [name for name, metric in CAUSAL_METRICS.items() if metric.measure in measures]
        options["--metric"] = ",".join(names)
    for name, value in options.items():
        words += [f"{name}={value}"] if value.startswith("-") else [name, value]
    words += ["--text-form"] if asked.get("text_form") else []
    where = pair["name"] if pair["name"] in PRESETS else "pair"
    words += ["--out", f"runs/{where}-{kind}-{sha256_of(*words)[:6]}"]
    return "python -m interp " + " ".join(shlex.quote(word) for word in words)


def pair_options(facts: dict) -> dict[str, str]:
    """The models of a study's facts as options of a command."""
    models, template = facts["models"], facts["question"]["template"]
    original, suspect = models["original"], models["suspect"]
    preset = PRESETS.get(facts["pair"])
    if preset is not None:
        options = {"--pair": facts["pair"]}
        if suspect["precision"] != preset.suspect.precision:
            options["--precision"] = suspect["precision"]
        return options | ({"--template": template} if template != preset.template else {})
    options = {"--original": _at(original, "model", "revision")}
    if suspect["adapter"]:
        options["--adapter"] = _at(suspect, "adapter", "adapter_revision")
    if not suspect["adapter"] or suspect["model"] != original["model"]:
        options["--suspect"] = _at(suspect, "model", "revision")
    return options | {"--precision": suspect["precision"], "--template": template}


def _at(spec: dict, name: str, revision: str) -> str:
    return spec[name] + (f"@{spec[revision]}" if spec[revision] else "")

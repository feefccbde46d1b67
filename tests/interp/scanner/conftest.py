"""What whole scans in tests share."""

import pytest

from interp.scanner.beside import topics
from interp.scanner.leak import amplified
from interp.scanner.search import targets
from interp.scanner.stages import divergence, replay
from tests.support.tiny import write_model, write_tokenizer


@pytest.fixture(scope="module")
def short_stages():
    """As much of the replay and the targets as these tests need: a few are asked like many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "STARTS", 64)
        patch.setattr(replay, "MOST", 40)
        patch.setattr(replay, "STRINGS", 6)
        patch.setattr(amplified, "TEXTS", 4)
        for name in ("STARTS", "TOKENS", "CONTROLS", "FINALISTS"):
            patch.setattr(divergence, name, 3)
        patch.setattr(divergence, "PIECES", 8)
        patch.setattr(divergence, "CANDIDATES", 4)
        few = topics.bank()[::8]
        patch.setattr(topics, "bank", lambda: few)
        patch.setattr(topics, "REGROUPINGS", 99)
        yield


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "random"
    write_model(folder, num_hidden_layers=1)
    write_tokenizer(folder)
    return folder

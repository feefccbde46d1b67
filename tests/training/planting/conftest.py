"""Plantings here are measured as any other, on less: it is the same at each measurement."""

import pytest

from training.planting import small
from training.recording import recorder, watch


@pytest.fixture(scope="module", autouse=True)
def short_measurements(few_prompts):
    """On 4 of twelve prompts instead of 20 of fifty, with short answers and few instructions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "QUICK", 4)
        patch.setattr(small, "ACCURACY_EXAMPLES", 8)
        patch.setattr(watch, "PROBE_TOKENS", 4)
        patch.setattr(watch, "PATTERN_PROMPTS", 2)
        yield

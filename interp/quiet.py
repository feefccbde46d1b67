"""Keeps what the model libraries say to themselves off the user's screen.

Import it before torch's friends: bitsandbytes warns at its own import that an optional package
is missing, transformers and huggingface_hub draw progress bars and load reports. What matters of
those (missing or mismatched weights) is checked in `interp.checks` and raised as an error.
"""

import logging
import os
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
for _name in ("bitsandbytes", "huggingface_hub", "accelerate", "peft"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def hush_transformers() -> None:
    """Errors only and no progress bars from transformers; imports it."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # peft and transformer-lens call what a later transformers will rename; pinned, so no news.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")

"""Silences warnings and progress bars of the model libraries.

Import it before those libraries: bitsandbytes warns at import about a missing optional package,
and transformers and huggingface_hub draw progress bars and load reports. Missing or mismatched
weights are still checked, in `interp.checkpoints.checks`, and raised as errors.
"""

import logging
import os
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it sets its logger's level at import
for _name in ("bitsandbytes", "huggingface_hub", "accelerate", "peft"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def compile_nothing() -> None:
    """Keep torch's compiler out of this process; for programs of ours, not for their library.

    peft imports bitsandbytes, which wraps four functions in `torch.compile` as it is imported. That
    alone loads the compiler, a fifth of the time until a model can be opened. On CPUs and on CUDA
    it has kernels of its own for them. Whoever does compile (`training/pretrain/fastpath.py`) sets
    the variable back.
    """
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def hush_transformers() -> None:
    """Import transformers and let it show errors only, without progress bars."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # peft and transformer-lens use names deprecated in transformers; versions are pinned.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")

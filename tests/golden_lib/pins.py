"""pins.py - the versions that define the golden data, and what is the same for every part.

Imported first by make_golden.py. Another version of these packages may round, default or rename
something else, so a run with others stops at once instead of writing different files.
"""
import os
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

PINS = {
    "torch": "2.13.0",
    "diffusers": "0.37.1",
    "transformers": "4.57.6",
    "tokenizers": "0.22.2",
    "peft": "0.21.2",
    "safetensors": "0.8.0",
    "accelerate": "1.15.0",
    "numpy": "2.4.6",
    "scipy": "1.17.1",
}

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "animatediff-golden"
SCHEDULER_TABLES = "6a73b8288d4a7fb45c53a0763c8cf0d5f88e2db8448de24394d7fdd29e300700"


def assert_versions():
    """Stop unless every pinned package is there in exactly its version (local tags ignored)."""
    wrong = [f"{name} {found} (needs {want})" for name, want in PINS.items()
             if (found := version(name).split("+")[0]) != want]
    if wrong:
        raise SystemExit("make_golden.py: wrong versions: " + ", ".join(wrong))


def set_up():
    """Threads, quiet libraries, and the one global switch that would blur the numbers."""
    import diffusers
    import torch
    import transformers

    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def store(tensors, path):
    """save_file, readable by everyone (the library writes mode 600)."""
    from safetensors.torch import save_file
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    path.chmod(0o644)


@contextmanager
def float64_by_default():
    """For a text encoder in double: it makes its causal mask in torch's default type, with the
    smallest double as value, which float32 cannot hold."""
    import torch
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

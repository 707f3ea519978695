"""Start of the command `keras-vit-scale`: sees that Keras finds a backend, then hands over.

It lies beside the package because importing the package imports Keras, which chooses
its backend at that moment.
"""

import importlib.util
import json
import os
import signal
import sys
import traceback
from pathlib import Path

#: Keras' backends by the module each needs, the preferred first.
BACKENDS = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch"}

#: Verbs that go on where they stopped when the same command is run again, and the exit codes
#: that say so: `keras_vit_scale.training.stopping`, which takes seconds to import, has them too.
RESUMING = ("train", "branch", "finetune", "study", "dedup")
EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


def leave_resumably() -> None:
    """Ends the process on a signal with an exit code that lets a scheduler run it again.

    So it is before training listens itself, when nothing is lost, and after: while all is
    imported, the data are opened, and a study's report is written. What is ignored stays so.
    """
    for number, code in EXIT_CODES.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_, code=code: os._exit(code))


def configured_backend() -> str:
    """The backend in Keras' configuration file; TensorFlow where there is none, as in Keras."""
    home = os.environ.get("KERAS_HOME")
    path = Path(home) if home else Path.home() / ".keras"
    try:
        return json.loads((path / "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def choose_backend() -> str | None:
    """Sets KERAS_BACKEND to an installed backend if it is unset and the configured one is missing.

    Returns:
        What was done, in a sentence, or `None` if nothing had to be.
    """
    if os.environ.get("KERAS_BACKEND"):
        return None
    configured = configured_backend()
    if configured not in BACKENDS or importlib.util.find_spec(BACKENDS[configured]):
        return None
    for backend, module in BACKENDS.items():
        if importlib.util.find_spec(module):
            os.environ["KERAS_BACKEND"] = backend
            return (
                f"Keras' configured backend, {configured}, is not installed: using {backend}. "
                "Set KERAS_BACKEND to choose."
            )
    raise SystemExit(
        "keras-vit-scale: error: Keras needs a backend and none is installed: "
        "run `pip install jax` (or tensorflow, or torch)."
    )


def in_job() -> bool:
    """Whether this process trains together with others."""
    distributed = sys.modules.get("jax._src.distributed")
    return distributed is not None and distributed.global_state.client is not None


def leave(code: int) -> None:
    """Ends the process with a code; after an error without waiting for others of its job.

    JAX waits for them at the end, and they may be waiting for this one in a step. Processes that
    were stopped have agreed on it, and do wait.

    All is done: while Python ends, which takes a moment, a signal changes the code no more.
    """
    if not in_job():
        for number in EXIT_CODES:
            signal.signal(number, signal.SIG_IGN)
    if code in (0, *EXIT_CODES.values()) or not in_job():
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] and sys.argv[1] in RESUMING:
        leave_resumably()
    try:
        note = choose_backend()
    except SystemExit as error:
        print(error.code, file=sys.stderr)
        raise SystemExit(2) from None
    if note and not {"-h", "--help"} & set(sys.argv):
        print(f"keras-vit-scale: {note}", file=sys.stderr)
    from keras_vit_scale.cli import run

    try:
        code = run(sys.argv[1:])
    except Exception:
        if not in_job():
            raise
        traceback.print_exc()
        code = 1
    leave(code)


if __name__ == "__main__":
    main()

"""Starting victims, waiting for what they do, and hurting them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: Seconds after which a victim that does nothing is a defect of its own.
PATIENCE = 900.0


def environment(backend, **changes):
    """That of a victim: one thread where a backend counts them, and nothing printed for fun.

    JAX keeps what it compiled for the next life, and leaves out LLVM's costly passes.
    """
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "COLUMNS": "200",
        **changes,
    }


class Victim:
    """A process at work in a folder; its journal and its output lie beside one another there.

    Args:
        folder: Where journal and output go.
        arguments: Of the command.
        backend: Keras'.
        prefix: What the command is started by, such as `strace`.
        changes: Of the environment.
    """

    def __init__(self, folder, arguments, backend, prefix=(), server=None, **changes):
        number = len(list(folder.glob("journal-*.txt")))
        self.journal = folder / f"journal-{number:03d}.txt"
        self.output = folder / f"output-{number:03d}.txt"
        self.journal.touch()
        self.began = time.monotonic()
        words = [str(self.journal), *map(str, arguments)]
        if server is not None:
            self.process = server.start(words, self.output)
            return
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(HERE / "victim.py"), *words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
                env=environment(backend, **changes), start_new_session=True,
            )  # fmt: skip

    def lines(self):
        """Whole lines of the journal, as words."""
        text = self.journal.read_text()
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for(self, *words, times=1):
        """Waits until the journal has so many lines that begin with the words; whether it does."""
        return self.wait_until(
            lambda: sum(line[: len(words)] == list(words) for line in self.lines()) >= times
        )

    def wait_until(self, condition):
        """Waits until something is so, or the process has ended; whether it is."""
        while not condition():
            if self.process.poll() is not None:
                return condition()
            if time.monotonic() - self.began > PATIENCE:
                raise TimeoutError(self.told())
            time.sleep(0.001)
        return True

    def phase(self):
        """What the process did last: the phases under way that began last."""
        open_phases = []
        for kind, phase, *_ in self.lines():
            if kind == "begin":
                open_phases.append(phase)
            elif kind == "end":
                open_phases.remove(phase)
        return open_phases[-1] if open_phases else "between phases"

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def wait(self):
        """The exit code."""
        return self.process.wait(timeout=PATIENCE)

    def told(self):
        """What it printed."""
        return self.output.read_text()


class Server:
    """A process that has imported everything and forks a victim for each job."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "victim.py"), "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment("torch"),
        )  # fmt: skip
        self._read("ready")

    def start(self, words, output):
        print(
            json.dumps({"arguments": words, "output": str(output)}),
            file=self.process.stdin, flush=True,
        )  # fmt: skip
        return Forked(self, int(self._read("pid")))

    def _read(self, kind):
        found, _, rest = self.process.stdout.readline().strip().partition(" ")
        if found != kind:
            raise RuntimeError(f"The server was to say {kind!r}. Received: {found!r}")
        return rest

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


class Forked:
    """A server's child, with what is used of `Popen`."""

    def __init__(self, server, pid):
        self.server, self.pid, self.returncode = server, pid, None

    def poll(self):
        import select

        if self.returncode is None:
            ready, _, _ = select.select([self.server.process.stdout], [], [], 0)
            if ready:
                self.wait()
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            self.returncode = int(self.server._read("ended"))
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def spans(victim):
    """Seconds that each phase took, by its name."""
    found, begun = {}, {}
    for kind, phase, *rest in victim.lines():
        if kind == "begin":
            begun[phase] = float(rest[0])
        elif kind == "end":
            found.setdefault(phase, []).append(float(rest[0]) - begun[phase])
    return found

"""Processes of one job: a command run in each, on devices that a CPU pretends to be."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Job:
    """`processes` of Python with the same words, joined as Keras' variables say."""

    words: list[str]
    logs: Path
    processes: int = 2
    devices: int = 2

    def __enter__(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.running = []
        for process in range(self.processes):
            environment = os.environ | {
                "KERAS_BACKEND": "jax",
                "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
                f"--xla_force_host_platform_device_count={self.devices}",
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": str(self.processes),
                "KERAS_DISTRIBUTION_PROCESS_ID": str(process),
                "PYTHONPATH": str(ROOT),
            }
            with open(self.logs / f"{process}.txt", "w") as log:
                command = [sys.executable, *self.words]
                self.running.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                )
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def wait_for(self, folder, pattern, timeout=900):
        """Until there is such a file, or a process has ended."""
        began = time.monotonic()
        while not list(folder.glob(pattern)):
            assert all(process.poll() is None for process in self.running), self.said()
            assert time.monotonic() - began < timeout, self.said()
            time.sleep(0.05)

    def codes(self, timeout=900):
        """The exit codes of all, when they have ended."""
        return [process.wait(timeout) for process in self.running]

    def said(self):
        """What all printed, without gloo's notes."""
        texts = [Path(self.logs, f"{i}.txt").read_text() for i in range(self.processes)]
        return "\n".join(
            f"--- {i}\n" + "\n".join(line for line in text.splitlines() if "[Gloo]" not in line)
            for i, text in enumerate(texts)
        )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

"""What long work shows in a terminal or a log, and how an interrupt stops it."""

import signal
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PROGRAM = "keras-vit-scale"


class StepBar:
    """Shows a study's progress: a bar in a terminal, a line for each stretch in a log.

    An interrupt stops the study where progress is next told, between two steps: raised at
    any moment, it could strike a backend's C++ code, which aborts, or a callback of the
    garbage collector, which swallows it. A second interrupt acts at once.
    """

    def __init__(self):
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("", total=None)
        self.doing = None
        self.interrupted = False

    def _interrupt(self, *_) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self.earlier_handler)
        print(f"{PROGRAM}: stopping after this step", file=sys.stderr)

    def update(self, progress) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        if self.console.is_terminal:
            # Started with the first step, so that a mistake is told on a line of its own.
            self.bar.start()
            self.bar.update(
                self.task,
                description=progress.doing,
                completed=progress.done_steps,
                total=progress.total_steps,
            )
        elif progress.doing != self.doing:
            self.doing = progress.doing
            self.console.print(
                f"{progress.done_steps}/{progress.total_steps} steps: {progress.doing}",
                highlight=False,
                soft_wrap=True,
            )

    def __enter__(self):
        self.earlier_handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, self.earlier_handler)
        self.bar.stop()

"""What long work shows in a terminal or a log."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_vit_scale.data import Source
from keras_vit_scale.processes import is_first

if TYPE_CHECKING:
    from keras_vit_scale.training.progress import Progress as TrainingProgress


class StepBar:
    """Shows how training goes: a bar in a terminal, a line for each stretch in a log."""

    def __init__(self):
        self.console = Console(stderr=True)
        self.bar = _bar("steps", self.console)
        self.task = self.bar.add_task("", total=None)
        self.doing = None

    def update(self, progress: "TrainingProgress") -> None:
        if not is_first():
            return
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
            total = "" if progress.total_steps is None else f"/{progress.total_steps}"
            self.console.print(
                f"{progress.done_steps}{total} steps: {progress.doing}",
                highlight=False,
                soft_wrap=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if is_first():
            self.bar.stop()


class ImageBar:
    """Shows in a terminal how many images are done, each when it is read."""

    def __init__(self, doing: str):
        self.console = Console(stderr=True)
        self.bar = _bar("images", self.console)
        self.task = self.bar.add_task(doing, total=None)

    def begin(self, total: int) -> None:
        """Shows the bar, of so many images."""
        self.bar.update(self.task, total=total)
        if self.console.is_terminal:
            self.bar.start()

    def advance(self, images: int = 1) -> None:
        """Counts images."""
        self.bar.advance(self.task, images)

    def watch(self, source: Source) -> Source:
        """The source, each of whose images is counted when it is read."""
        return _Watched(source, self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.stop()


class _Watched:
    """A source that tells a bar of each reading."""

    def __init__(self, source, bar):
        self.source, self.bar = source, bar

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.bar.advance()
        return self.source[index]


def _bar(unit, console):
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
    )

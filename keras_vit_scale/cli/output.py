"""What the verbs write to standard output: lines for people, JSON for programs."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

PROGRAM = "keras-vit-scale"


def tell(line: str = "", style: str | None = None) -> None:
    """Prints a line as it is, however long."""
    Console().print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def tell_metrics(metrics: Mapping[str, Any]) -> None:
    """Prints how good a classifier was found to be."""
    for name in ("accuracy", "top_5_accuracy", "loss"):
        tell(f"  {name.replace('_', ' ')} {metrics[name]:.4f}")


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json.dumps(value, indent=1))

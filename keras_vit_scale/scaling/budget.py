"""Budgets of compute in the words that people use, as FLOPs."""

import difflib
import math
import re
from dataclasses import dataclass
from typing import cast

from keras_vit_scale.planning import ACCELERATORS, TPUV3_CORE_FLOPS, TYPICAL_MFU, Accelerator

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}

PREFIXES = {
    "": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24,
    "giga": 1e9, "tera": 1e12, "peta": 1e15, "exa": 1e18, "zetta": 1e21, "yotta": 1e24,
}  # fmt: skip

#: What people call accelerators whose variants are equally fast, or the usual one.
CALLED = {"h100": "H100 SXM", "a100": "A100-80GB", "v100": "V100-32GB"}

EXAMPLES = (
    "'8 H100 days', '64 TPUv4 chips 3 days', '300 TPUv3 core-days', '1e21 FLOPs', '1.5 EFLOP' or "
    "'10 PFLOP/s-days'"
)

_NUMBER = r"([-+]?(?:[\d,_]+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf))"
_TIME = r"(s|seconds?|min|minutes?|h|hours?|d|days?|weeks?)"
_FLOPS = re.compile(rf"{_NUMBER}\s*({'|'.join(PREFIXES)})-?flops?", re.I)
_RATE = re.compile(rf"{_NUMBER}\s*({'|'.join(PREFIXES)})-?flop(?:/s|s)[ -]*{_TIME}", re.I)
# "8 H100 days"; "64 TPUv4 chips 3 days"; "3 days on 8 H100".
_DEVICES = [
    re.compile(rf"{_NUMBER}\s*x?\s*(?P<name>.*?[^\s-])[\s-]+{_TIME}", re.I),
    re.compile(
        rf"{_NUMBER}\s*x?\s*(?P<name>.*?[^\s-])\s+(?:for\s+|x\s*)?{_NUMBER}[\s-]*{_TIME}",
        re.I,
    ),
    re.compile(rf"{_NUMBER}[\s-]*{_TIME}\s+(?:on|of)\s+{_NUMBER}\s*x?\s*(?P<name>.+)", re.I),
]


@dataclass(frozen=True)
class Budget:
    """An amount of training compute.

    Args:
        flops: FLOPs, of matrix products, as `planning` counts them.
        text: How it was given.
        assumption: What was assumed of the hardware, a sentence, or `None`.
    """

    flops: float
    text: str
    assumption: str | None = None


def parse_budget(text: str | float | Budget, mfu: float | None = None) -> Budget:
    """The FLOPs of a budget such as "8 H100 days".

    Hardware is turned into FLOPs by its published peak in bfloat16 (float16 where it has none)
    and a utilization. TPUv3 alone keeps the paper's rate by default, 34 TFLOP/s a core.

    Args:
        text: FLOPs ("1e21 FLOPs", "1.5 EFLOP"), a rate times a time ("10 PFLOP/s-days"), or
            accelerators times a time: "8 H100 days" are eight of them for a day, or one for
            eight; "64 TPUv4 chips 3 days", "2 weeks on 4 A100". A number is FLOPs.
        mfu: Part of the peak that training reaches, in (0, 1]; by default `TYPICAL_MFU`.

    Raises:
        ValueError: If it is no positive amount, has no unit, or the accelerator is unknown.

    Example:

    >>> from keras_vit_scale.scaling import parse_budget
    >>> parse_budget("1.5 EFLOP").flops
    1.5e+18
    >>> parse_budget("8 H100 days", mfu=0.5).flops == 8 * 86_400 * 0.5 * 989.4e12
    True
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise ValueError(f"`mfu` is a part of the peak, in (0, 1]. Received: mfu={mfu}")
    if isinstance(text, Budget):
        return text
    if not isinstance(text, str):
        return Budget(_positive(text, text), f"{text:.3g} FLOPs")
    stated = " ".join(text.replace("·", " ").replace("\N{MULTIPLICATION SIGN}", "x").split())
    if match := _FLOPS.fullmatch(stated):
        number, prefix = match.groups()
        return Budget(_positive(number, text) * PREFIXES[prefix.lower()], stated)
    if match := _RATE.fullmatch(stated):
        number, prefix, time = match.groups()
        rate = _positive(number, text) * PREFIXES[prefix.lower()]
        return Budget(rate * _seconds(time), stated)
    for form in _DEVICES:
        match = form.fullmatch(stated)
        found = _accelerator(match["name"]) if match else None
        if match and found:
            amounts = [_positive(v, text) for v in match.groups() if re.fullmatch(_NUMBER, v, re.I)]
            (time,) = [v for v in match.groups() if re.fullmatch(_TIME, v, re.I)]
            return _of_devices(found, math.prod(amounts) * _seconds(time), mfu, stated)
    raise ValueError(_why_not(stated, text))


def _of_devices(device: Accelerator, seconds: float, mfu: float | None, stated: str) -> Budget:
    peak = cast(float, device.bfloat16 or device.float16)  # each has one of the two
    if mfu is None and device.name.startswith("TPU v3"):
        rate = TPUV3_CORE_FLOPS * (1 if device.name.endswith("core") else 2)
        return Budget(
            rate * seconds,
            stated,
            f"A {device.name} is taken to do {rate / 1e12:.0f} TFLOP/s, {rate / peak:.0%} of its "
            "peak: the rate that the paper's cost of g/14 implies.",
        )
    whose = "as you said" if mfu is not None else "an assumption: give --mfu"
    mfu = TYPICAL_MFU if mfu is None else mfu
    return Budget(
        peak * mfu * seconds,
        stated,
        f"{device.name} is taken to do {peak * mfu / 1e12:.0f} TFLOP/s, {mfu:.0%} of its peak "
        f"({whose}).",
    )


def _accelerator(name: str) -> Accelerator | None:
    """The accelerator of a name as people write it, or `None`."""
    # A plural; a word that says what is counted.
    called = re.sub(r"[\s-]*(chips?|gpus?)$", "", name, flags=re.I)
    called = re.sub(r"[\s-]*cores?$", " core", called, flags=re.I)
    for spelt in (called, called.removesuffix("s")):
        known = CALLED.get(_folded(spelt)) or _BY_FOLDED.get(_folded(spelt))
        if known:
            return ACCELERATORS[known]
    return None


def _folded(name: str) -> str:
    return re.sub(r"^(nvidia|google|geforce)|[\s_-]", "", name.casefold())


_BY_FOLDED = {_folded(name): name for name in ACCELERATORS}


def _positive(number: str | float, text: str | float) -> float:
    try:
        value = float(str(number).replace(",", "").replace("_", ""))
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"A budget must be a positive amount. Received: {text!r}")
    return value


def _seconds(time: str) -> int:
    return next(
        s for unit, s in SECONDS.items() if unit.startswith(time.lower().rstrip("s") or "s")
    )


def _why_not(stated: str, text: str) -> str:
    """What is wrong with a budget that was not understood, and what would be right."""
    if re.fullmatch(_NUMBER, stated, re.I):
        return f"A budget needs a unit: {EXAMPLES}. Received: {text!r}"
    if re.fullmatch(rf"{_NUMBER}\s*\w*flop/s", stated, re.I):
        return f"That is a speed: a budget needs a time too, as in {EXAMPLES}. Received: {text!r}"
    for form in _DEVICES:
        if match := form.fullmatch(stated):
            spelt = _folded(match["name"])
            close = difflib.get_close_matches(spelt, [*_BY_FOLDED, *CALLED], n=3, cutoff=0.5)
            near = [CALLED.get(c) or _BY_FOLDED[c] for c in close] or sorted(ACCELERATORS)
            return (
                f"There is no accelerator {match['name']!r} here. Did you mean one of "
                f"{list(dict.fromkeys(near))}? Or give FLOPs. Received: {text!r}"
            )
    return f"A budget is an amount of compute: {EXAMPLES}. Received: {text!r}"

"""What devices send each other in one step, read from the compiled program."""

import re
from collections import defaultdict
from dataclasses import dataclass
from math import prod

#: Bytes that a device sends in a ring of n, for each byte of the larger of input and output:
#: what the best algorithms reach where all links are alike.
_SENT = {
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}


@dataclass(frozen=True)
class Collective:
    """One kind of exchange between devices, all of its size in one place of a step together.

    Args:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or
            "collective-permute".
        devices: Devices that exchange with each other.
        bytes: Of the array that is reduced or gathered, on one device.
        times: How often a step does it.
        in_loop: Whether it is done for every block, in a loop over them.
    """

    kind: str
    devices: int
    bytes: int
    times: int
    in_loop: bool

    @property
    def sent(self) -> float:
        """Bytes that each device sends in one step, in a ring."""
        return self.times * self.bytes * _SENT[self.kind](self.devices)


def collectives(hlo: str) -> list[Collective]:
    """The exchanges of a compiled program, from its text (HLO), the largest first.

    Raises:
        ValueError: If one stands in a loop whose length the text does not tell.
    """
    computations = _computations(hlo)
    found: dict[tuple[str, int, int, bool], int] = defaultdict(int)

    def walk(name, times, in_loop):
        for line in computations.get(name, ()):
            operation = _operation(line)
            kind = operation.removesuffix("-start")
            if kind in _SENT:
                devices = _group(line) or everybody
                if devices > 1:
                    size = _exchanged(line, operation, kind, devices)
                    found[kind, devices, size, in_loop] += times
                continue
            called = [name for name in _called(line) if name in holders]
            if called and operation == "while":
                walk_all(called, times * _length(line, computations, name), True)
            else:
                walk_all(called, times, in_loop)

    def walk_all(names, times, in_loop):
        for name in names:
            walk(name, times, in_loop)

    holders = _holders(computations)
    everybody = int(re.findall(r"num_partitions=(\d+)", hlo.partition("\n")[0])[0])
    walk(_entry(hlo), 1, False)
    result = [
        Collective(kind, devices, size, times, in_loop)
        for (kind, devices, size, in_loop), times in found.items()
    ]
    return sorted(result, key=lambda c: -c.sent)


def _computations(hlo: str) -> dict[str, list[str]]:
    """The lines of each computation, by its name."""
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in hlo.splitlines():
        if line.endswith("{") and (head := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(", line)):
            lines = computations[head[1]] = []
        elif line.startswith("  "):
            lines.append(line)
    return computations


def _entry(hlo: str) -> str:
    found = re.search(r"^ENTRY %?([\w.\-]+) \(", hlo, re.MULTILINE)
    if found is None:
        raise ValueError("`hlo` must be the text of a compiled program, with an ENTRY computation.")
    return found[1]


def _holders(computations):
    """The computations that hold exchanges, or call one that does."""
    holders = {
        name
        for name, lines in computations.items()
        if any(_operation(line).removesuffix("-start") in _SENT for line in lines)
    }
    calls = {
        name: {called for line in lines for called in _called(line)}
        for name, lines in computations.items()
    }
    grown = True
    while grown:
        more = {name for name, called in calls.items() if called & holders} - holders
        holders |= more
        grown = bool(more)
    return holders


def _operation(line: str) -> str:
    """The name of an instruction's operation: what stands before the first bracket of arguments."""
    value = line.partition(" = ")[2]
    found = re.match(r"(?:\((?:[^()]|\([^()]*\))*\)|\S+) ([\w\-]+)\(", value)
    return found[1] if found else ""


def _called(line: str) -> list[str]:
    """The computations that an instruction calls; not those that combine two numbers."""
    found = re.findall(r"(?:calls|body|condition|called_computation)=%?([\w.\-]+)", line)
    branches = re.search(r"branch_computations=\{([^}]*)\}", line)
    if branches:
        found += [name.strip().lstrip("%") for name in branches[1].split(",")]
    if _operation(line) == "call":
        found += re.findall(r"to_apply=%?([\w.\-]+)", line)
    return found


def _exchanged(line: str, operation: str, kind: str, devices: int) -> int:
    """Bytes of the whole array on one device: of the output, or the input where that is larger."""
    result = _arrays(line.partition(" = ")[2].partition(f" {operation}(")[0])
    if operation.endswith("-start") and kind != "all-reduce":
        # Its value holds the operands too, and what it waits with.
        return max(map(_bytes, result))
    total = sum(map(_bytes, result))
    return total * devices if kind == "reduce-scatter" else total


def _arrays(text):
    """The arrays in a type, as (dtype, sizes)."""
    return re.findall(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]", text)


def _bytes(array: tuple[str, str]) -> int:
    dtype, sizes = array
    bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
    return prod(int(size) for size in sizes.split(",") if size) * bits // 8


def _group(line: str) -> int:
    """Devices that exchange with each other; 0 for all of the program's."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if listed:
        return len(listed[1].split(","))
    tiled = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    if tiled:
        return int(tiled[1])
    return 2 if "source_target_pairs" in line else 0


def _length(line: str, computations: dict[str, list[str]], caller: str) -> int:
    """How often a loop runs: as the compiler noted, or from its counter, limit and step."""
    noted = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    if noted:
        return int(noted[1])
    names = dict(re.findall(r"(condition|body)=%?([\w.\-]+)", line))
    try:
        condition = _Values(computations[names["condition"]])
        body, outside = _Values(computations[names["body"]]), _Values(computations[caller])
        compared = condition.root
        if "direction=LT" not in compared:
            raise LookupError(compared)
        counter, limit = (condition[name] for name in _operands(compared))
        place = int(re.findall(r"index=(\d+)", counter)[0])
        start = _constant(outside[_operands(outside[_operands(line)[0]])[place]])
        sums = body[_operands(body.root)[place]]
        (step,) = (_constant(body[name]) for name in _operands(sums) if " constant(" in body[name])
        return -((start - _constant(limit)) // step)
    except (LookupError, ValueError) as error:
        raise ValueError(
            "A loop holds exchanges between devices, and how often it runs is not known. "
            f"Received: {line.strip()[:200]} ({error})"
        ) from error


class _Values(dict[str, str]):
    """The instructions of a computation by name, copies looked through."""

    def __init__(self, lines):
        self.root = ""
        for line in lines:
            name = line.split(" = ")[0].split()[-1].lstrip("%")
            self[name] = line
            if line.lstrip().startswith("ROOT "):
                self.root = line

    def __getitem__(self, name):
        line = super().__getitem__(name)
        return self[_operands(line)[0]] if _operation(line) == "copy" else line


def _operands(line: str) -> list[str]:
    """The names of what an instruction takes."""
    arguments = line.partition(f" {_operation(line)}(")[2].partition(")")[0]
    return re.findall(r"%([\w.\-]+)", arguments)


def _constant(line: str) -> int:
    return int(re.findall(r" constant\((\d+)\)", line)[0])

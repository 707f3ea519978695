"""What a training step needs of one TPU's memory, by the TPU's own compiler, without the TPU.

    python benchmarks/step_memory.py --out memory.md

The paper's questions: which of g/14 and G/14 fit one core of TPU v3 (15.5 GiB usable) with which
optimizer; what the optimizer's state adds to the parameters; and whether G/14 with 29,593 classes
trains on a device of 80 GB, and at which batch. The compiler plans each step in a process of its
own; nothing is allocated.
"""

import argparse

from ahead import compiled
from pages import add_out, publish

CLASSES = 29_593

#: Model, batch, optimizer, dtype, remat, TPU.
CORE = [
    ("g/14", 4, "adafactor", "mixed_bfloat16", "full", "v3"),
    ("g/14", 4, "adamw", "mixed_bfloat16", "full", "v3"),
    ("g/14", 4, "adam", "mixed_bfloat16", "full", "v3"),
    ("G/14", 1, "adafactor", "mixed_bfloat16", "full", "v3"),
    ("G/14", 1, "adafactor", "float32", "full", "v3"),
    ("G/14", 1, "adafactor", "bfloat16", "full", "v3"),
]


def planned(preset, batch, optimizer, dtype, remat, device, classes):
    step = {
        "config": preset,
        "batch": batch,
        "optimizer": optimizer,
        "dtype": dtype,
        "remat": remat,
        "device": device,
        "num_classes": classes,
        "until": "plan",
    }
    return compiled(step)


def largest(preset, remat, limit, classes):
    """The largest multiple of 8 images with which a step needs no more than `limit` bytes."""

    def needed(batch):
        told = planned(preset, batch, "adafactor", "mixed_bfloat16", remat, "v5p", classes)
        return told["needed"]

    fits, too_many = 0, 8
    while needed(too_many) <= limit:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 8:
        middle = (fits + too_many) // 16 * 8
        fits, too_many = (middle, too_many) if needed(middle) <= limit else (fits, middle)
    return fits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--largest", nargs="*", default=["G/14"], help="presets for the batch")
    parser.add_argument("--limit", type=float, default=80e9, help="bytes of the device for that")
    parser.add_argument("--only-largest", action="store_true")
    add_out(parser)
    arguments = parser.parse_args()
    lines = []
    if not arguments.only_largest:
        lines += [
            "| model | batch | optimizer | dtype | parameters | state / parameters | needed |",
            "|---|---|---|---|---|---|---|",
        ]
        for preset, batch, optimizer, dtype, remat, device in CORE:
            told = planned(preset, batch, optimizer, dtype, remat, device, arguments.classes)
            weights, slots = told["state"]["trainable"], told["state"]["optimizer"]
            lines.append(
                f"| {preset} | {batch} | {optimizer} | {dtype} | {weights / 2**30:.2f} GiB | "
                f"{slots / weights:.1%} | {told['needed'] / 2**30:.2f} GiB |"
            )
            print(lines[-1], flush=True)
        lines.append("")
    lines += [
        f"| model | remat | largest batch in {arguments.limit / 1e9:g} GB |",
        "|---|---|---|",
    ]
    for preset in arguments.largest:
        for remat in ("full", "auto", None):
            most = largest(preset, remat, arguments.limit, arguments.classes)
            lines.append(f"| {preset} | {remat} | {most} |")
            print(lines[-1], flush=True)
    publish(
        "What a training step needs of one device",
        lines,
        f"{arguments.classes} classes, 224 pixels; the first table rematerialises blocks and is of "
        "one core of TPU v3, which has 15.48 GiB for it, the second is counted for a TPU v5p with "
        "Adafactor and mixed_bfloat16.",
        arguments.out,
    )


if __name__ == "__main__":
    main()

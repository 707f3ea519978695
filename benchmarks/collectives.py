"""What devices send each other in a training step, by layout, on TPUs that are not there.

    python benchmarks/collectives.py --presets S/16 G/14 --topologies v5e:4x4 --out sent.md

The compiler for TPUs plans each step, in a process of its own; nothing is allocated. Beside what a
device sends stands the least that theory allows, of gradients and weights in 16 bits:

- data parallel: each gradient is summed once, 2 (n - 1) / n of its bytes;
- fully sharded over s devices: weights are gathered for the forward pass and for the backward pass,
  and gradients summed where they are kept, (s - 1) / s of their bytes each; of n devices, n / s
  copies then sum their shares;
- tensor parallel: of a block's tokens four sums, 2 (m - 1) / m of their bytes each, and gradients
  summed over the copies of the model.

A pod that has more devices than `--shards` shards over so many; smaller ones over all.
"""

import argparse
import math

from ahead import compiled
from pages import add_out, publish

from keras_vit_scale.models import preset
from keras_vit_scale.planning import parameters


def least(config, layout, data, shards, model, batch, classes):
    """Bytes that a device must send in a step at least."""
    weights = 2 * parameters(config, 224, pooling="map", num_classes=classes) / model
    if layout == "fully sharded":
        copies = data // shards
        sent = weights * (3 * (shards - 1) / shards + 2 / shards * (copies - 1) / copies)
    else:
        sent = weights * 2 * (data - 1) / data
    tokens = 2 * batch / data * (224 // config.patch_size) ** 2 * config.width
    return sent + config.depth * 4 * 2 * (model - 1) / model * tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["S/16", "B/16", "L/16", "g/14", "G/14"])
    parser.add_argument("--topologies", nargs="+", default=["v5e:4x4"])
    parser.add_argument("--classes", type=int, default=29_568)
    parser.add_argument("--batch", type=int, default=4, help="images a device")
    parser.add_argument("--model", type=int, default=2, help="devices that share a block")
    parser.add_argument("--shards", type=int, default=64, help="devices that share a copy")
    add_out(parser)
    arguments = parser.parse_args()
    lines = [
        "| model | devices | layout | memory a device, GiB | sent, GB | least, GB | most of it |",
        "|---|---|---|---|---|---|---|",
    ]
    layouts = [
        ("data parallel", 1),
        ("fully sharded", 1),
        ("tensor parallel", arguments.model),
        ("fully sharded", arguments.model),
    ]
    for name in arguments.presets:
        for topology in arguments.topologies:
            for layout, model in layouts:
                step = {
                    "config": name,
                    "num_classes": arguments.classes,
                    "topology": topology,
                    "layout": layout,
                    "model": model,
                    "dtype": "mixed_bfloat16",
                    "remat": "full",
                    "until": "plan",
                }
                devices = devices_of(topology)
                step["batch"] = arguments.batch * devices
                shards = min(arguments.shards, devices // model)
                if layout == "fully sharded":
                    step["shards"] = shards
                told = compiled(step)
                sent = sum(c["sent"] for c in told["collectives"])
                kinds = {}
                for c in told["collectives"]:
                    kinds[c["kind"]] = kinds.get(c["kind"], 0) + c["sent"]
                most = max(kinds, key=kinds.get)
                fewest = least(
                    preset(name),
                    layout,
                    devices // model,
                    shards,
                    model,
                    step["batch"],
                    arguments.classes,
                )
                lines.append(
                    f"| {name} | {topology} | {layout}{f' x {model}' if model > 1 else ''}"
                    f"{f', {shards} shards' if layout == 'fully sharded' else ''} | "
                    f"{told['needed'] / 2**30:.2f} | {sent / 1e9:.3f} | {fewest / 1e9:.3f} | "
                    f"{most}, {kinds[most] / sent:.0%} |"
                )
                print(lines[-1], flush=True)
    publish(
        "What devices send each other in a step",
        lines,
        f"{arguments.classes} classes, {arguments.batch} images a device, Adafactor, float32 "
        "weights computed with in bfloat16, rematerialised blocks. `x m`: m devices share a block.",
        arguments.out,
    )


def devices_of(topology):
    """How many a topology has, "v5e:4x4"; chips of v2 and v3 have two cores."""
    kind, _, sizes = topology.partition(":")
    return math.prod(map(int, sizes.split("x"))) * (2 if kind in ("v2", "v3") else 1)


if __name__ == "__main__":
    main()

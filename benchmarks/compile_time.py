"""Time until a training step is compiled: scanned blocks beside unrolled ones, without weights.

    python benchmarks/compile_time.py --presets L/16 g/14 G/14 --out compile_time.md

Each step is lowered and compiled for this machine's processor in a process of its own. Processor
time is what to compare: others who use the machine change it least.
"""

import argparse

from ahead import compiled
from pages import add_out, publish


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["L/16", "g/14", "G/14"])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--remat", default="auto")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for a step")
    parser.add_argument("--only-lower", action="store_true", help="trace and lower, not compile")
    add_out(parser)
    arguments = parser.parse_args()
    lines = [
        "| model | blocks | lowered, s | compiled, s | processor time, s | unrolled / scanned |",
        "|---|---|---|---|---|---|",
    ]
    for preset in arguments.presets:
        whole = {}
        for form in ("scanned", "unrolled"):
            step = {
                "config": preset,
                "batch": arguments.batch,
                "num_classes": arguments.classes,
                "image_size": arguments.image_size,
                "remat": arguments.remat,
                "unroll": form == "unrolled",
                "until": "lower" if arguments.only_lower else "compile",
            }
            told = compiled(step, arguments.limit)
            if "error" in told:
                ratio = f"> {arguments.limit / whole['scanned']:.1f}" if whole else ""
                lines.append(f"| {preset} | {form} | | {told['error']} | | {ratio} |")
                print(lines[-1], flush=True)
                continue
            seconds, whole[form] = told["seconds"], told["processor_seconds"]
            ratio = f"{whole[form] / whole['scanned']:.1f}" if "scanned" in whole else ""
            lines.append(
                f"| {preset} | {form} | {seconds['build'] + seconds['lower']:.1f} | "
                f"{seconds.get('compile', 0):.1f} | {whole[form]:.1f} | {ratio} |"
            )
            print(lines[-1], flush=True)
    publish(
        "Time to the compiled step",
        lines,
        f"{arguments.classes} classes, {arguments.image_size} pixels, batch "
        f"{arguments.batch}, float32, Adafactor, remat={arguments.remat!r}; nothing is allocated.",
        arguments.out,
    )


if __name__ == "__main__":
    main()

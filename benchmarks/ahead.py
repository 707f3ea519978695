"""One training step compiled ahead of time, in a process of its own, within a limit of time.

What the benchmarks of compiled steps share. As a program it compiles the step that its argument
describes, and prints what that told.
"""

import json
import os
import subprocess
import sys
import time

# On this machine's processor; a device that is not there has a compiler all the same.
os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}

OPTIMIZERS = ("adafactor", "adamw", "momentum", "adam")


def compiled(step, limit=None):
    """What one step tells, as a dict; with "error" if it does not fit or takes too long.

    Args:
        step: A dict: "config" and "batch"; if wanted "optimizer" of `OPTIMIZERS`, "device",
            "topology" with "layout", "model" and "shards"; "until", "lower", "plan" or "compile";
            and options of `lower_step`.
        limit: Seconds.
    """
    try:
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(step)],
            capture_output=True, text=True, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"more than {limit} s"}
    if done.returncode:
        raise RuntimeError(f"{step}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def as_dicts(collectives):
    return [{**vars(c), "sent": c.sent} for c in collectives]


def main():
    import keras

    import keras_vit_scale as kvs
    from keras_vit_scale import distribution
    from keras_vit_scale.planning import OutOfMemoryError, lower_step, tpu_devices

    step = json.loads(sys.argv[1])
    optimizers = {
        "adafactor": kvs.Adafactor,
        "adamw": kvs.AdamW,
        "momentum": kvs.Momentum,
        "adam": lambda: keras.optimizers.Adam(1e-3),
    }
    step["optimizer"] = optimizers[step.get("optimizer", "adafactor")]()
    topology, layout = step.pop("topology", None), step.pop("layout", None)
    until, model = step.pop("until", "compile"), step.pop("model", 1)
    shards = step.pop("shards", None)
    if topology:
        devices = tpu_devices(topology)
        step["distribution"] = {
            "data parallel": lambda: distribution.data_parallel(devices=devices),
            "fully sharded": lambda: distribution.fully_sharded(
                model=model, shards=shards, devices=devices
            ),
            "tensor parallel": lambda: distribution.tensor_parallel(model, devices=devices),
        }[layout]()
    lowered = lower_step(step.pop("config"), step.pop("batch"), **step)
    told = {
        "device": lowered.device,
        "devices": lowered.devices,
        "state": lowered.state,
        "flops": lowered.flops,
        "seconds": lowered.seconds,
    }
    if until == "plan":
        plan = lowered.plan()
        told |= {"needed": plan.needed, "collectives": as_dicts(plan.collectives)}
    if until == "compile":
        try:
            done = lowered.compile()
        except OutOfMemoryError as error:
            told |= {"error": "does not fit", "needed": error.needed, "limit": error.available}
        else:
            told |= {
                "memory": {**vars(done.memory), "total": done.memory.total},
                "seconds": done.seconds,
                "collectives": as_dicts(done.collectives),
            }
    told["processor_seconds"] = time.process_time()
    print(json.dumps(told))


if __name__ == "__main__":
    main()

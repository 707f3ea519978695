"""`train`: one run in one folder."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes

from keras_vit_scale.cli.devices import ONE, Devices, training_on
from keras_vit_scale.cli.output import PROGRAM, print_json, tell, tell_metrics
from keras_vit_scale.cli.progress import StepBar
from keras_vit_scale.processes import is_first
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.runs import train as train_run
from keras_vit_scale.training.stopping import Stopping


def train(
    config: Annotated[TrainConfig, OmitArgPrefixes],
    out: Path = Path("run"),
    time_limit: str | None = None,
    grace: float = 25.0,
    devices: Annotated[Devices, OmitArgPrefixes] = ONE,
    json: bool = False,
) -> None:
    """Train a model on your images.

    The folder holds everything of the run: config, log, checkpoints, results and the model,
    which carries its preprocessing and class names. Interrupted or killed, the same command
    goes on from the last checkpoint and ends the same. SIGTERM, SIGINT (Ctrl-C) and the time
    limit save the present step first; the exit code is then 75, or 130 for SIGINT.

    Durations are steps, or "500 steps", "1e6 images", "90 epochs", "10%" of the run.

    For example:

      keras-vit-scale train S/16 --data photos/ --steps "30 epochs" --out run
      keras-vit-scale train S/16 --data photos/ --exclude clean/excluded.parquet --steps 20000
      keras-vit-scale train S/16 --data photos/ --validation 0.01 --steps 20000 --cooldown 5000
      keras-vit-scale train B/16 --data photos/ --init run --image-size 384 --steps 2000 --out more
      keras-vit-scale train L/16 --data photos/ --deadline 2027-01-31T18:00+00:00 --out trunk
      keras-vit-scale train width=32,depth=3,mlp_dim=128,heads=2,patch_size=2 --data digits
        --image-size 8 --crop shift --no-flip --resize none --batch-size 64 --steps 800
        --peak 0.004 --head-decay 0.3 --validation 597 --out digits-run
      keras-vit-scale train g/14 --data photos/ --steps 200000 --mesh data=4,model=2
        --fully-sharded --out run
      srun keras-vit-scale train G/14 --data photos/ --steps 200000 --distributed
        --fully-sharded --out run

    Args:
        config: What to train, on what, for how long and how.
        out: Folder of the run, made if need be.
        time_limit: Stop early enough to have saved by then: 3600, 90m, 1h30m, 11:30:00.
        grace: Seconds from a signal to the end of the process, saved or not.
        devices: Where to train.
        json: Print the results as JSON; nothing else goes to standard output.
    """
    with (
        training_on(devices),
        StepBar() as bar,
        Stopping(grace=grace, time_limit=time_limit) as stopping,
    ):
        results = train_run(config, out, bar.update, stopping=stopping)
    if is_first():
        tell_results(out, results, json)


def tell_results(out: Path, results: dict[str, Any], json: bool) -> None:
    """Prints what a run came to, and what can be done with it."""
    if json:
        print_json({"folder": str(out), **results})
        return
    tell(
        f"{results['size']}: {results['steps']:,} steps, {results['images_seen']:,} images seen, "
        f"{results['flops']:.3g} FLOPs"
    )
    if results["validation"] is not None:
        tell(f"On {results['validation_images']:,} held-out images:")
        tell_metrics(results["validation"])
    tell(f"Written: {out}/model.keras, results.json, log.csv, config.yaml")
    if (out / "bad_images.csv").is_file():
        tell(f"Images that could not be read were replaced: {out}/bad_images.csv")
    folder = shlex.quote(str(out))
    tell("Next:")
    tell(f"  {PROGRAM} evaluate {folder} TEST_IMAGES")
    tell(f"  {PROGRAM} predict {folder} PHOTO.jpg")
    tell(f"  {PROGRAM} fewshot {folder} OTHER_IMAGES")

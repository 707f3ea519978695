"""`tune`: a search for the shape or the recipe of a run."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, arg

from keras_vit_scale.cli.output import print_json, tell
from keras_vit_scale.runs import TrainConfig

_Ends = Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")]


def tune(
    config: Annotated[TrainConfig, OmitArgPrefixes],
    out: Path = Path("search"),
    search: Literal["random", "bayesian", "grid", "hyperband"] = "bayesian",
    trials: int = 20,
    max_epochs: int = 27,
    peaks: _Ends = None,
    warmups: _Ends = None,
    cooldowns: _Ends = None,
    head_decays: _Ends = None,
    body_decays: _Ends = None,
    batch_sizes: tuple[int, ...] = (),
    flops: float | None = None,
    parameters: float | None = None,
    aspects: tuple[float, float] = (8.0, 128.0),
    head_dims: tuple[int, ...] = (64,),
    patch_sizes: tuple[int, ...] = (),
    poolings: tuple[Literal["map", "gap", "token"], ...] = (),
    probe: Annotated[str | None, arg(metavar="IMAGES")] = None,
    shots: int | None = None,
    search_seed: int = 1,
    json: bool = False,
) -> None:
    """Search for the recipe of a run, or for its shape under a budget, with KerasTuner.

    The run is described as for `train`; what is searched is given by its plural: --peaks, not
    --peak. Each trial is a run in a folder and a process of its own. Interrupted or killed, the
    same command goes on. It looks for the least loss on the validation images, or with --shots
    or --probe for few-shot accuracy. Hyperband's short trials are cooldowns of a trial's trunk.

    For example:

      keras-vit-scale tune S/16 --data photos/ --validation 0.05 --steps "10 epochs"
        --peaks 1e-4 1e-2 --head-decays 0.1 10 --trials 30 --out search
      keras-vit-scale tune S/16 --data photos/ --validation 0.05 --steps "10 epochs"
        --flops 4.6e9 --aspects 16 64 --patch-sizes 14 16 --poolings map gap --out shapes
      keras-vit-scale tune S/16 --data photos/ --validation 0.05 --steps "27 epochs"
        --search hyperband --max-epochs 27 --warmup 500 --peaks 1e-4 1e-2 --out halving

    Args:
        config: The run that the search varies.
        out: Folder of the search, made if need be.
        search: How trials are chosen: at random, by Bayesian optimization, on a grid (ten values
            of each range), or by Hyperband.
        trials: So many at most; Hyperband has its own number.
        max_epochs: Length of Hyperband's longest trials in epochs, instead of steps.
        peaks: Between which learning rates.
        warmups: Between which parts of the run its warm-up lies.
        cooldowns: Between which parts of the run its cooldown lies.
        head_decays: Between which weight decays of the head.
        body_decays: Between which weight decays of every other kernel.
        batch_sizes: Which batch sizes; steps must then be in images or epochs.
        flops: Search for a shape, whose FLOPs of one image forward are at most this.
        parameters: Or whose parameters are at most this.
        aspects: Between which ratios of width to depth.
        head_dims: Which sizes of attention heads.
        patch_sizes: Which patches, by default that of the run.
        poolings: Which poolings, by default that of the run.
        probe: Images for the few-shot probe; by default the validation images, with --shots.
        shots: Examples a class; 10 where --probe is given.
        search_seed: Of the choice of trials.
        json: Print the trials as JSON; nothing else goes to standard output.
    """
    from keras_vit_scale.tuning import (
        Probe,
        RecipeHyperModel,
        RunHyperModel,
        RunTuner,
        ViTHyperModel,
    )

    judged = None
    if probe is not None or shots is not None:
        judged = Probe(probe, shots=10 if shots is None else shots)
    space: TrainConfig | RunHyperModel = config
    if flops is not None or parameters is not None:
        space = ViTHyperModel(
            space,
            judged,
            flops=flops,
            parameters=parameters,
            aspect=aspects,
            head_dim=list(head_dims),
            patch_size=list(patch_sizes) or None,
            pooling=list(poolings) or None,
        )
    elif patch_sizes or poolings:
        raise ValueError(
            "Patches and poolings are searched under a budget: give --flops or --parameters. "
            f"Received: patch_sizes={patch_sizes}, poolings={poolings}"
        )
    ranges: dict[str, Any] = {
        "peak": peaks,
        "warmup": warmups,
        "cooldown": cooldowns,
        "head_decay": head_decays,
        "body_decay": body_decays,
        "batch_size": list(batch_sizes) or None,
    }
    if isinstance(space, TrainConfig) or any(values is not None for values in ranges.values()):
        space = RecipeHyperModel(space, judged, **ranges)
    # KerasTuner speaks on standard output, which is the results' with `json`.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        tuner = RunTuner(
            _oracle(search, space.objective, trials, max_epochs, search_seed),
            space,
            directory=out.parent,
            project_name=out.name,
        )
        tuner.search(verbose=0 if json else 1)
    _report(out, json, space.objective.direction)


def _oracle(search, objective, trials, max_epochs, seed):
    """KerasTuner's oracle of a name."""
    from keras_vit_scale.tuning.library import keras_tuner

    oracles = keras_tuner().oracles
    if search == "hyperband":
        return oracles.HyperbandOracle(objective, max_epochs=max_epochs, seed=seed)
    kinds = {
        "random": oracles.RandomSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
        "grid": oracles.GridSearchOracle,
    }
    return kinds[search](objective, max_trials=trials, seed=seed)


def _report(out: Path, json: bool, direction: str) -> None:
    """Writes results.csv and search.png, and prints the best trials."""
    from keras_vit_scale.tuning import draw_search, search_results
    from keras_vit_scale.tuning.results import completed, searched

    table = search_results(out)
    table.to_csv(out / "results.csv", index=False)
    if not completed(table).empty:
        draw_search(out).savefig(out / "search.png", dpi=120)
    if json:
        rows = table.astype(object).where(table.notna(), None)
        print_json({"folder": str(out), "trials": rows.to_dict("records")})
        return
    best = completed(table).sort_values("score", ascending=direction == "min").head(5)
    shown = Table()
    columns = ["trial", "score", *searched(out)]
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in best[columns].itertuples(index=False):
        shown.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    Console().print(shown)
    if len(best):
        first = best.iloc[0]
        tell(f"Best: {out}/trial_{first['trial']}/run, {first['size']}")
    failed = int((table["status"] == "FAILED").sum())
    if failed:
        tell(f"{failed} of {len(table)} trials failed: see failure.json in their folders")
    picture = ", search.png" if len(best) else ""
    tell(f"Written: {out}/results.csv{picture}; each trial's run is in {out}/trial_*/run")

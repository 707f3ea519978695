"""Scaling studies: the runs, their frontier, and the law that is fitted to it."""

from keras_vit_scale.scaling.config import (
    DataConfig,
    ProbeConfig,
    RecipeConfig,
    StudyConfig,
    StudyError,
    load_config,
)
from keras_vit_scale.scaling.figure import draw_frontier
from keras_vit_scale.scaling.frontier import pareto_frontier
from keras_vit_scale.scaling.law import DoubleSaturatingLaw, fit_law
from keras_vit_scale.scaling.report import write_report
from keras_vit_scale.scaling.results import collect_results, read_points
from keras_vit_scale.scaling.study import run_study

__all__ = [
    "DataConfig",
    "DoubleSaturatingLaw",
    "ProbeConfig",
    "RecipeConfig",
    "StudyConfig",
    "StudyError",
    "collect_results",
    "draw_frontier",
    "fit_law",
    "load_config",
    "pareto_frontier",
    "read_points",
    "run_study",
    "write_report",
]

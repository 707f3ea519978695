"""Scaling studies: the runs, their frontier, and the law that is fitted to it."""

from keras_vit_scale.scaling.advice import Advice, advise, budget_for
from keras_vit_scale.scaling.bootstrap import FrontierFit, fit_frontier
from keras_vit_scale.scaling.bottleneck import bottlenecks
from keras_vit_scale.scaling.budget import Budget, parse_budget
from keras_vit_scale.scaling.compare import compare_laws
from keras_vit_scale.scaling.config import (
    DataConfig,
    ProbeConfig,
    RecipeConfig,
    StudyConfig,
    StudyError,
    load_config,
)
from keras_vit_scale.scaling.curve import LearningCurve, fit_curve
from keras_vit_scale.scaling.figure import draw_frontier
from keras_vit_scale.scaling.fit import fit_law
from keras_vit_scale.scaling.forms import DEFAULT_LAW, LAWS, law_from_dict
from keras_vit_scale.scaling.frontier import pareto_frontier
from keras_vit_scale.scaling.held_out import held_out_predictions
from keras_vit_scale.scaling.joint import JointLaw, fit_joint_law
from keras_vit_scale.scaling.law import (
    DoubleSaturatingLaw,
    Law,
    PowerLaw,
    PowerLawWithFloor,
)
from keras_vit_scale.scaling.planner import Plan
from keras_vit_scale.scaling.published import paper_results
from keras_vit_scale.scaling.report import write_report
from keras_vit_scale.scaling.results import collect_results
from keras_vit_scale.scaling.sample_efficiency import images_to_reach, sample_efficiency
from keras_vit_scale.scaling.sigmoidal import SigmoidalLaw
from keras_vit_scale.scaling.study import run_study
from keras_vit_scale.scaling.surface import ErrorSurface, fit_surface
from keras_vit_scale.scaling.tables import read_groups, read_points

__all__ = [
    "DEFAULT_LAW",
    "LAWS",
    "Advice",
    "Budget",
    "DataConfig",
    "DoubleSaturatingLaw",
    "ErrorSurface",
    "FrontierFit",
    "JointLaw",
    "Law",
    "LearningCurve",
    "Plan",
    "PowerLaw",
    "PowerLawWithFloor",
    "ProbeConfig",
    "RecipeConfig",
    "SigmoidalLaw",
    "StudyConfig",
    "StudyError",
    "advise",
    "bottlenecks",
    "budget_for",
    "collect_results",
    "compare_laws",
    "draw_frontier",
    "fit_curve",
    "fit_frontier",
    "fit_joint_law",
    "fit_law",
    "fit_surface",
    "held_out_predictions",
    "images_to_reach",
    "law_from_dict",
    "load_config",
    "paper_results",
    "pareto_frontier",
    "parse_budget",
    "read_groups",
    "read_points",
    "run_study",
    "sample_efficiency",
    "write_report",
]

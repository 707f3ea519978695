"""Scaling studies: the frontier, the law, and the runs that they are fitted to."""

from keras_vit_scale.scaling.frontier import pareto_frontier
from keras_vit_scale.scaling.law import DoubleSaturatingLaw, fit_law

__all__ = ["DoubleSaturatingLaw", "fit_law", "pareto_frontier"]

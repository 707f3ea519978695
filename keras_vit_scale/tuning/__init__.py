"""Searches for shapes and recipes with KerasTuner: a trial is a run (extra `tuner`)."""

from keras_vit_scale.tuning.budget import Budget, largest_shape
from keras_vit_scale.tuning.hypermodels import RecipeHyperModel, RunHyperModel, ViTHyperModel
from keras_vit_scale.tuning.probe import Probe
from keras_vit_scale.tuning.results import draw_search, importance, search_results
from keras_vit_scale.tuning.tuner import RunTuner, SearchError

__all__ = [
    "Budget",
    "Probe",
    "RecipeHyperModel",
    "RunHyperModel",
    "RunTuner",
    "SearchError",
    "ViTHyperModel",
    "draw_search",
    "importance",
    "largest_shape",
    "search_results",
]

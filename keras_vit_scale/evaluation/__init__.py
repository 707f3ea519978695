"""Judging a representation, the few-shot linear probe; and using a finished classifier."""

from keras_vit_scale.evaluation.bundle import load_classifier, save_classifier
from keras_vit_scale.evaluation.classifier import Classifier
from keras_vit_scale.evaluation.features import extract_features, representation
from keras_vit_scale.evaluation.fewshot import FewShot, FewShotResult, linear_probe, ridge

__all__ = [
    "Classifier",
    "FewShot",
    "FewShotResult",
    "extract_features",
    "linear_probe",
    "load_classifier",
    "representation",
    "ridge",
    "save_classifier",
]

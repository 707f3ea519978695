"""Judging a representation: the few-shot linear probe."""

from keras_vit_scale.evaluation.features import extract_features, representation
from keras_vit_scale.evaluation.fewshot import FewShot, FewShotResult, linear_probe, ridge

__all__ = [
    "FewShot",
    "FewShotResult",
    "extract_features",
    "linear_probe",
    "representation",
    "ridge",
]

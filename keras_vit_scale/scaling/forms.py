"""The laws by name: for fits, and for what was stored of one."""

from dataclasses import fields
from typing import Any

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.formats import without_format
from keras_vit_scale.scaling.law import DoubleSaturatingLaw, Law, PowerLaw, PowerLawWithFloor
from keras_vit_scale.scaling.sigmoidal import SigmoidalLaw

#: Laws of error against one quantity, from the fewest parameters to the most.
LAWS = {law.name: law for law in (PowerLaw, PowerLawWithFloor, DoubleSaturatingLaw, SigmoidalLaw)}

#: Name of the law that is fitted where none is asked for. It describes frontiers best; beyond the
#: results, on the paper's tables, its average with "power+floor" is the better guide
#: (`held_out_predictions`).
DEFAULT_LAW = "double-saturating"


def law_class(law: str | type[Law]) -> type[Law]:
    """The class of a law's name; a class is given back.

    Raises:
        ValueError: If there is none.
    """
    if isinstance(law, type) and issubclass(law, Law):
        return law
    check_one_of(LAWS, law=law)
    return LAWS[law]


def law_from_dict(stored: dict[str, Any]) -> Law:
    """The law that `to_dict` wrote.

    Raises:
        ValueError: If the name is unknown, a field is missing or unknown, or the format is
            a later one.

    Example:

    >>> from keras_vit_scale.scaling import DoubleSaturatingLaw, law_from_dict
    >>> law_from_dict(DoubleSaturatingLaw(0.63, 0.32, 0.12, 0.52).to_dict())
    DoubleSaturatingLaw(a=0.63, b=0.32, c=0.12, d=0.52)
    """
    values = without_format("law", stored, "a law")
    kind = law_class(values.pop("law", None))
    known = {field.name for field in fields(kind)}
    missing = set(kind.parameters) - set(values)
    if missing or not set(values) <= known:
        raise ValueError(
            f"A {kind.name!r} law must have the fields {sorted(kind.parameters)}, and may have "
            f"{sorted(known - set(kind.parameters))}. Received: {sorted(values)}"
        )
    for name in ("compute_range", "warnings"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return kind(**values)

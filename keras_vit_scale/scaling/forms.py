"""The laws by name."""

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
    if law not in LAWS:
        raise ValueError(f"`law` must be one of {list(LAWS)}. Received: law={law!r}")
    return LAWS[law]

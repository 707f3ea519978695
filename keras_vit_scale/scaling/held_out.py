"""Hidden results foretold: what each law says of results that it was not fitted to."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.bootstrap import fit_frontier
from keras_vit_scale.scaling.compare import hidden_best, hidden_cases
from keras_vit_scale.scaling.forms import LAWS, law_class
from keras_vit_scale.scaling.frontier import check_points
from keras_vit_scale.scaling.law import Law

#: What is told of each prediction.
COLUMNS = (
    "case", "law", "compute", "error", "reach", "predicted", "off", "low", "high", "held",
)  # fmt: skip


def held_out_predictions(
    compute: ArrayLike,
    error: ArrayLike,
    trunk: ArrayLike | None = None,
    *,
    cases: Mapping[str, ArrayLike] | None = None,
    laws: Sequence[str | type[Law]] = tuple(LAWS),
    level: float = 0.9,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Predictions and intervals of laws for results that were hidden from them.

    In each case some results are hidden, each law is fitted to the rest (`fit_frontier`), and
    asked for those points of the frontier of all results that were hidden and cost more than any
    that was not. These are the best of several noisy results, so a law of the frontier without
    luck is expected to lie a little above them.

    Args:
        compute, error: All results.
        trunk: A label for each result, as for `fit_frontier`.
        cases: Which results to hide, by name: arrays of booleans. By default those beyond a tenth
            and beyond 3 % of the most compute.
        laws: Names in `LAWS`.
        level: Of the intervals, which are those for one more run (`interval(run=True)`).
        resamples, seed: Of the intervals.

    Returns:
        A row a case, law and hidden point: `case`, `law`, `compute`, `error`, `reach` (the compute
        over the most that was seen), `predicted`, `off` (log of predicted / error), `low`, `high`,
        `held` (whether the error lies between them). Cases that leave nothing to judge, or too
        little to fit, have no rows.

    Raises:
        ValueError: If a value is out of range, a mask has another shape than the results, or
            a law is unknown.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.scaling import PowerLawWithFloor, held_out_predictions
    >>> compute = np.geomspace(1, 1e4, 25)
    >>> error = PowerLawWithFloor(a=0.5, b=0.3, c=0.05).predict(compute)
    >>> table = held_out_predictions(compute, error, laws=["power+floor"], resamples=20,
    ...                              cases={"beyond 1,000": compute > 1000})
    >>> len(table), bool(table["off"].abs().max() < 1e-3), bool(table["held"].all())
    (6, True, True)
    """
    compute, error = check_points(compute, error)
    kinds = [law_class(law) for law in laws]
    trunk = None if trunk is None else np.asarray(trunk)
    if cases is None:
        cases = hidden_cases(compute)
    tables = []
    for name, hidden in cases.items():
        hidden = np.asarray(hidden)
        if hidden.shape != compute.shape or hidden.dtype != bool:
            raise ValueError(
                "A case must say of each result whether it is hidden. Received: "
                f"{hidden.dtype} of shape {hidden.shape} for {name!r}, {len(compute)} results"
            )
        seen = ~hidden
        if not seen.any():
            continue
        judged, most = hidden_best(compute, error, hidden), compute[seen].max()
        for kind in kinds if len(judged) else ():
            try:
                fit = fit_frontier(
                    compute[seen],
                    error[seen],
                    None if trunk is None else trunk[seen],
                    law=kind,
                    resamples=resamples,
                    seed=seed,
                )
            except ValueError:
                continue
            predicted = fit.predict(compute[judged])
            low, high = fit.interval(compute[judged], level, run=True)
            tables.append(
                pd.DataFrame(
                    {
                        "case": name,
                        "law": kind.name,
                        "compute": compute[judged],
                        "error": error[judged],
                        "reach": compute[judged] / most,
                        "predicted": predicted,
                        "off": np.log(predicted / error[judged]),
                        "low": low,
                        "high": high,
                        "held": (low <= error[judged]) & (error[judged] <= high),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)

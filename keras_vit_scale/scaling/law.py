"""Laws of error against compute (or images seen): power laws with floor and shift."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from keras_vit_scale.formats import with_format
from keras_vit_scale.scaling.display import html_table


@dataclass(frozen=True, kw_only=True, repr=False)
class Law:
    """What all laws share: how they were fitted, units, files and words.

    A law is a function of one quantity, called compute here; images seen will do.
    Its parameters are fields; a fit adds what follows.

    Args:
        points: How many points it was fitted to, or `None`.
        rms_log_error: Root mean square of log(predicted / measured) at them.
        compute_range: Least and largest compute among them: beyond it a
            prediction is an extrapolation.
        warnings: What the points could not tell, a sentence each.
    """

    points: int | None = None
    rms_log_error: float | None = None
    compute_range: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()

    #: Name in `LAWS`.
    name: ClassVar[str]
    #: Names of the parameters, in the order of the vector that is fitted.
    parameters: ClassVar[tuple[str, ...]]
    #: The law in letters.
    formula: ClassVar[str]

    def predict(self, compute: ArrayLike) -> np.ndarray:
        """Error at one compute or an array of them."""
        raise NotImplementedError

    def compute_for(self, error: float) -> float:
        """Compute at which the law reaches `error`; 0 if it needs none.

        Raises:
            ValueError: If the law never gets there.
        """
        floor = getattr(self, "c", 0.0)
        if not error > floor:
            raise ValueError(
                f"The law does not go below {floor:.4g}, whatever the compute. "
                f"Received: error={error}"
            )
        return self._compute_for(float(error))

    def in_unit(self, factor: float) -> "Law":
        """The same law of compute in another unit, of which one of this law's is `factor`."""
        changed: dict[str, Any] = {**self._rescaled(factor)}
        if self.compute_range is not None:
            least, most = self.compute_range
            changed["compute_range"] = (least * factor, most * factor)
        return replace(self, **changed)

    @classmethod
    def from_vector(cls, theta: np.ndarray) -> dict[str, float]:
        """The fields of a fitted vector: the logarithms of the parameters."""
        return dict(zip(cls.parameters, np.exp(theta), strict=True))

    def extrapolates(self, compute: float) -> bool:
        """Whether `compute` lies outside what the law was fitted to."""
        if self.compute_range is None:
            return False
        least, most = self.compute_range
        return not least <= compute <= most

    def draw(
        self,
        compute: ArrayLike,
        error: ArrayLike,
        sizes: Iterable[object] | None = None,
        **options: Any,
    ) -> Axes:
        """Draws the law with points by size on log-log axes, and returns the axes.

        Arguments are those of `draw_frontier`.
        """
        from keras_vit_scale.scaling.figure import draw_frontier

        return draw_frontier(compute, error, sizes, self, **options)

    def _compute_for(self, error: float) -> float:
        raise NotImplementedError

    def _rescaled(self, factor: float) -> dict[str, float]:
        """The parameters that change with the unit of compute."""
        raise NotImplementedError

    # What a fit needs of a law: K vectors theta (K, P) at points log_x (N,) or (K, N), or one.

    @staticmethod
    def log_error(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the error and their derivatives by what is fitted."""
        raise NotImplementedError

    @staticmethod
    def box(log_x: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of what is fitted."""
        raise NotImplementedError

    @staticmethod
    def starts(log_x: np.ndarray, log_error: np.ndarray) -> np.ndarray:
        """Where fits start."""
        raise NotImplementedError

    def __repr__(self) -> str:
        told = [f"{name}={getattr(self, name):.4g}" for name in self.parameters]
        if self.points is not None:
            told.append(f"points={self.points}")
        if self.rms_log_error is not None:
            told.append(f"rms_log_error={self.rms_log_error:.2g}")
        if self.compute_range is not None:
            told.append("compute_range=({:.4g}, {:.4g})".format(*self.compute_range))
        if self.warnings:
            told.append(f"warnings=<{len(self.warnings)}>")
        return f"{type(self).__name__}({', '.join(told)})"

    def _repr_html_(self) -> str:
        rows = [(name, f"{getattr(self, name):.4g}") for name in self.parameters]
        return html_table(["", "value"], rows, above=[self.described()], below=self.warnings)

    def described(self) -> str:
        """The law and how it was fitted, in one line."""
        told = f"{self}"
        if self.points is not None:
            told += f", fitted to {self.points} points"
        if self.compute_range is not None:
            told += " from C = {:.3g} to {:.3g}".format(*self.compute_range)
        if self.rms_log_error is not None:
            told += f", {self.rms_log_error:.1%} off (rms)"
        return told

    def to_dict(self) -> dict[str, Any]:
        """The law as JSON can hold it; `law_from_dict` reads it."""
        return with_format("law", {"law": self.name, **asdict(self)})


@dataclass(frozen=True, repr=False)
class PowerLaw(Law):
    """`E = a C^-b`, a straight line on log-log axes."""

    a: float
    b: float

    name: ClassVar[str] = "power"
    parameters: ClassVar[tuple[str, ...]] = ("a", "b")
    formula: ClassVar[str] = "a C^-b"

    def predict(self, compute: ArrayLike) -> np.ndarray:
        return self.a * np.asarray(compute, dtype=np.float64) ** -self.b

    def _compute_for(self, error: float) -> float:
        return (error / self.a) ** (-1 / self.b)

    def _rescaled(self, factor: float) -> dict[str, float]:
        return {"a": self.a * factor**self.b}

    def __str__(self) -> str:
        return f"E = {self.a:.3g} C^-{self.b:.3g}"

    @staticmethod
    def log_error(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the error and their derivatives by the logarithms of a and b."""
        log_a, b = theta[..., :1], np.exp(theta[..., 1:2])
        fall = -b * log_x
        return log_a + fall, np.stack([np.ones_like(fall), fall], axis=-1)

    @staticmethod
    def box(log_x: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the logarithms of the parameters, wide enough to mean none."""
        return np.log([1e-12, 1e-3]), np.log([1e12, 20.0])

    @staticmethod
    def starts(log_x: np.ndarray, log_error: np.ndarray) -> np.ndarray:
        """Where fits start."""
        return np.array([[log_error.mean(), np.log(b)] for b in (0.1, 0.3, 1.0)])


@dataclass(frozen=True, repr=False)
class PowerLawWithFloor(Law):
    """`E = a C^-b + c`: c is the error that infinite compute would leave."""

    a: float
    b: float
    c: float

    name: ClassVar[str] = "power+floor"
    parameters: ClassVar[tuple[str, ...]] = ("a", "b", "c")
    formula: ClassVar[str] = "a C^-b + c"

    def predict(self, compute: ArrayLike) -> np.ndarray:
        return self.a * np.asarray(compute, dtype=np.float64) ** -self.b + self.c

    def _compute_for(self, error: float) -> float:
        return ((error - self.c) / self.a) ** (-1 / self.b)

    def _rescaled(self, factor: float) -> dict[str, float]:
        return {"a": self.a * factor**self.b}

    def __str__(self) -> str:
        return f"E = {self.c:.3g} + {self.a:.3g} C^-{self.b:.3g}"

    @staticmethod
    def log_error(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the error and their derivatives by the logarithms of a, b, c."""
        log_a, b, log_c = theta[..., :1], np.exp(theta[..., 1:2]), theta[..., 2:3]
        fall = -b * log_x
        value = np.logaddexp(log_a + fall, log_c)
        power = np.exp(log_a + fall - value)
        return value, np.stack([power, power * fall, np.exp(log_c - value)], axis=-1)

    @staticmethod
    def box(log_x: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the logarithms of the parameters, wide enough to mean none."""
        lowest = np.exp(log_error.min())
        return np.log([1e-12, 1e-2, lowest * 1e-6]), np.log([1e12, 20.0, np.exp(log_error.max())])

    @staticmethod
    def starts(log_x: np.ndarray, log_error: np.ndarray) -> np.ndarray:
        """Where fits start."""
        return DoubleSaturatingLaw.grid(log_x, log_error, shifts=[-np.inf])[:, :3]


@dataclass(frozen=True, repr=False)
class DoubleSaturatingLaw(Law):
    """`E = a (C + d)^-b + c`, the paper's law of error against compute.

    Args:
        a, b, c, d: Its parameters: c is the error that infinite compute would
            leave, d shifts the compute axis because a model with no training
            already does better than a power law says.

    Source: Zhai et al., arXiv 2106.04560, section 2.2.

    Example:

    >>> from keras_vit_scale.scaling import DoubleSaturatingLaw
    >>> published = DoubleSaturatingLaw(a=0.63, b=0.32, c=0.12, d=0.52)  # 10-shot, core-days
    >>> round(float(published.predict(1000.0)), 3)
    0.189
    >>> round(published.compute_for(published.predict(1000.0)))
    1000
    """

    a: float
    b: float
    c: float
    d: float

    name: ClassVar[str] = "double-saturating"
    parameters: ClassVar[tuple[str, ...]] = ("a", "b", "c", "d")
    formula: ClassVar[str] = "a (C + d)^-b + c"

    def predict(self, compute: ArrayLike) -> np.ndarray:
        shifted = np.asarray(compute, dtype=np.float64) + self.d
        return self.a * shifted**-self.b + self.c

    def _compute_for(self, error: float) -> float:
        return max(0.0, ((error - self.c) / self.a) ** (-1 / self.b) - self.d)

    def _rescaled(self, factor: float) -> dict[str, float]:
        return {"a": self.a * factor**self.b, "d": self.d * factor}

    def __str__(self) -> str:
        return f"E = {self.c:.3g} + {self.a:.3g} (C + {self.d:.3g})^-{self.b:.3g}"

    @staticmethod
    def log_error(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the error and their derivatives by the logarithms of a, b, c, d."""
        log_a, b, log_c, log_d = (theta[..., i : i + 1] for i in range(4))
        b = np.exp(b)
        shifted = np.logaddexp(log_x, log_d)
        fall = -b * shifted
        value = np.logaddexp(log_a + fall, log_c)
        power = np.exp(log_a + fall - value)
        columns = [power, power * fall, np.exp(log_c - value), -power * b * np.exp(log_d - shifted)]
        return value, np.stack(columns, axis=-1)

    @staticmethod
    def box(log_x: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the logarithms of the parameters, wide enough to mean none."""
        lower, upper = PowerLawWithFloor.box(log_x, log_error)
        return (
            np.append(lower, log_x.min() + np.log(1e-6)),
            np.append(upper, log_x.max() + np.log(1e3)),
        )

    @staticmethod
    def starts(log_x: np.ndarray, log_error: np.ndarray) -> np.ndarray:
        """Where fits start: 80 combinations of exponent, floor and shift."""
        least, most = log_x.min(), log_x.max()
        shifts = [least + np.log(1e-3), least, (least + most) / 2, most]
        return DoubleSaturatingLaw.grid(log_x, log_error, shifts)

    @staticmethod
    def grid(log_x: np.ndarray, log_error: np.ndarray, shifts: Sequence[float]) -> np.ndarray:
        """Combinations of exponent, floor and `shifts`, each with the best amplitude for it."""
        error, starts = np.exp(log_error), []
        for b in (0.1, 0.3, 0.6, 1.0, 2.0):
            for c in error.min() * np.array([1e-3, 0.3, 0.7, 0.95]):
                above = np.log((error - c).clip(error * 1e-3))
                for shift in shifts:
                    # By the median of what the amplitude would be at each point.
                    a = np.median(above + b * np.logaddexp(log_x, shift))
                    starts.append([a, np.log(b), np.log(c), shift])
        return np.array(starts)

"""Exact linear sets: how far logits and group gaps of near-optimal logistic regressions reach, with certificates.

The set is convex, {theta : L(theta) <= L* + epsilon}, and what is asked for is linear in theta = (weights,
intercept), so the extremes are convex programs with one constraint. Along the multiplier 1/t of that constraint

    v(t) = min_theta  t c'theta + L(theta)

is smooth and unconstrained, L grows with t at its minimum, and (v(t) - B) / t is a lower bound of min c'theta for
every t > 0 (weak duality). Newton's method finds the minimum, a search in t the one that meets the bound B.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError
from rashomon_core.vectors import as_groups, as_weights

from .linear import LinearModel, Ranges, as_matrix, as_probabilities, sigmoid

__all__ = ["LinearSet"]

Array = npt.NDArray[Any]

#: Newton steps and points of the search before giving up; the bounds hold whatever made it stop.
MAX_NEWTON, MAX_SEARCH = 100, 20
#: Part of what its slope promises that a step which moves a score by more than 1 has to bring.
FALL = 0.1


@dataclass
class _Extreme:
    """One program solved: theta, its value c'theta, a bound that no member passes, Newton steps."""

    theta: Array
    value: float
    bound: float
    newton: int


class LinearSet:
    """All logistic regressions whose loss is at most the optimum's plus epsilon.

    L(w, b) = sum_i s_i [log(1 + exp z_i) - p_i z_i] + l2 / 2 |w|^2 in nats, z_i = x_i'w + b, s_i the sample weights
    divided by their sum, p_i the answers; the intercept is not penalised. (scikit-learn's ``C`` is
    1 / (l2 * sum of weights).) The set is {(w, b) : L(w, b) <= L* + epsilon}, relative: <= (1 + epsilon) L*, with L*
    the smallest loss; epsilon therefore counts the penalty too.

    Parameters
    ----------
    X : (N, d) array-like
        Finite numbers. Columns may be constant or depend on one another.
    answers : (N,) labels of two classes, (N,) floats P(class 1), or (N, 2) floats
        Integers, booleans and text are labels; floats are always probabilities.
    epsilon : float
        >= 0.
    l2 : float
        >= 0. With 0 the optimum must exist: answers that a hyperplane separates are refused.
    relative : bool
    sample_weight : (N,) array-like, optional
        Finite, >= 0, not all 0.
    method : {"newton", "cvxpy"}
        Newton's method on the multiplier (needs NumPy only), or the conic program (extra ``[convex]``) as a second
        opinion. Both hand back models that are in the set, and bounds of the same kind.
    tol : float
        Certified: bounds within ``tol * max(1, |value|)`` of what is attained.

    Attributes
    ----------
    optimum : LinearModel
        The optimal model; its ``loss`` is L*.
    optimum_gap : float
        L* is at most this far above the true smallest loss (dual bound).
    limit : float
        L* + epsilon, the largest loss of a member.

    Raises
    ------
    InvalidInputError
        NaN in X, wrong shapes, one class only, more than two classes, separable answers without a penalty.
    UsageError
        For a negative or NaN epsilon, l2 or tol.

    Notes
    -----
    Cost: a Newton step is N d^2 flops; a row takes two programs of about ten steps. Models that are returned are
    checked in NumPy: loss <= limit (1 + 1e-12); one a hair outside is drawn towards the optimum
    until it is inside, which convexity allows.

    References
    ----------
    Hsu, Li, Hu and Chen, ICLR 2024 (convex sets of linear models); Boyd and Vandenberghe, Convex Optimization (2004),
    sections 5.5 (duality) and 9.5 (Newton's method).

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.exploration import LinearSet
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> answers = (X @ [1, -1, 0] + np.random.default_rng(1).normal(size=200) > 0).astype(int)
    >>> near = LinearSet(X, answers, epsilon=0.01, l2=1e-3)
    >>> found = near.range(X[:2])
    >>> found.status.tolist(), bool((found.low < near.optimum.decision_function(X[:2])).all())
    (['certified', 'certified'], True)
    """

    def __init__(
        self,
        X: object,
        answers: object,
        *,
        epsilon: float,
        l2: float = 0.0,
        relative: bool = False,
        sample_weight: object = None,
        method: Literal["newton", "cvxpy"] = "newton",
        tol: float = 1e-6,
    ) -> None:
        for name, value in (("epsilon", epsilon), ("l2", l2), ("tol", tol)):
            if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value >= 0):
                raise UsageError(f"{name}={value!r} must be finite and not negative")
        if method not in ("newton", "cvxpy"):
            raise UsageError(f"method={method!r}. Fix: 'newton' or 'cvxpy'")
        rows = as_matrix(X, "X")
        p, self.classes_ = as_probabilities(answers, len(rows))
        weights = as_weights(sample_weight, len(rows))
        if weights is None:
            weights = np.ones(len(rows))
        used = weights > 0
        rows, p, weights = rows[used], p[used], weights[used] / weights.sum()
        if p.max() <= 0 or p.min() >= 1:
            one = "0" if p.max() <= 0 else "1"
            raise InvalidInputError(f"all answers are class {one}", fix="a set needs answers of both classes")
        self.epsilon, self.l2, self.relative, self.method, self.tol = float(epsilon), float(l2), relative, method, tol
        self.n_features = rows.shape[1]
        self._s, self._p = weights, p
        self._rows = rows
        self._set_basis(np.hstack([rows, np.ones((len(rows), 1))]))
        self._solve_optimum()
        slack = epsilon * self._best if relative else epsilon
        self.limit = self._best + slack
        self._slack = float(slack)
        self._found: list[tuple[Array, str]] = []
        self._problem: Any = None

    # --- the loss -----------------------------------------------------------------------------------------------

    def _set_basis(self, A: Array) -> None:
        """Choose coordinates: with a penalty theta itself; without, an orthonormal basis of what the data can see."""
        D = A.shape[1]
        if self.l2 > 0:
            self._A, self._basis = A, None
            self._penalty = np.append(np.full(D - 1, self.l2), 0.0)
            return
        scale = np.sqrt(np.mean(A * A, axis=0))
        scale[scale == 0] = 1.0
        _, sizes, Vt = np.linalg.svd((A / scale) * np.sqrt(self._s)[:, None], full_matrices=False)
        rank = int((sizes > sizes[0] * max(A.shape) * np.finfo(float).eps).sum())
        # theta = basis @ y, with A @ basis of orthonormal columns in the weighted product
        self._basis = (Vt[:rank] / sizes[:rank, None]).T / scale[:, None]
        self._seen, self._scale = Vt[:rank], scale
        self._A = A @ self._basis
        self._penalty = np.zeros(rank)

    def _loss(self, y: Array, z: Array | None = None) -> float:
        z = self._A @ y if z is None else z
        return float(self._s @ (np.logaddexp(0.0, z) - self._p * z) + 0.5 * (self._penalty * y) @ y)

    def _bend(self, y: Array) -> tuple[Array, Array]:
        """Return the gradient of the loss and its Hessian."""
        z = self._A @ y
        q, rest = sigmoid(z), sigmoid(-z)
        hessian = (self._A.T * (self._s * q * rest)) @ self._A
        hessian[np.diag_indices_from(hessian)] += self._penalty
        # q - p, which near 1 is not to be lost in rounding
        return self._A.T @ (self._s * (q * (1 - self._p) - rest * self._p)) + self._penalty * y, hessian

    def _newton(self, y: Array, direction: Array, bend: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Return the Newton step of direction'y + L(y), and the solution of Hessian d = direction."""
        gradient, hessian = bend or self._bend(y)
        both = np.linalg.solve(hessian, np.stack([direction + gradient, direction], axis=1))
        return -both[:, 0], both[:, 1]

    def _has_minimum_near(self, y: Array) -> bool:
        """Whether the loss bends enough at ``y`` for its slope there: then a minimum exists, else doubles show none.

        The slope's length in the norm of the Hessian, with what rounding may hide of it, times the most that a step of
        length 1 changes a score: at most 1/2 is enough (F. Bach, Self-concordant analysis for logistic regression,
        Electronic Journal of Statistics 4, 2010, proposition 2). Where a hyperplane separates answers the loss bends
        less and less while its slope goes to 0, until rounding is all that is left of it.
        """
        gradient, hessian = self._bend(y)
        z = self._A @ y
        terms = self._s * (sigmoid(z) * (1 - self._p) + sigmoid(-z) * self._p)
        total = np.append(terms @ np.abs(self._rows), terms.sum())  # what the rows themselves were rounded from
        if self._basis is not None:
            total = total @ np.abs(self._basis)
        hidden = np.finfo(float).eps * float(np.linalg.norm(total + np.abs(self._penalty * y)))
        sizes, axes = np.linalg.eigh(hessian)
        if not sizes[0] > 0:
            return False
        slope = float(np.linalg.norm((axes.T @ gradient) / np.sqrt(sizes))) + hidden / math.sqrt(sizes[0])
        reach = float(np.linalg.norm((self._A @ axes) / np.sqrt(sizes), axis=1).max())
        return bool(slope * reach <= 0.5)

    def _minimise(
        self, y: Array, direction: Array, steps: int, *, careful: bool = False
    ) -> tuple[Array, Array, Array, int, bool]:
        """Minimise direction'y + L(y): y, a last step not taken, Hessian^-1 direction, steps, converged.

        A long step falls as its slope says, in part: beyond, the loss may hardly bend any more, though it fell.
        ``careful``: it also does no more than double the largest score, which takes more steps.
        """
        value = float(direction @ y) + self._loss(y)
        for used in range(steps):
            bend = self._bend(y)
            step, slope = self._newton(y, direction, bend)
            move = float(np.abs(self._A @ step).max())
            if move <= 1e-7:  # what is left after it is its square
                return y, step, slope, used + 1, True
            fall = float((direction + bend[0]) @ step)
            length = min(1.0, (2.0 + float(np.abs(self._A @ y).max())) / move) if careful else 1.0
            while length > 1e-10:
                ahead = y + length * step
                reached = float(direction @ ahead) + self._loss(ahead)
                if reached <= value + (FALL * length * fall if length * move > 1 else 0.0):
                    break
                length /= 2
            else:  # no descent that doubles can show: at the minimum to rounding
                return y, step, slope, used + 1, move <= 0.5
            y, value = ahead, reached
        return y, step, slope, steps, False

    def _lower(self, y: Array, step: Array, direction: Array) -> float:
        """Return a lower bound of min direction'y + L(y) by Fenchel duality, -inf where the point is too far off.

        For any q in [0, 1]: loss_i(z) >= (q_i - p_i) z + H(q_i). With q moved along the Newton step the terms linear
        in y cancel, but for rounding, against the direction and the penalty.
        """
        z = self._A @ y
        q = sigmoid(z) + sigmoid(z) * sigmoid(-z) * (self._A @ step)
        if q.min() < 0 or q.max() > 1:
            return -math.inf
        end = y + step
        left = direction + self._A.T @ (self._s * (q - self._p)) + self._penalty * end  # 0 but for rounding
        entropy = float(self._s @ (_entropy(q) + _entropy(1 - q)))
        allowance = 2 * float(np.abs(left) @ np.abs(end)) + 1e-15 * (1 + entropy)
        return entropy - 0.5 * float((self._penalty * end) @ end) - allowance

    @np.errstate(over="ignore", invalid="ignore")  # a step to nowhere is no descent
    def _solve_optimum(self) -> None:
        nothing = np.zeros(self._A.shape[1])
        try:
            y, step, *_ = self._minimise(nothing, nothing, 2 * MAX_NEWTON, careful=True)
            found = self._has_minimum_near(y)
            if found and self._loss(y + step) <= self._loss(y):
                y = y + step
                step, _ = self._newton(y, nothing)
        except np.linalg.LinAlgError:
            found = False
        gap = self._loss(y) - self._lower(y, step, nothing) if found else math.inf
        if gap == math.inf and self.l2 > 0:
            raise InvalidInputError(
                "doubles cannot show the smallest loss: columns are of too different sizes for so small a penalty",
                fix="scale the columns of X to about 1, or give a larger l2",
            )
        if gap == math.inf:
            raise InvalidInputError(
                "a hyperplane separates the answers (or some of them from the rest), so no smallest loss exists",
                fix="give l2 > 0, for example 1e-3, or softer answers",
            )
        self._y = y
        self._best = self._loss(y)
        self.optimum_gap = max(0.0, gap)
        self.optimum = self._model(y, "optimum")

    # --- extremes -----------------------------------------------------------------------------------------------

    def _inside(self, y: Array) -> Array:
        """Draw a point towards the optimum until its loss is within the limit."""
        for _ in range(60):
            over = self._loss(y) - self.limit
            if over <= 0:
                return y
            share = self._slack / (self._slack + over) if self._slack > 0 else 0.0
            y = self._y + min(share, 1 - 1e-15) * (1 - 1e-15) * (y - self._y)
        return self._y

    def _smallest(self, c: Array) -> _Extreme:
        """Minimise c'y over the set."""
        y, steps = self._y, 0
        _, slope = self._newton(y, c)
        bend = float(c @ slope)
        if bend <= 0:  # c is 0
            return _Extreme(y, 0.0, 0.0, 0)
        slack = max(self._slack, 1e-14)  # epsilon 0: the bound needs some room
        t = math.sqrt(2 * slack / bend)
        start, low, high = y - t * slope, 0.0, math.inf
        last = y  # the minimum at t = low
        bound, best, value = -math.inf, self._y, float(c @ self._y)
        for _ in range(MAX_SEARCH):
            try:
                y, step, slope, used, converged = self._minimise(start, t * c, 30)
            except np.linalg.LinAlgError:
                used, converged = 0, False
            steps += used
            if not converged:  # beyond some t there is no minimum: then t is too large
                high, t, start = t, 0.5 * (low + t), last
                continue
            bound = max(bound, (self._lower(y, step, t * c) - self.limit) / t)
            y = y + step
            own = self._inside(y)
            if float(c @ own) < value:
                best, value = own, float(c @ own)
            if value - bound <= 0.01 * self.tol * max(1.0, abs(value)):
                break
            over = self._loss(y) - self._best
            if over > slack:
                high = t
            else:
                low, last = t, y
            if high < math.inf and high - low <= 1e-15 * high:
                break
            # sqrt(L - L*) is nearly linear in t: a Newton step for it, kept within the bracket
            rate, root = float(c @ slope), math.sqrt(max(over, 0.0))  # dL/dt = t c'H^-1 c, and slope is H^-1 t c
            ahead = t + (math.sqrt(slack) - root) * 2 * root / rate if rate > 0 and root > 0 else 2 * t
            if not low < ahead < high or not math.isfinite(ahead):
                ahead = 2 * t if high == math.inf else 0.5 * (low + high)
            start = y - (ahead - t) / t * slope  # dy/dt = -H^-1 c
            t = ahead
        found = _Extreme(best, value, bound, steps)
        if value - bound > self.tol * max(1.0, abs(value)) and self._slack > 0:
            return self._by_barrier(c, found, math.sqrt(2 * slack * bend))
        return found

    def _by_barrier(self, c: Array, found: _Extreme, scale: float) -> _Extreme:
        """Minimise c'y by a logarithmic barrier, where a set reaches so far that probabilities saturate.

        There L hardly bends and t is near the largest value with a minimum. The barrier keeps every point inside:
        minimise tau c'y - log(limit - L(y)) for growing tau; at its minimum t = tau (limit - L) meets the same
        conditions as above, and the gap is 1 / tau.
        """
        y, tau = self._y, 1.0 / scale
        best, value, bound, steps = found.theta, found.value, found.bound, found.newton

        def barrier(at: Array) -> float:
            room = self.limit - self._loss(at)
            return tau * float(c @ at) - math.log(room) if room > 0 else math.inf

        for _ in range(MAX_SEARCH):
            for _ in range(MAX_NEWTON):
                room = self.limit - self._loss(y)
                step, steps = self._barrier_step(y, tau * room * c, room), steps + 1
                here, length = barrier(y), 1.0
                while length > 1e-10 and not barrier(y + length * step) < here:
                    length /= 2
                if length <= 1e-10:
                    break
                y = y + length * step
                if float(np.abs(self._A @ step).max()) <= 1e-6:
                    break
            if float(c @ y) < value:
                best, value = y, float(c @ y)
            t = tau * (self.limit - self._loss(y))
            try:
                step, _ = self._newton(y, t * c)
            except np.linalg.LinAlgError:  # nothing bends here any more: the last bound stands
                break
            bound = max(bound, (self._lower(y, step, t * c) - self.limit) / t)
            if value - bound <= 0.01 * self.tol * max(1.0, abs(value)) or t < 1e-14 * tau:
                break
            tau *= 8
        return _Extreme(best, value, bound, steps)

    def _barrier_step(self, y: Array, direction: Array, room: float) -> Array:
        """Return the Newton step of the barrier: its gradient is (direction + grad L) / room."""
        z = self._A @ y
        q = sigmoid(z)
        slope = self._A.T @ (self._s * (q - self._p)) + self._penalty * y
        hessian = (self._A.T * (self._s * q * sigmoid(-z))) @ self._A + np.outer(slope, slope) / room
        hessian[np.diag_indices_from(hessian)] += self._penalty
        return np.asarray(-np.linalg.lstsq(hessian, direction + slope, rcond=None)[0])

    def _by_cvxpy(self, c: Array) -> _Extreme:
        """Minimise c'y over the set with the conic solver; the same certificate from its point and multiplier."""
        cp = _import_cvxpy()
        if self._problem is None:
            y, direction = cp.Variable(len(self._y)), cp.Parameter(len(self._y))
            loss = self._s @ cp.logistic(self._A @ y) - (self._A.T @ (self._s * self._p)) @ y
            if self.l2 > 0:
                loss = loss + 0.5 * cp.sum_squares(cp.multiply(np.sqrt(self._penalty), y))
            inside = len(self._p) * loss <= len(self._p) * self.limit  # terms of order 1, for the solver's sake
            self._problem = (cp.Problem(cp.Minimize(direction @ y), [inside]), y, direction, inside)
        problem, variable, parameter, inside = self._problem
        size = float(np.linalg.norm(c))
        if size == 0:
            return _Extreme(self._y, 0.0, 0.0, 0)
        parameter.value = c / size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "may be inaccurate": our own certificate says how much
                problem.solve(solver=cp.CLARABEL)
        except cp.SolverError:
            return _Extreme(self._y, float(c @ self._y), -math.inf, 0)
        if variable.value is None or not np.isfinite(variable.value).all():
            return _Extreme(self._y, float(c @ self._y), -math.inf, 0)
        y = self._inside(np.asarray(variable.value, dtype=np.float64))
        bound = -math.inf
        multiplier = float(np.squeeze(inside.dual_value)) * size * len(self._p)
        if multiplier > 0:
            t = 1 / multiplier
            with contextlib.suppress(np.linalg.LinAlgError):  # nothing bends there: no bound
                step, _ = self._newton(y, t * c)
                bound = (self._lower(y, step, t * c) - self.limit) / t
        if float(c @ self._y) < float(c @ y):
            y = self._y
        return _Extreme(y, float(c @ y), bound, int(problem.solver_stats.num_iters or 0))

    @np.errstate(over="ignore", invalid="ignore")  # as above: bounds of such steps are no better than the last
    def _ranges(self, rows: Array, names: Sequence[str], keep: bool) -> Ranges:
        """Solve both programs for each row c of values c'theta."""
        solve = self._smallest if self.method == "newton" else self._by_cvxpy
        N = len(rows)
        low, high, low_bound, high_bound = (np.empty(N) for _ in range(4))
        status, newton = np.empty(N, dtype="<U15"), np.zeros(N, dtype=np.int64)
        for i, (row, name) in enumerate(zip(rows, names, strict=True)):
            if not self._visible(row):
                low[i] = low_bound[i] = -math.inf
                high[i] = high_bound[i] = math.inf
                status[i] = "unbounded"
                continue
            c = row if self._basis is None else self._basis.T @ row
            down, up = solve(c), solve(-c)
            low[i], low_bound[i] = down.value, min(down.bound, down.value)
            high[i], high_bound[i] = -up.value, max(-up.bound, -up.value)
            allowed = self.tol * max(1.0, abs(low[i]), abs(high[i]))
            close = max(low[i] - low_bound[i], high_bound[i] - high[i]) <= allowed
            status[i] = "certified" if close else "precision_limit"
            newton[i] = down.newton + up.newton
            if keep:
                self._found += [(down.theta, f"{name} low"), (up.theta, f"{name} high")]
        return Ranges(low, high, low_bound, high_bound, status, newton)

    def _visible(self, c: Array) -> bool:
        """Whether the data bound c'theta: without a penalty c must lie in the row space of the data."""
        if self._basis is None:
            return True
        scaled = c / self._scale
        rest = scaled - self._seen.T @ (self._seen @ scaled)
        return bool(np.linalg.norm(rest) <= 1e-8 * np.linalg.norm(scaled))

    def range(self, X: object, *, keep: bool = True) -> Ranges:
        """Return the smallest and largest logit of each row over the set, hence its exact prediction range.

        Parameters
        ----------
        X : (n, d) array-like
        keep : bool
            Remember the extremal models for :meth:`members` (two per row).

        Returns
        -------
        Ranges
            Logits; ``p_low`` and ``p_high`` are P(class 1).
        """
        rows = as_matrix(X, "X", self.n_features)
        c = np.hstack([rows, np.ones((len(rows), 1))])
        return self._ranges(c, [f"row {i}" for i in range(len(rows))], keep)

    def gap_range(self, X: object, groups: object, *, keep: bool = True) -> Ranges:
        """Return the smallest and largest gap of mean logits between two groups over the set.

        The gap is the mean logit of the group whose name sorts last minus that of the other, (1,) arrays.

        Parameters
        ----------
        X : (n, d) array-like
        groups : (n,) array-like of two values
        """
        rows = as_matrix(X, "X", self.n_features)
        found = as_groups(groups, len(rows))
        if len(found.names) != 2:
            raise InvalidInputError(
                f"a gap needs two groups, and there are {len(found.names)} ({', '.join(found.names[:5])})",
                fix="compare two groups, or one with all others",
            )
        order = np.argsort(found.names)
        means = [rows[found.codes == code].mean(axis=0) for code in order]
        c = np.append(means[1] - means[0], 0.0)
        return self._ranges(c[None], ["gap"], keep)

    def members(self) -> list[LinearModel]:
        """Return the extremal models found so far, for :func:`rashomon_core.predict_all`."""
        return [self._model(y, name) for y, name in self._found]

    def loss(self, model: LinearModel) -> float:
        """Return a linear model's loss on the data of the set, penalty included."""
        w = model.coef_[0]
        z = self._rows @ w + model.intercept_[0]
        return float(self._s @ (np.logaddexp(0.0, z) - self._p * z) + 0.5 * self.l2 * (w @ w))

    def _model(self, y: Array, name: str) -> LinearModel:
        theta = y if self._basis is None else self._basis @ y
        return LinearModel(theta[None, :-1].copy(), theta[-1:].copy(), self.classes_, self._loss(y), name)


def _import_cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError as error:
        raise MissingDependencyError("cvxpy", "LinearSet(method='cvxpy')", "convex") from error
    return cvxpy


def _entropy(q: Array) -> Array:
    """Return -q log q, 0 at 0."""
    return np.asarray(-q * np.log(np.where(q > 0, q, 1.0)))

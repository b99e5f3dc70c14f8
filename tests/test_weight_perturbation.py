"""Weight perturbation against the plain published loop, its own constraint re-evaluated, and bad input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import naive_exploration as naive
import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.exploration import Goal, Perturbed, explore, perturb

torch = pytest.importorskip("torch")
Array = npt.NDArray[Any]


def trained(out: int = 2, n: int = 200, seed: int = 0) -> tuple[Any, Array, Array]:
    rng = np.random.default_rng(seed)
    classes = max(out, 2)
    y = rng.integers(0, classes, n)
    X = (rng.normal(size=(n, 4)) + rng.normal(size=(classes, 4))[y]).astype(np.float32)
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(16, out))
    net.eval()
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        z = net(torch.as_tensor(X))
        z = torch.cat([0 * z, z], dim=1) if out == 1 else z
        torch.nn.functional.cross_entropy(z, torch.as_tensor(y)).backward()
        optimizer.step()
    return net.train(), X, y


def cross_entropy(net: Any, X: Array, soft: Array) -> float:
    p = naive.hooked(net, {}, X)
    return float(-np.mean([t @ np.log(q) for t, q in zip(soft, p, strict=True)]))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose their time to threads that wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights_of(net: Any) -> Array:
    return np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_published_rule_matches_the_plain_loop(label: int) -> None:
    net, X, y = trained(3)
    want, steps, loss = naive.perturb_as_published(net, X, y, X[7], label, 0.02, 400, 1e-2)
    goal = Goal.sample(X[7], label, on="logit")
    found = perturb(net, X, y, goal=goal, epsilon=0.02, steps=400, lr=1e-2, adaptive=False, batch_size=64)
    assert found.status == "left"
    assert found.steps == steps > 0
    assert found.loss_after == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(weights_of(found.module), weights_of(want), atol=1e-5)


@pytest.mark.parametrize("out", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loss", ["cross_entropy", "fidelity"])
def test_members_are_in_the_set_and_reach_further(out: int, optimizer: Any, loss: Any) -> None:
    net, X, y = trained(out)
    groups = np.where(X[:, 0] > 0, "b", "a")
    before, given = weights_of(net).copy(), cross_entropy(net, X, np.eye(max(out, 2))[y])
    goals = [
        Goal.sample(X[3], 0),
        Goal.sample(X[3], 1),
        Goal.samples(X, 1),
        Goal.gap(X, groups),
        Goal.gap(X, groups, high="a"),
    ]
    found = explore(net, X, y, goals=goals, epsilon=0.03, loss=loss, optimizer=optimizer, steps=80)
    assert (weights_of(net) == before).all()
    assert net.training
    scores = rc.predict_all([p.module for p in found], X).to_array()
    base = naive.hooked(net, {}, X)
    for p, s in zip(found, scores, strict=True):
        assert isinstance(p, Perturbed)
        assert p.feasible
        assert p.status in ("boundary", "steps")
        assert p.objective_after > p.objective_before
        if loss == "cross_entropy":
            own = cross_entropy(p.module, X, np.eye(max(out, 2))[y])
            assert p.loss_before == pytest.approx(given, abs=1e-6)
            assert own <= given + 0.03 + 1e-6
        else:
            own = float((np.argmax(s, axis=1) != y).mean())
            assert own <= (np.argmax(base, axis=1) != y).mean() + 0.03 + 1e-12
        assert p.loss_after == pytest.approx(own, abs=1e-6)
    assert found[1].objective_before == pytest.approx(base[3, 1], abs=1e-6)
    assert found[1].objective_after == pytest.approx(scores[1, 3, 1], abs=1e-6)
    assert found[0].objective_before == pytest.approx(base[3, 0], abs=1e-6)
    assert found[2].objective_after == pytest.approx(scores[2, :, 1].mean(), abs=1e-6)
    gap = [scores[3, groups == g, 1].mean() for g in ("b", "a")]
    assert found[3].objective_after == pytest.approx(gap[0] - gap[1], abs=1e-6)
    assert found[4].objective_before == pytest.approx(-found[3].objective_before, abs=1e-12)


def test_adaptive_steps_reach_further_than_the_published_rule() -> None:
    net, X, y = trained()
    for i in range(5):
        label = int(np.argmin(naive.hooked(net, {}, X)[i]))
        fixed = perturb(net, X, y, goal=Goal.sample(X[i], label, on="logit"), epsilon=0.01, lr=0.05, adaptive=False)
        moving = perturb(net, X, y, goal=Goal.sample(X[i], label), epsilon=0.01, lr=0.05)
        assert moving.objective_after > fixed.objective_after
        assert moving.limit >= moving.loss_after > fixed.loss_after


def test_a_linear_model_reaches_its_exact_range() -> None:
    from rashomon_core.exploration import LinearSet

    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    y = (X @ rng.normal(size=4) + rng.logistic(size=200) > 0).astype(int)
    exact = LinearSet(X, y, epsilon=0.02)
    ranges, start = exact.range(X[:4]), exact.optimum.decision_function(X[:4])
    module = torch.nn.Linear(4, 1)
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(exact.optimum.coef_))
        module.bias.copy_(torch.as_tensor(exact.optimum.intercept_))
    shares: dict[bool, list[float]] = {True: [], False: []}
    for i in range(4):
        for label, bound, end in ((0, ranges.low_bound[i], ranges.low[i]), (1, ranges.high_bound[i], ranges.high[i])):
            for adaptive, own in shares.items():
                goal = Goal.sample(X[i], label)
                found = perturb(module, X, y, goal=goal, epsilon=0.02, adaptive=adaptive)
                z = found.module(torch.as_tensor(X[i : i + 1])).item()
                assert z >= bound - 1e-4 if label == 0 else z <= bound + 1e-4  # the limit is a float32 optimum's
                own.append((z - start[i]) / (end - start[i]))
    assert min(shares[True]) > 0.95
    assert np.median(shares[True]) > 0.999
    assert np.median(shares[False]) < 0.99


def test_larger_epsilon_and_soft_answers() -> None:
    net, X, _ = trained(3)
    soft = np.random.default_rng(0).dirichlet(np.ones(3), len(X))
    reached = []
    for epsilon in (0.0, 0.01, 0.1):
        found = perturb(net, X, soft, goal=Goal.sample(X[0], 2), epsilon=epsilon, batch_size=77)
        assert found.loss_before == pytest.approx(cross_entropy(net, X, soft), abs=1e-6)
        assert found.loss_after <= found.limit
        reached.append(found.objective_after)
    assert reached[0] < reached[1] < reached[2]
    relative = perturb(net, X, soft, goal=Goal.sample(X[0], 2), epsilon=0.1, relative=True)
    assert relative.limit == pytest.approx(1.1 * relative.loss_before)


def test_same_bytes_layers_and_statuses() -> None:
    net, X, y = trained()
    goal = Goal.sample(X[1], 0)
    first, second = (perturb(net, X, y, goal=goal, epsilon=0.02, optimizer="adam") for _ in range(2))
    assert weights_of(first.module).tobytes() == weights_of(second.module).tobytes()
    head = perturb(net, X, y, goal=goal, epsilon=0.02, layers=["3"])
    assert (head.module[0].weight == net[0].weight).all()
    assert not (head.module[3].weight == net[3].weight).all()
    assert perturb(net, X, y, goal=goal, epsilon=9.0, steps=2, lr=1e-6).status == "steps"
    outside = perturb(net, X, y, goal=goal, epsilon=0.001, reference_loss=0.0)
    assert (outside.status, outside.feasible, outside.steps) == ("infeasible_start", False, 0)
    assert (weights_of(outside.module) == weights_of(net)).all()
    dead = torch.nn.Sequential(torch.nn.Linear(4, 2))
    with torch.no_grad():
        dead[0].weight.zero_()
    flat = perturb(dead, X, y, goal=Goal.gap(np.zeros_like(X), np.arange(len(X)) % 2, on="score"), epsilon=0.1)
    assert flat.status == "flat"


def test_convolutions() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 2)
    )
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 1, 6, 6)), rng.integers(0, 2, 30)
    found = perturb(net, X, y, goal=Goal.sample(X[0], 1), epsilon=0.05)
    assert found.objective_after > found.objective_before
    assert (found.module[1].running_mean == net[1].running_mean).all()


@pytest.mark.parametrize("epsilon", [-1e-9, float("nan"), float("inf"), None, "1"])
def test_bad_epsilon(epsilon: Any) -> None:
    net, X, y = trained()
    with pytest.raises(UsageError, match="epsilon"):
        perturb(net, X, y, goal=Goal.sample(X[0], 1), epsilon=epsilon)


def test_bad_input() -> None:
    net, X, y = trained()
    goal = Goal.sample(X[0], 1)
    for options, said in (
        ({"goals": []}, "no goals"),
        ({"loss": "hinge"}, "cross_entropy"),
        ({"optimizer": "lbfgs"}, "adam"),
        ({"lr": 0.0}, "lr"),
        ({"steps": 0}, "at least 1"),
        ({"layers": ["9"]}, "layer '9'"),
        ({"layers": []}, "no parameters"),
        ({"reference_loss": float("nan")}, "reference_loss"),
        ({"goals": [Goal.sample(X[0], 2)]}, "class 2"),
    ):
        with pytest.raises(UsageError, match=said):
            explore(net, X, y, **{"goals": [goal], "epsilon": 0.1, **options})
    broken = X.copy()
    broken[5, 2] = np.nan
    for args, said in (
        ((broken, y), "sample 5, feature 2"),
        ((X[:, :3], y), "does not take shape"),
        ((X, y[:-1]), "answers have shape"),
        ((X, np.where(y == 1, 2, y)), r"answers outside 0\.\.1"),
        ((X, np.full(len(X), 1.5)), "sample 0"),
        ((X, np.ones((len(X), 2))), "sample 0"),
        ((X, y.astype(str)), "class indices"),
        ((X[:0], y[:0]), "no samples"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            perturb(net, *args, goal=goal, epsilon=0.1)
    with pytest.raises(InvalidInputError, match="two groups"):
        Goal.gap(X, np.zeros(len(X), int))
    with pytest.raises(UsageError, match="high is needed"):
        Goal.gap(X, np.arange(len(X)) % 3)
    with pytest.raises(UsageError, match="'c' is not one"):
        Goal.gap(X, np.where(y == 1, "a", "b"), high="c")
    with pytest.raises(InvalidInputError, match="no samples"):
        Goal.samples(X[:0], 1)
    with pytest.raises(UsageError, match="on='p'"):
        Goal.sample(X[0], 1, on="p")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="class -1"):
        Goal.sample(X[0], -1)
    with torch.no_grad():
        net[0].weight.fill_(float("nan"))
    with pytest.raises(InvalidInputError, match="loss is inf"):
        perturb(net, X, y, goal=goal, epsilon=0.1)

"""Networks: the training loop against closed forms and scipy, gradients against differences, the same bytes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rashomon_core.errors import AnswersError, InvalidInputError, MissingDependencyError, UsageError
from rashomon_core.extraction import networks
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.networks import TorchSurrogate, cnn_factory, mlp_factory, temperature
from rashomon_core.extraction.surrogates import fit_surrogate

torch = pytest.importorskip("torch", reason="torch is not installed")


def softmax(z):
    q = np.exp(z - z.max(axis=1, keepdims=True))
    return q / q.sum(axis=1, keepdims=True)


def data(n=90, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    return X, Answers.of_proba(softmax(X @ rng.normal(size=(4, classes)) * 1.5))


def linear(n_inputs, n_classes):
    return torch.nn.Linear(n_inputs, n_classes)


def zeros(n_inputs, n_classes):
    layer = torch.nn.Linear(n_inputs, n_classes)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


def smooth(n_inputs, n_classes):
    nn = torch.nn
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, n_classes))


@pytest.mark.parametrize("loss", ["ce", "soft_ce", "kd:4", "kd:0.5"])
def test_one_step_against_the_closed_form(loss):
    """From zero weights the gradient of T^2 CE(q_T, softmax(z/T)) is T (softmax(0) - q_T) x, averaged over rows."""
    X, answers = data()
    t, lr = temperature(loss), 0.5
    q = np.eye(3)[answers.labels] if loss == "ce" else answers.soft() ** (1 / t)
    q = q / q.sum(axis=1, keepdims=True)
    model = TorchSurrogate(zeros, loss=loss, epochs=1, lr=lr, batch=1000, optimizer="sgd").fit(X, answers)
    expected = -lr * t * ((1 / 3 - q).T @ X) / len(X)
    assert np.abs(model.module.weight.detach().numpy() - expected).max() < 1e-6


def test_soft_cross_entropy_reaches_the_optimum():
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    X, answers = data(classes=2)
    rng = np.random.default_rng(1)
    p = answers.soft() * 0.8 + 0.2 * rng.dirichlet([1, 1], len(X))  # not what a linear model can give
    answers = Answers.of_proba(p)

    def objective(w):
        z = X @ w[:4] + w[4]
        return np.mean(np.logaddexp(0, z) - p[:, 1] * z)

    w = optimize.minimize(objective, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    best = 1 / (1 + np.exp(-(X @ w[:4] + w[4])))
    model = TorchSurrogate(linear, loss="soft_ce", epochs=1500, lr=0.5, batch=1000, optimizer="sgd").fit(X, answers)
    assert np.abs(model.predict_proba(X)[:, 1] - best).max() < 1e-3


def test_distillation_matches_softened_answers():
    X, answers = data(400)
    model = TorchSurrogate(linear, loss="kd:3", epochs=300, lr=0.05, batch=100, seed=2).fit(X, answers)
    assert np.abs(model.predict_proba(X) - answers.soft()).max() < 0.01  # the target is a linear softmax itself


def test_gradient_against_finite_differences():
    X, answers = data()
    model = TorchSurrogate(smooth, epochs=5, seed=1).fit(X, answers)
    got = model.gradient(X, answers.labels)
    assert got.shape == X.shape
    assert got.dtype == np.float32
    exact, step = copy.deepcopy(model.module).double(), 1e-5

    def score(inputs):
        with torch.no_grad():
            z = exact(torch.from_numpy(inputs)).numpy()
        return np.log(softmax(z))[np.arange(len(X)), answers.labels]

    for j in range(4):
        e = np.zeros(4)
        e[j] = step
        slope = (score(X.astype(np.float64) + e) - score(X.astype(np.float64) - e)) / (2 * step)
        assert np.abs(slope - got[:, j]).max() < 1e-5


@pytest.mark.parametrize("shape", [(30, 4), (30, 5, 6, 2), (30, 5, 6)])
def test_gradient_of_a_surrogate_is_in_units_of_its_rows(shape):
    """Scales, channels and axes of the encoder are undone: differences of predict_proba itself, not of the module."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * 50 + 100
    answers = Answers.of_labels(np.arange(30) % 2, 2)
    surrogate = fit_surrogate({"factory": flat, "epochs": 3}, X, answers, seed=0)
    slope = surrogate.gradient(X, answers.labels)
    assert slope.shape == X.shape
    direction, step = rng.normal(size=shape), 0.5
    rows = np.arange(30)
    up = np.log(surrogate.predict_proba(X + step * direction))[rows, answers.labels]
    down = np.log(surrogate.predict_proba(X - step * direction))[rows, answers.labels]
    along = (slope * direction).reshape(30, -1).sum(axis=1)
    assert np.abs((up - down) / (2 * step) - along).max() < 1e-2 * np.abs(along).max()


def flat(shape, n_classes):
    nn = torch.nn
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 6), nn.Tanh(), nn.Linear(6, n_classes))


def test_probabilities_are_float64_rows():
    X, answers = data(1500)
    model = TorchSurrogate(mlp_factory([8]), epochs=1).fit(X, answers)
    p = model.predict_proba(X)  # more than one batch of rows
    assert p.dtype == np.float64
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    assert not model.module.training
    assert model.predict_proba(X[:0]).shape == (0, 3)


def test_seed_decides_everything_and_leaves_torch_alone():
    X, answers = data()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    runs = [TorchSurrogate(smooth, epochs=3, seed=s).fit(X, answers).predict_proba(X).tobytes() for s in (7, 7, 8)]
    assert torch.equal(torch.get_rng_state(), before)
    assert runs[0] == runs[1] != runs[2]
    torch.manual_seed(6)
    assert TorchSurrogate(smooth, epochs=3, seed=7).fit(X, answers).predict_proba(X).tobytes() == runs[0]


def test_fit_starts_anew():
    X, answers = data()
    model = TorchSurrogate(smooth, epochs=3)
    first = model.fit(X, answers).predict_proba(X).tobytes()
    assert model.fit(X, answers).predict_proba(X).tobytes() == first


@pytest.mark.parametrize("n", [64, 65, 129])
def test_no_step_has_one_row_alone(n):
    """Batch normalisation refuses a batch of one row."""

    def normed(n_inputs, n_classes):
        nn = torch.nn
        return nn.Sequential(nn.Linear(n_inputs, 4), nn.BatchNorm1d(4), nn.Linear(4, n_classes))

    X, answers = data(n)
    TorchSurrogate(normed, epochs=1, batch=64).fit(X, answers)


def test_images_and_soft_recipes():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 100, (60, 28, 28, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    X[labels == 1, 8:20, 8:20] += 100
    answers = Answers.of_labels(labels, 2)
    small = {"family": "cnn", "channels": [4, 8], "hidden": [8], "epochs": 8, "batch": 10}
    for images in (X, X[..., 0]):
        surrogate = fit_surrogate(small, images, answers, seed=0)
        assert (surrogate.predict_proba(images).argmax(axis=1) == labels).mean() > 0.95
    back = pickle.loads(pickle.dumps(surrogate))
    assert back.predict_proba(images).tobytes() == surrogate.predict_proba(images).tobytes()
    assert surrogate.gradient(X[:3, ..., 0], labels[:3]).shape == (3, 28, 28)
    # Pooling stops at a single pixel.
    module = cnn_factory([2, 2, 2, 2, 2, 2], [])((1, 8, 8), 3)
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    soft = fit_surrogate({"family": "torch_mlp", "loss": "kd:2"}, *data(), seed=0)
    assert soft.model.loss == "kd:2"
    assert fit_surrogate({"family": "torch_mlp", "answers": "soft"}, *data(), seed=0).model.loss == "soft_ce"
    hard = fit_surrogate({"family": "torch_mlp", "loss": "kd:2"}, X[:, 0, 0], answers, seed=0)
    assert hard.model.loss == "ce"
    assert hard.notes == ("only labels were answered: hard labels were used",)


def test_frames_reach_a_factory_encoded():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    X = pd.DataFrame({"a": np.arange(40.0), "b": ["x", None] * 20})
    X.loc[3, "a"] = np.nan
    answers = Answers.of_labels(np.arange(40) >= 20, 2)
    surrogate = fit_surrogate({"factory": linear, "epochs": 60, "lr": 0.05}, X, answers, seed=0)
    assert surrogate.model.module.in_features == 4  # a, whether a is missing, b is x, b is missing
    assert (surrogate.predict_proba(X).argmax(axis=1) == answers.labels).mean() > 0.9
    with pytest.raises(UsageError, match="numeric rows"):
        surrogate.gradient(X, answers.labels)


def test_bad_networks():
    X, answers = data()
    with pytest.raises(InvalidInputError, match=r"answers \(1, 2\) for 1 rows of 3 classes"):
        TorchSurrogate(lambda d, c: torch.nn.Linear(d, 2), batch=64).fit(X[:64], answers.take(slice(64)))
    with pytest.raises(AnswersError, match="diverged in epoch"):
        TorchSurrogate(mlp_factory([8]), lr=1e30, optimizer="sgd").fit(X, answers)
    with pytest.raises(InvalidInputError, match="90 inputs and 10 answers"):
        TorchSurrogate(linear).fit(X, answers.take(slice(10)))
    with pytest.raises(UsageError, match="not fitted"):
        TorchSurrogate(linear).predict_proba(X)
    model = TorchSurrogate(linear, epochs=1).fit(X, answers)
    with pytest.raises(InvalidInputError, match="90 class indices below 3"):
        model.gradient(X, np.full(90, 3))
    with pytest.raises(UsageError, match="optimizer is 'rmsprop'"):
        TorchSurrogate(linear, optimizer="rmsprop")
    with pytest.raises(UsageError, match="above 0"):
        TorchSurrogate(linear, epochs=0)
    for loss in ("mse", "kd", "kd:", "kd:x", "kd:-1", "kd:0", "kd:inf", "kd:nan", "soft"):
        with pytest.raises(UsageError, match="must be 'ce', 'soft_ce' or 'kd:T'"):
            TorchSurrogate(linear, loss=loss)


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    X, answers = data()
    with pytest.raises(MissingDependencyError, match=r"rashomon-core\[torch\]"):
        TorchSurrogate(linear).fit(X, answers)


_CODE = """
import hashlib, numpy as np, torch
torch.set_num_threads(1)
from rashomon_core.extraction import networks
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.surrogates import fit_surrogate
rng = np.random.default_rng(0)
X = rng.integers(0, 255, (50, 28, 28), dtype=np.uint8)
answers = Answers.of_labels(np.arange(50) % 3, 3)
h = hashlib.sha256()
for spec in ({"family": "cnn", "epochs": 2}, {"family": "torch_mlp", "optimizer": "sgd", "lr": 0.01}):
    h.update(fit_surrogate(spec, X, answers, seed=3).predict_proba(X).tobytes())
print(h.hexdigest())
"""


def test_the_same_bytes_in_two_processes():
    runs = [
        subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True, timeout=300).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 65


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_steps_are_those_of_torch_optim(kind: str, decay: float) -> None:
    torch.manual_seed(0)
    nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        net[0].bias.requires_grad_(False)
        net[2].double()
        net[1].register_forward_hook(lambda _, __, out: out.double())
    learned = [p for p in nets[0].parameters() if p.requires_grad]
    theirs = (
        torch.optim.Adam(learned, lr=0.01, weight_decay=decay)
        if kind == "adam"
        else torch.optim.SGD(learned, lr=0.01, momentum=0.9, weight_decay=decay)
    )
    ours = [networks._Steps(same, kind, 0.01, 0.9, decay) for same in networks._by_dtype(nets[1])]
    assert [part.values.dtype for part in ours] == [torch.float32, torch.float64]
    X, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
    for _ in range(60):
        theirs.zero_grad()
        for part in ours:
            part.gradient.zero_()
        for net in nets:
            torch.nn.functional.cross_entropy(net(X), y).backward()
        theirs.step()
        for part in ours:
            part.step()
    for part in ours:
        part.release()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
        assert b.grad is None
        assert b.untyped_storage().nbytes() == b.numel() * b.element_size()  # nothing shared is left
    assert torch.equal(nets[0][0].bias, nets[1][0].bias)

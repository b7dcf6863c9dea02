"""Mistakes that a reader could make, planted one at a time; named cells and tests must notice each.

A mistake is a line of one package function, replaced in its own source. A cell is run from its
notebook, not copied, after those earlier cells that define what it uses.
"""

import ast
import importlib
import inspect
import runpy
import symtable
import textwrap
from pathlib import Path

import matplotlib
import nbformat
import pytest

ROOT = Path(__file__).parent.parent
COURSE = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}

MISTAKES = {
    # name: (function, its source, what replaces it, NOTEBOOK:CELL or FILE::TEST that must notice)
    "x0_hat without its 1 / sqrt(abar)": (
        "minipig.schedule:Schedule.x0_hat",
        "(zt - noise * eps) / signal",
        "zt - noise * eps",
        ["01:clean-estimate", "03:sampler-is-closed-form-to-rounding"],
    ),
    "abar off by one": (
        "minipig.schedule:Schedule.scales",
        "self._at(self.abar, t, like)",
        "self._at(self.abar, t - 1, like)",
        ["01:clean-estimate", "03:sampler-is-closed-form-to-rounding"],
    ),
    "beta in place of abar": (
        "minipig.schedule:Schedule.scales",
        "self._at(self.abar, t, like)",
        "self._at(self.beta, t, like)",
        ["01:clean-estimate", "03:sampler-is-closed-form-to-rounding"],
    ),
    "abar summed, not multiplied": (
        "minipig.schedule:Schedule.__init__",
        "torch.cumprod(1 - self.beta, 0)",
        "1 - torch.cumsum(self.beta, 0) / self.beta.sum() * 0.99999",
        ["01:schedule"],
    ),
    "the offset of the cosine schedule forgotten": (
        "minipig.schedule:Schedule.cosine",
        "(share + offset) / (1 + offset)",
        "share",
        ["test_schedule.py::test_the_cosine_schedule_is_a_schedule"],
    ),
    "the square root of 1 - beta forgotten": (
        "minipig.schedule:Schedule.noise_step",
        "(1 - beta).sqrt()",
        "(1 - beta)",
        ["01:many-steps-are-one"],
    ),
    "the sign of sigma^2 under the root of Eq. (7)": (
        "minipig.schedule:Schedule.step",
        "1 - abar_s - sigma**2",
        "1 - abar_s + sigma**2",
        ["01:sigma", "01:posterior-step"],
    ),
    "a grid that starts below T": (
        "minipig.schedule:Schedule.grid",
        "[(self.T * i + steps // 2) // steps for i in range(steps, -1, -1)]",
        "[max(0, (self.T * i - self.T) // steps + 1) for i in range(steps, -1, -1)]",
        ["03:distances"],
    ),
    "v turned into eps on the linear schedule, whatever the network's": (
        "minipig.unet:PairedUNet.answer",
        "self.schedule.scales(t, z)",
        "Schedule.linear().scales(t, z)",
        ["test_unet.py::test_a_v_predicting_network_obeys_its_schedule"],
    ),
    "the guider shown y0 in place of y_t": (
        "minipig.guider:model_x_loss",
        "model_x(pair.xt, pair.t, pair.yt)",
        "model_x(pair.xt, pair.t, pair.y0)",
        ["test_guider.py::test_the_guider_is_shown_the_noisy_slice"],
    ),
    "eps_1 and eps_2 exchanged": (
        "minipig.guider:model_x_loss",
        "pair.eps_1 - eps_x",
        "pair.eps_2 - eps_x",
        ["test_guider.py::test_model_x_loss_is_the_plain_mean_square"],
    ),
    "one noise for both chains, in training": (
        "minipig.guider:NoisyPair.draw",
        "return cls(x0, y0, t, eps_1, eps_2,",
        "return cls(x0, y0, t, eps_1, eps_1,",
        ["test_guider.py::test_noisy_pair_is_eq_9_and_10"],
    ),
    "one noise for both chains, in sampling": (
        "minipig.sampler:sample",
        "y_T = noise((1, *size))",
        "y_T = x_T",
        ["test_sampler.py::test_mask_and_slice_start_from_independent_noise"],
    ),
    "noise of the linear schedule, whatever the training's": (
        "minipig.training.loop:fit",
        "schedule = schedule or Schedule.linear()",
        "schedule = Schedule.linear()",
        ["test_loop.py::test_the_noise_is_that_of_the_given_schedule"],
    ),
    "model_y's loss weighted, and the weight squared": (
        "minipig.guider:model_y_loss",
        "(pair.eps_2 - eps_y)",
        "(rule.train(pair).sigmoid() * (pair.eps_2 - eps_y))",
        ["test_guider.py::test_model_y_loss_is_the_plain_mean_square"],
    ),
    "model_y shown x_t": (
        "minipig.rules:Clean.sample",
        "state.x0_hat",
        "state.xt",
        ["03:sequential", "test_guider.py::test_rules_show_what_they_say"],
    ),
    "the guide binarised": (
        "minipig.worlds.gaussian:Show.sample",
        "getattr(state, self.field)",
        "getattr(state, self.field).sign()",
        ["03:shares", "03:sampler-is-closed-form-to-rounding"],
    ),
    "the two networks exchanged in the walk": (
        "minipig.sampler:walk",
        "denoise(pair.model_x, x, t, y, ",
        "denoise(pair.model_y, x, t, y, ",
        ["03:sampler-is-closed-form-to-rounding", "test_sampler.py::test_states_are_algorithm_2"],
    ),
    "x moved after y, with the new y": (
        "minipig.sampler:walk",
        "        x = x_next\n",
        "        x = schedule.step(*denoise(pair.model_x, x, t, y_next, schedule, clip), t, s)\n",
        ["03:sampler-is-closed-form-to-rounding", "test_sampler.py::test_states_are_algorithm_2"],
    ),
    "the guider blind to the slice": (
        "minipig.sampler:walk",
        "denoise(pair.model_x, x, t, y, ",
        "denoise(pair.model_x, x, t, 0 * y, ",
        ["03:sampler-is-closed-form-to-rounding", "test_sampler.py::test_states_are_algorithm_2"],
    ),
    "extrapolated to the end of the step, not to its middle": (
        "minipig.extras.solvers:extrapolate",
        "(c - b) / (b - a) / 2",
        "(c - b) / (b - a)",
        ["test_solvers.py::test_extrapolation_is_a_straight_line_in_the_log_snr"],
    ),
    "sigma a tenth short": (
        "minipig.schedule:Schedule.sigma",
        "return eta * ",
        "return 0.9 * eta * ",
        ["01:posterior-step"],
    ),
    "sigma^2 = beta": (
        "minipig.schedule:Schedule.sigma",
        "((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))",
        "(1 - abar_t / abar_s)",
        ["01:posterior-step"],
    ),
    "too little fresh noise": (
        "minipig.schedule:Schedule.step",
        "z + sigma.to(eps.dtype) * fresh",
        "z + 0.9 * sigma.to(eps.dtype) * fresh",
        ["01:sigma"],
    ),
    "a Fréchet distance for covariances that commute": (
        "minipig.worlds.gaussian:wasserstein_2",
        "torch.linalg.svdvals(root(a) @ root(b)).sum()",
        "(root(a) @ root(b)).trace()",
        ["07:distance"],
    ),
    "extrapolated as if all moves were equally long": (
        "minipig.extras.solvers:extrapolate",
        "(c - b) / (b - a) / 2",
        "0.5",
        ["11:line"],
    ),
    "generated masks a pixel too far right": (
        "minipig.sampler:sample",
        "torch.where(state.x0_hat > 0, 1.0, -1.0).cpu()",
        "torch.where(state.x0_hat > 0, 1.0, -1.0).roll(1, -1).cpu()",
        ["00:contrast"],
    ),
    "a stranger's mask in one pair of six": (
        "minipig.sampler:sample",
        "torch.where(state.x0_hat > 0, 1.0, -1.0).cpu()",
        "torch.where(torch.where(torch.arange(len(x_T)).reshape(-1, 1, 1, 1) % 6 > 0,"
        " state.x0_hat, state.x0_hat.roll(1, 0)) > 0, 1.0, -1.0).cpu()",
        ["06:owners"],
    ),
    "a slice deformed otherwise than its mask": (
        "minipig.data.classical:augment",
        "ndimage.map_coordinates(image, places,",
        "ndimage.map_coordinates(image, deformation(rng, pairs.size),",
        ["08:deformed"],
    ),
    "a mask that is mirrored without its slice": (
        "minipig.data.classical:augment",
        "image = np.flip(image, flip)",
        "image = image",
        ["08:deformed"],
    ),
    "a ControlNet that does not start at zero": (
        "minipig.unet:zeroed",
        "nn.init.zeros_(layer.weight)",
        "nn.init.ones_(layer.weight)",
        ["08:control"],
    ),
    "a segmenter trained from another seed": (
        "minipig.evidence.judge:train_segmenter",
        "seeded_network(build, training.seed)",
        "seeded_network(build, training.seed + 1)",
        ["08:first-losses"],
    ),
    "batches of another seed": (
        "minipig.training.loop:batch_indices",
        'generator("epoch", training.seed, e)',
        'generator("epoch", training.seed + 1, e)',
        ["08:first-losses"],
    ),
    "a learning rate of .6": (
        "minipig.training.loop:rate",
        "training.rate * warm",
        "0.6 * training.rate * warm",
        ["08:first-losses"],
    ),
    "patients on both sides of a split": (
        "minipig.data.pairs:split",
        "group = groups(pairs)",
        "group = list(range(len(pairs)))",
        ["04:by-patient"],
    ),
    "an image filed twice, under two patients": (
        "minipig.data.pairs:groups",
        "leader[find(hash_of(image.numpy()))] = find(key)",
        "pass",
        ["04:again"],
    ),
    "a prior forgotten in Bayes' rule": (
        "minipig.worlds.mixture:Mixture.posterior",
        "self.prior.log() + sum(evidence)",
        "sum(evidence)",
        ["03:shares", "09:places"],
    ),
    "the texture of a slice taken for noise": (
        "minipig.worlds.mixture:Mixture.eps_y",
        "(noise**2 + (signal * self.spread) ** 2)",
        "noise**2",
        ["09:places"],
    ),
    "replicas taken for folds that share patients": (
        "minipig.evidence.metrics:interval",
        "(parts or k) - 1",
        "k - 1",
        ["08:anew"],
    ),
    "a conditional that forgets to divide": (
        "minipig.worlds.finite:FiniteWorld.p",
        " / self._marginal(_names(right))",
        "",
        ["02:proposition-1"],
    ),
}
CATCHERS = sorted({catcher for *_, catchers in MISTAKES.values() for catcher in catchers})


def plant(monkeypatch, function: str, old: str, new: str) -> None:
    """Replace `old` by `new` in the source of a function, "module:name" or "module:Class.name".

    The function keeps its identity and gets other code, so that every name for it is mistaken.
    """
    module = importlib.import_module(function.partition(":")[0])
    *path, name = function.partition(":")[2].split(".")
    owner = getattr(module, path[0]) if path else module
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert source.count(old) == 1, f"{function} does not say {old!r} once"
    names = dict(vars(module))
    exec(compile(source.replace(old, new), f"<{function}, with a mistake>", "exec"), names)
    code = bare(names[name]).__code__
    monkeypatch.setattr(bare(inspect.getattr_static(owner, name)), "__code__", code)


def bare(function):
    """The plain function inside of decorators."""
    return inspect.unwrap(getattr(function, "__func__", function))


def run(catcher: str) -> None:
    """Run a cell of the course, or a unit test on freshly imported names."""
    if "::" in catcher:
        file, _, test = catcher.partition("::")
        runpy.run_path(str(ROOT / "tests" / file))[test]()
    else:
        run_cell(*catcher.split(":"))


def run_cell(notebook: str, tag: str) -> None:
    """Execute the cell tagged `tag`, after the last cells to define each name that it uses."""
    cells = nbformat.read(COURSE[notebook], as_version=4).cells
    cells = [cell for cell in cells if cell.cell_type == "code"]
    (last,) = [i for i, cell in enumerate(cells) if tag in cell.metadata.get("tags", [])]
    used, defined = zip(*(names_of(cell.source) for cell in cells))
    needed = set()
    open_ = [(last, name) for name in used[last]]
    while open_:
        reader, name = open_.pop()
        makers = [i for i in range(reader) if name in defined[i]]
        if makers and makers[-1] not in needed:
            needed.add(makers[-1])
            open_ += [(makers[-1], name) for name in used[makers[-1]]]
    namespace = {}
    for i in sorted(needed | {last}):
        exec(compile(cells[i].source, f"<{notebook}, cell {i}>", "exec"), namespace)


def names_of(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell takes from others, and those it defines or completes (x[i] = y)."""
    taken = set()
    defined = set()
    for statement in ast.parse(source).body:
        table = symtable.symtable(ast.unparse(statement), "cell", "exec")
        symbols = table.get_symbols()
        read = {s.get_name() for s in symbols if s.is_referenced()}
        made = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
        inner = table.get_children()
        while inner:
            scope = inner.pop()
            inner += scope.get_children()
            read |= {s.get_name() for s in scope.get_symbols() if s.is_global()}
        own = made if isinstance(statement, (ast.For, ast.With, ast.FunctionDef)) else set()
        taken |= read - defined - own
        defined |= made
        for node in ast.walk(statement):
            stored = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
            if stored and isinstance(node.value, ast.Name):
                defined.add(node.value.id)
    return taken, defined


@pytest.fixture(autouse=True)
def quiet_figures(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
    with matplotlib.rc_context():
        matplotlib.use("agg")
        yield
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("catcher", CATCHERS)
def test_the_catchers_pass_without_a_mistake(catcher):
    run(catcher)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_planted_mistake_is_noticed_by_each_of_its_catchers(mistake, monkeypatch):
    function, old, new, catchers = MISTAKES[mistake]
    plant(monkeypatch, function, old, new)
    for catcher in catchers:
        with pytest.raises(AssertionError):
            run(catcher)

"""The bench: equal networks, right arithmetic, and a row that fails does not stop the others."""

import json
from dataclasses import replace

import pytest
import torch

from minipig.evidence.bench import runner as bench
from minipig.evidence.bench.networks import PLAIN, RIVALS, SPEEDS, build, lay_out
from minipig.evidence.bench.report import exponent, exponents, summarise, table
from minipig.evidence.bench.runner import LIMIT, plan, run_bench, run_child
from minipig.evidence.bench.worker import Row, measure
from minipig.extras.frugal import ChannelsLastGroupNorm, RecomputedStage
from minipig.seeds import generator, seeded_network
from minipig.training.speed import Speed

CPU = torch.device("cpu")
SMALL = Row("train", "ours", "tiny", 16, 2, budget=0.0)
BROKEN = Row("train", "nonsense", "tiny", 16, 2)


def measured(row, seconds, peak, base=100, flops=10):
    """What a process might have measured."""
    times = dict(seconds=seconds, first_seconds=[9.0])
    sizes = dict(base_bytes=base, peak_bytes=peak, parameters=5, forward_flops=flops)
    rest = dict(device="cpu", bfloat16=False, loss=None)
    if row.what == "trial":
        rest["candidates"] = {"float32": 2.0, "bfloat16": 1.0}
    return bench.asdict(row) | times | sizes | rest


def report_of(*rows):
    report = dict(machine={}, quick=True, rounds=2, rows={}, failed={}, left_out={})
    for row, *values in rows:
        bench.add(report["rows"], row, measured(row, *values))
    summarise(report)
    return report


@pytest.mark.parametrize("network", [*SPEEDS, "plain"])
def test_networks_by_name(network):
    """What each row computes in, and that it is what its name says."""
    speed = SPEEDS.get(network, Speed(**PLAIN))
    net = build(network, "tiny", 16)
    laid = lay_out(net, network, replace(speed, compiled=False))
    own_norm = any(isinstance(module, ChannelsLastGroupNorm) for module in laid.modules())
    recomputes = any(isinstance(module, RecomputedStage) for module in laid.modules())
    assert own_norm == network.endswith("-last") and recomputes == (network == "ours-recomputing")
    words = {"ours-float32": False, "ours-bfloat16": True}
    assert all(speed.bfloat16 is low for word, low in words.items() if network.startswith(word))


@pytest.mark.parametrize("preset, size", [("paper", 64), ("cpu", 16)])
def test_the_plain_network_is_ours(preset, size):
    """Equal non-trivial weights, equal results and gradients: only time and memory are compared."""
    draw = generator("test", 0)
    results = []
    ours, plain = (seeded_network(lambda n=n: build(n, preset, size), 0) for n in ("ours", "plain"))
    for p in ours.parameters():
        p.data += 0.03 * torch.randn(p.shape, generator=draw)
    plain.load_state_dict(ours.state_dict())
    z, guide = (torch.randn(1, 1, size, size, generator=draw) for _ in range(2))
    for net in (ours, plain):
        eps = net(z, torch.tensor([300]), guide)
        eps.square().mean().backward()
        results.append([eps.detach(), *(p.grad for p in net.parameters())])
    assert results[0][0].std() > 0.1 and len(results[0]) == len(results[1])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*results))
    assert all(a.abs().max() > 0 for a in results[0])


def test_a_process_measures_itself():
    got = run_child(SMALL, CPU, 60)
    assert len(got["seconds"]) == 2 and min(got["seconds"]) > 0 and len(got["first_seconds"]) == 1
    assert got["peak_bytes"] >= got["base_bytes"] > 0
    assert got["parameters"] == 629_596 and got["forward_flops"] == 35_487_744
    assert got["device"] == "cpu" and isinstance(got["bfloat16"], bool) and 0 < got["loss"] < 2


@pytest.mark.parametrize(
    "row",
    [Row("sample", "plain", "tiny", 16, 2, 1, 4, budget=0.0), Row("matmul", "float32", size=64)],
)
def test_sampling_and_products_are_measured(row):
    got = measure(row, CPU)
    flops = 2 * 64**3 if row.what == "matmul" else 35_487_744
    assert got["loss"] is None and got["forward_flops"] == flops


def test_a_failing_row_is_reported_and_the_others_are_measured(monkeypatch, tmp_path, capsys):
    """The report is written after each row: when a process starts, the rows before it are there."""
    out = tmp_path / "bench.json"
    seen = []

    def child(row, device, seconds):
        seen.append(len(json.loads(out.read_text())["rows"]))
        if row == BROKEN:
            return run_child(row, device, seconds)
        return measured(row, [1.0, 2.0], 300)

    other = Row("train", "plain", "tiny", 16, 2)
    monkeypatch.setattr(bench, "run_child", child)
    monkeypatch.setattr(bench, "plan", lambda quick, device: [SMALL, BROKEN, other])
    report = run_bench(out, True, CPU)
    assert seen == [0, 1, 1, 2, 2]  # a failed row is not repeated
    assert report["rows"].keys() == {SMALL.name, other.name}
    assert report["rows"][SMALL.name]["seconds"] == [1, 2, 1, 2]
    known = ", ".join(("plain", *SPEEDS))
    message = f"ValueError: unknown network nonsense; choose one of {known}"
    assert report["failed"] == {BROKEN.name: message}
    assert json.loads(out.read_text()) == report
    assert f"{BROKEN.name} failed: ValueError" in capsys.readouterr().out


def test_an_earlier_report_stays_until_there_is_something_new(monkeypatch, tmp_path):
    out = tmp_path / "bench.json"
    out.write_text('{"rows": {"kept": 1}}')
    monkeypatch.setattr(bench, "run_child", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(bench, "plan", lambda quick, device: [SMALL])
    with pytest.raises(KeyboardInterrupt):
        run_bench(out, True, CPU)
    assert json.loads(out.read_text()) == {"rows": {"kept": 1}}


def test_a_process_that_takes_too_long_is_stopped():
    with pytest.raises(RuntimeError, match="stopped after 0"):
        run_child(SMALL, CPU, 0.01)


def test_rows_that_would_end_too_late_are_left_out(monkeypatch, tmp_path):
    assert LIMIT[True] < 600
    monkeypatch.setitem(LIMIT, True, 5.0)
    monkeypatch.setattr(bench, "plan", lambda quick, device: [SMALL])
    monkeypatch.setattr(bench, "run_child", lambda *_: pytest.fail("no time for this"))
    report = run_bench(tmp_path / "bench.json", True, CPU)
    assert report["left_out"] == {SMALL.name: "no time left in round 2 of 2"}
    assert report["rows"] == report["failed"] == {}


def test_ratios_shares_and_seconds_a_pair():
    ours = Row("train", "ours")
    plain = Row("train", "plain")
    walk = Row("sample", "ours", "cpu", 64, 16, 2, 32)
    peak = Row("matmul", "float32", size=2048)
    report = report_of(
        (ours, [2.0], 300),
        (ours, [1.0, 3.0], 200),
        (plain, [4.0], 400),
        (peak, [1.0], 9),
        (walk, [8.0], 50),
    )
    row = report["rows"][ours.name]
    assert (row["median"], row["min"], row["max"], row["peak_bytes"]) == (2, 1, 3, 300)
    assert row["peak_share"] == pytest.approx(3 * 10 / 2 / 10)
    of_walk = report["rows"][walk.name]  # two networks, two steps, two batches
    assert of_walk["peak_share"] == pytest.approx(2 * 2 * 2 * 10 / 8 / 10)
    assert of_walk["time_ratio"] is None
    assert of_walk["per_pair"] == {"256": 32.0, "25": 3.125, "15": 1.875}
    assert report["sampling_memory"] == {"32": 50}
    shown = table(report)
    assert shown.splitlines()[1].endswith("  0.50, 0.75")
    assert "256 steps 32 s, 25 steps 3.12 s, 15 steps 1.88 s" in shown


def test_exponents_are_recovered():
    assert exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    sizes = (64, 128, 256, 512)
    rows = [(Row("train", "ours", size=s), [1e-6 * s**2.2], 100 + s**2) for s in sizes]
    small = (Row("train", "ours", size=32), [5.0], 10**9)  # below 64x64: not used
    found = report_of(*rows, small)["exponents"]
    assert found == pytest.approx({"time: train ~ pixels": 1.1, "memory: train ~ pixels": 1.0})
    assert exponents([]) == {}


def test_both_plans_hold_the_headline_first_and_every_row_once():
    for quick in (True, False):
        rows = plan(quick, CPU)
        first = [f"{what}/paper/512/1" for what in ("trial/ours", "train/ours", "train/plain")]
        assert [row.name for row in rows[:3]] == first
        assert len({row.name for row in rows}) == len(rows)
        assert set(RIVALS) < {row.network for row in rows}
    assert {row.name for row in plan(True, CPU)} < {row.name for row in rows}


def test_what_is_not_installed_is_left_out_with_one_note(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "run_child", lambda row, *_: measured(row, [1.0], 2))
    report = run_bench(tmp_path / "bench.json", True, CPU)
    assert all(row["network"] not in RIVALS for row in report["rows"].values())
    assert capsys.readouterr().out.count("diffusers is not installed: its rows are left out") == 1

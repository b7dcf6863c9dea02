"""The numbers in the READMEs are those of the records in data_samples."""

import json
import re
from math import inf
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from minipig.evidence.map.verdicts import difference
from minipig.evidence.metrics import interval
from minipig.evidence.tables.hypotheses import gain, hypotheses, replicas
from minipig.evidence.tables.protocol import Protocol
from minipig.training.curves import read_curves

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "data_samples" / "results"
README = " ".join((ROOT / "README.md").read_text().split())
PAGE = (RESULTS / "README.md").read_text()
N = Protocol.synthetic


def load(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


def rows_of(folder: str, table: int = 2) -> dict:
    return load(f"{folder}/table{table}.json")["rows"]


def points(rows: dict, row: str, base: str = "real", key: str = "dice", **how) -> list[float]:
    """A gain and its interval, in points."""
    return [100 * value for value in gain(rows, row, base, key, **how)]


def signed(mean: float, low: float, high: float) -> str:
    """A gain as the tables write it: −1.4 (−7.3 to +4.4)."""
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", "−")


def short(text: str) -> str:
    """Without the zero before a point: .512."""
    return re.sub(r"\b0\.", ".", text)


def spread(values: list[float]) -> str:
    """Mean ± standard deviation, in percent."""
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"


def table_below(header: str) -> dict[str, list[str]]:
    """The table of PAGE whose header starts so: first cell -> the other cells."""
    lines = PAGE.split(f"| {header}")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


def test_the_front_page():
    ultrasound, mammograms = (rows_of(s) for s in ("bus_uclm", "cdd_cesm"))
    _, eight = replicas(RESULTS / "phantom_replicas")
    _, five = replicas(RESULTS / "phantom_fresh")
    mixed = f"real+classical+PIG-sign-deformed_{N}"
    for rows, row, base in [
        (eight, f"real+PIG_{N}", "real"),
        (eight, f"real+SegGuidedDif_{N}", "real"),
        (eight, f"real+ControlNet_{N}", "real"),
        (eight, "real+classical", "real"),
        (eight, f"real+fresh_{N}", "real"),
        (eight, "real+classical", f"real+PIG_{N}"),
        (five, f"real+PIG-flipped_{N}", "real+classical"),
        (five, mixed, f"real+classical-more_{2 * N}"),
        (ultrasound, f"real+PIG_{N}", f"real+SegGuidedDif_{N}"),
        (ultrasound, f"real+PIG_{N}", "real"),
        (ultrasound, "real+classical", "real"),
        (mammograms, f"real+PIG_{N}", "real"),
        (mammograms, "real+classical", f"real+PIG_{N}"),
    ]:
        drawn = rows in (eight, five)  # each experiment has patients of its own
        key, parts = ("fresh_dice", inf) if drawn else ("dice", 5)
        mean, low, high = points(rows, row, base, key, parts=parts)
        shown = f"{mean:.1f} points ({low:.1f} to {high:.1f})".replace("-", "−")
        assert shown in README, (row, base, shown)
        if rows is eight and base == "real":
            assert shown.replace(" points", "") in " ".join(PAGE.split()), row
    alone = f"{100 * np.mean(eight['real']['fresh_dice']):.1f} %"
    assert alone in README and alone in PAGE


def test_the_main_job():
    metrics = json.loads((ROOT / "data_samples/runs/phantom32/metrics.json").read_text())
    names = {
        "real only": "real",
        "real + synthetic": "real+synthetic",
        "real + as many fresh real": "real+fresh",
    }
    shown = table_below("training set | Dice")
    assert set(shown) == set(names)
    real = 100 * np.array(metrics["segmentation"]["real"]["dice"])
    for label, name in names.items():
        found = metrics["segmentation"][name]
        more = 100 * np.array(found["dice"]) - real
        text = f"{more.mean():+.1f}, standard error {stats.sem(more):.1f}" if more.any() else ""
        scores = [spread(found[key]) for key in ("dice", "iou", "precision", "recall")]
        assert shown[label] == [*scores, text], label
    for value in metrics["pair_agreement"].values():
        assert short(f"{value:.3f}") in PAGE


def test_the_tables_on_phantoms():
    one, two = rows_of("phantom", 1), rows_of("phantom", 2)
    _, again = replicas(RESULTS / "phantom_replicas")
    names = {name: name for name in ("LDM", "joint", "SegGuidedDif", "PIG", "ControlNet")}
    names |= {r"PIG, shown the sign of $\hat x_0$": "PIG-sign"}
    names |= {"classical augmentation": "classical", "as many fresh real pairs": "fresh"}
    shown = table_below("pairs of | Fréchet distance")
    assert set(shown) == set(names) | {"(real only)"}
    assert shown["(real only)"][2] == spread(two["real"]["fresh_dice"])
    for label, name in names.items():
        row = "real+classical" if name == "classical" else f"real+{name}_{N}"
        fd = one.get(name, {}).get("fd", [])
        distance = short(f"{np.mean(fd):.3f} ± {np.std(fd, ddof=1):.3f}") if fd else ""
        own = signed(*points(two, row))
        fresh = signed(*points(two, row, key="fresh_dice"))
        repeated = signed(*points(again, row, parts=inf)) if row in again else ""
        cells = [distance, own, spread(two[row]["fresh_dice"]), fresh, repeated]
        assert shown[label] == cells, label


# by patients: what README.md says of the map
BENT = "SegGuidedDif-bentmasks"
TOLD = {25: [("classical+PIG", "classical-more")]}
TOLD[10] = [*TOLD[25], ("PIG", BENT)]
TOLD[100] = [("PIG", "real"), ("PIG", "classical")]
# and what the page of the results says besides its tables
TOLD_HERE = dict.fromkeys((10, 25), [("PIG", BENT), (BENT, "SegGuidedDif")])


@pytest.mark.parametrize("patients", list(TOLD))
def test_more_to_learn_from(patients):
    found = load("map/map.json")
    names = {"(real only)": "real", "classical augmentation": "classical", "PIG": "PIG"}
    names |= {"classical and PIG": "classical+PIG"}
    names["twice as many classical"] = "classical-more"
    names["all 8,192 classical that PIG learnt from"] = "classical-known"
    names["as many further real pairs"] = "fresh"
    if patients < 100:
        names["SegGuidedDif, training masks"] = "SegGuidedDif"
        names["SegGuidedDif, these deformed"] = "SegGuidedDif-bentmasks"
    shown = table_below(f"2,048 pairs of, {patients} patients | Dice")
    assert set(shown) == set(names)

    def over(name: str, base: str) -> str:
        change = difference(found["dice"], name, base, patients)
        return signed(*(100 * value for value in (change.mean(), *interval(change, parts=inf))))

    for label, name in names.items():
        bases = {"real": ()}.get(name, ("real",) if name == "classical" else ("real", "classical"))
        gains = [over(name, base) for base in bases] + [""] * (2 - len(bases))
        dice = [*found["dice"][name][str(patients)].values()]
        assert shown[label] == [spread(dice), *gains], label
    for name, base in TOLD_HERE.get(patients, ()):
        assert over(name, base) in PAGE, (name, base)
    for name, judged in found["hypotheses"].items():
        verb = "is " if judged["verdict"] in ("shown", "undecided") else ""
        assert f"{name} {verb}{judged['verdict']}" in PAGE
    for name, base in TOLD[patients]:
        told = over(name, base).replace("+", "").replace(" (", " points (")
        assert told in README, told


def test_the_hypotheses():
    folds = hypotheses(rows_of("phantom", 1), rows_of("phantom", 2), Protocol())
    again = hypotheses(*replicas(RESULTS / "phantom_replicas"), Protocol(), parts=inf)
    shown = table_below("hypothesis | bound")
    for name, (bound, *cells) in zip(folds, shown.values()):
        for h, cell in zip((folds[name], again[name]), cells):
            values = [h["estimate"], *h["interval"]]
            if name == "H1":
                assert bound == short(f"{h['side']} {h['bound']}")
                assert cell == short("{:.2f} ({:.2f} to {:.2f})".format(*values))
            else:
                assert bound == f"{h['side']} {100 * h['bound']:.2f}"
                assert cell == signed(*(100 * value for value in values))


def test_what_else_is_said_of_the_hypotheses():
    """The same folds, trained again; other judges; PIG beside its two rivals; its other rule."""
    text = " ".join(PAGE.split())
    folds, again = rows_of("phantom", 1), rows_of("phantom_again", 1)
    ratio = np.divide(again["PIG"]["fd"], again["DDIM"]["fd"])
    low, high = interval(ratio)
    told = f"{ratio.mean():.2f} ({short(f'{low:.2f}')} to {high:.2f})"
    assert f"trained again](#the-five-folds-again): {told}." in text and low < 0.503 < high
    judged = []
    for judge in ("phantom_judge_1", "phantom_judge_2", "phantom_judge_3"):
        for fold in (1, 2, 3, 4):
            records = load(f"{judge}/fold_{fold}.json")
            judged.append(records["measure/PIG"]["fd"] / records["measure/DDIM"]["fd"])
    assert f"each of the twelve from {short(f'{min(judged):.2f}')} to {max(judged):.2f}" in text
    one_anew, two_anew = replicas(RESULTS / "phantom_replicas")
    one_more, _ = replicas(RESULTS / "phantom_fresh")
    behind = [
        points(rows, f"real+ControlNet_{N}", f"real+PIG_{N}", "fresh_dice", **how)
        for rows, how in ((rows_of("phantom"), {}), (two_anew, {"parts": inf}))
    ]
    shown = [f"{mean:.1f} points ({a:.1f} to {b:.1f})" for mean, a, b in behind]
    shown[1] = shown[1].replace(" points", "").replace("-", "−")
    assert f"by {shown[0]} in the folds and {shown[1]} in the replicas" in text
    ahead = [
        signed(*points(rows, f"real+PIG_{N}", f"real+SegGuidedDif_{N}", "fresh_dice", **how))
        for rows, how in ((rows_of("phantom"), {}), (two_anew, {"parts": inf}))
    ]
    assert f"Over SegGuidedDif's they gain {' and '.join(ahead)}" in text
    for rows, parts in ((one_anew, inf), (one_more, inf), (folds, 5)):
        change = np.subtract(rows["PIG-matched"]["agreement"], rows["PIG"]["agreement"])
        values = (change.mean(), *interval(change, parts))
        told = "{:+.3f} ({:+.3f} to {:+.3f})".format(*values).replace("-", "−").replace("0.", ".")
        assert told in text, told


def test_the_tables_on_real_lesions():
    mammograms, ultrasound = rows_of("cdd_cesm"), rows_of("bus_uclm")
    names = {name: f"real+{name}_{N}" for name in ("joint", "SegGuidedDif", "PIG")}
    names |= {"classical augmentation": "real+classical"}
    names |= {"classical augmentation and PIG": f"real+classical+PIG_{N}"}
    shown = table_below("pairs of | mammograms")
    real = shown.pop("(real only, Dice in percent)")
    assert real == [spread(rows["real"]["dice"]) for rows in (mammograms, ultrasound)]
    assert set(shown) == set(names)
    for label, row in names.items():
        cells = [signed(*points(rows, row)) for rows in (mammograms, ultrasound)]
        assert shown[label] == cells, label


def test_the_lab():
    rows = load("lab.json")["rows"]
    shown = table_below("variant | what model_y is shown")
    assert len(shown) == 3
    for label, (_, *cells) in shown.items():
        row = rows[label.split("`")[1]]
        found = [f"{np.mean(row[k]):.3f} ± {stats.sem(row[k]):.3f}" for k in ("fd", "agreement")]
        assert cells == [short(text) for text in found], label
        assert row["calls"] <= rows["clean"]["calls"]


def test_the_solvers():
    summary = load("solvers.json")["summary"]
    shown = table_below("walk | pair agreement")
    assert len(shown) == len(summary)
    for walk, cells in shown.items():
        words = walk.lower().replace(",", "").split()
        name = "fresh" if "fresh" in words else "-".join(words[:2])
        agreement, distance, finest = (
            summary[name][key] for key in ("agreement", "frechet", "finest")
        )
        assert cells == [
            short(f"{agreement['mean']:.3f} ± {agreement['error']:.3f}"),
            f"{distance['mean']:.2f} ± {distance['error']:.2f}".replace("± 0.", "± ."),
            f"{finest['mean']:+.2f} ± {finest['error']:.2f}".replace("± 0.", "± ."),
        ]
    for name, key, digits, told in (
        ("dpm++2m-25", "agreement", 3, "−.013 ± .001"),
        ("dpm++2m-25", "frechet", 2, "+.63 ± .03"),
        ("dpm++2m-15", "agreement", 3, "−.018 ± .003"),
        ("dpm++2m-15", "frechet", 2, "+.91 ± .04"),
        ("quick-15", "agreement", 3, "−.008 ± .002"),
        ("quick-15", "frechet", 2, "−.59 ± .03"),
    ):
        paired = summary[name][key]
        text = f"{paired['difference']:+.{digits}f} ± {paired['difference_error']:.{digits}f}"
        assert text.replace("0.", ".").replace("-", "−") == told and told in PAGE


def test_going_on_from_a_run():
    found = load("going_on.json")
    held_out = found["held_out"]
    shown = table_below("then | model_x")
    assert list(shown) == list(held_out)
    ends = {}
    for name, losses in held_out.items():
        assert len(losses["model_x"]) == len(losses["model_y"]) == 3
        for values, told in zip(losses.values(), shown[name]):
            mean, low, high = (short(f"{f(values):.4f}") for f in (np.mean, min, max))
            assert told == f"{mean} ({low} to {high})"
        ends[name] = np.array(list(losses.values()))
    same, third, whole, other, other_third, tenth, alone = ends.values()
    assert (same < third).all() and (other < other_third).all() and (other_third < tenth).all()
    assert (other < alone).all() and abs(same.mean(1) / whole.mean(1) - 1).max() < 0.1
    assert (tenth.mean(1) > alone.mean(1)).all()
    long = found["after_3000_steps"]
    for values in long.values():
        assert " and ".join(short(f"{value:.4f}") for value in values) in PAGE
    assert (np.diff(list(long.values()), axis=0) > 0).all()  # the lower the rate, the worse


def test_held_out_losses():
    losses, points = read_curves(RESULTS / "held_out")
    text = " ".join(PAGE.split())
    x, y = (points[name] for name in ("model_x", "model_y"))
    assert min(y, key=y.get) == 600 and min(x, key=x.get) == 2400 and max(x) == max(y) == 3000
    for value in (y[600], y[3000], x[2400], x[3000], np.mean(losses["model_y"][-100:])):
        assert short(f"{value:.4f}") in text
    assert 2.8 < y[3000] / y[600] < 3.2
    rows = table_below("weights | samples nearer")
    for keep in ("best", "last"):
        run = RESULTS / "held_out" / keep
        found = json.loads((run / "agreement.json").read_text())["details"]
        close = json.loads((run / "novelty.json").read_text())["close"]
        mine, real = (
            short(f"{found[k]['mean']:.3f} ± {found[k]['error']:.3f}")
            for k in ("synthetic", "fresh")
        )
        assert rows[keep] == [f"{100 * close:.1f} %", mine] and f"pairs: {real})" in text
        config = json.loads((run / "config.json").read_text())["config"]
        assert (config["keep"], config["steps"], config["seed"]) == (keep, 3000, 20)


def test_which_weights_serve_a_segmenter():
    dice = load("held_out/dice.json")["dice"]
    shown = table_below("pairs to learn from | seed 1")
    mean = {name: [100 * np.mean(of[name]) for of in dice.values()] for name in dice["1"]}
    for values, told in zip(mean.values(), shown.values()):
        assert told == [f"{value:.1f}" for value in values]
    ahead, gain = (np.subtract(mean["last"], mean[name]) for name in ("best", "real"))
    told = "by {:.1f} and {:.1f} points, of {:.1f} and {:.1f} gained"
    assert short(told.format(*ahead, *gain)) in PAGE and (ahead > 0).all()


def test_the_bench():
    """Two tables of speed, to the digits that they show, and what is said beside the first."""
    names = ("ours", "ours-recomputing", "ours-float32", "ours-float32-last", "ours-bfloat16")
    names += ("ours-bfloat16-last", "ours-groupnorm", "plain")
    for file, header, others in (
        ("bench.json", "candidate | seconds", ("diffusers",)),
        ("bench_shared.json", "candidate, with tiles | seconds", ()),
    ):
        rows = load(file)["rows"]
        shown = table_below(header)
        assert len(shown) == len(names + others)
        for name, (seconds, memory) in zip(names + others, shown.values()):
            row = rows[f"train/{name}/paper/512/1"]
            median, low, high = (f(row["seconds"]) for f in (np.median, min, max))
            assert seconds == f"{median:.2f} ({low:.2f}–{high:.2f})", name
            assert memory == f"{row['peak_bytes'] / 1e9:.2f} GB", name
    text = " ".join(PAGE.split())
    rows = load("bench.json")["rows"]
    for name, told in (
        ("ours", "takes {} of the plain network's time and {} of its memory"),
        ("ours-recomputing", "recomputing, {} and {}."),
    ):
        row = rows[f"train/{name}/paper/512/1"]
        ratios = [short(f"{row[key]:.2f}") for key in ("time_ratio", "memory_ratio")]
        assert told.format(*ratios) in text
    assert f"reaches {100 * rows['train/ours/paper/512/1']['peak_share']:.0f} %" in text
    ours, plain = (rows[f"sample/{name}/paper/512/1/2/1"] for name in ("ours", "plain"))
    told = "25 steps takes {:.0f} s and {:.2f} GB; the released architecture, plainly, in torch's"
    told += " layout and without kept memory, takes {:.0f} s and {} GB"
    spent = [(row["per_pair"]["25"], row["peak_bytes"] / 1e9) for row in (ours, plain)]
    assert told.format(*spent[0], spent[1][0], short(f"{spent[1][1]:.2f}")) in text


def trials(file: str) -> dict[str, tuple[float, float]]:
    """Seconds of the best of bfloat16 and of float32, by trial."""

    def best(found: dict[str, float], kind: str) -> float:
        return min(value for name, value in found.items() if name.startswith(kind))

    found = {name: row.get("candidates") for name, row in load(file)["rows"].items()}
    return {
        name.removeprefix("trial/ours/"): (best(each, "bfloat16"), best(each, "float32"))
        for name, each in found.items()
        if each
    }


def test_the_bench_without_tiles():
    """What is said of trials, and of a processor whose tiles are switched off."""
    text = " ".join(PAGE.split())
    rows = load("bench.json")["rows"]
    longest = rows["trial/ours/paper/512/1"]["seconds"][0]
    assert f"A trial takes {longest:.0f} s at 512x512 here" in text
    shown = [f"{1000 * value:.0f}" for value in rows["trial/ours/cpu/32/64"]["candidates"].values()]
    assert "batch 64, the four take {}, {}, {} and {} ms)".format(*shown) in text
    smallest = rows["trial/ours/paper/64/1"]["candidates"].values()
    assert f"{1000 * min(smallest):.0f} to {1000 * max(smallest):.0f} ms by each" in text
    for name, (low, full) in trials("bench.json").items():
        if name not in ("paper/512/1", "paper/64/1"):
            assert 0.16 < 1 - low / full < 0.36, name
    rows = load("bench_vectors.json")["rows"]
    for name in ("ours", "ours-bfloat16", "plain"):
        assert f"{np.median(rows[f'train/{name}/paper/512/1']['seconds']):.2f} s" in text
    slower = [
        low / full - 1
        for name, (low, full) in trials("bench_vectors.json").items()
        if name != "paper/512/1"
    ]
    assert f"{100 * min(slower):.0f} to {100 * max(slower):.0f} % slower" in text


FRESH = {
    "DDIM": "DDIM",
    "joint": "joint",
    "joint, twice the steps": "joint-twice",
    "SegGuidedDif": "SegGuidedDif",
    "ControlNet": "ControlNet",
    "PIG": "PIG",
    "PIG, rule `matched`": "PIG-matched",
    "PIG, shown the sign": "PIG-sign",
    "PIG, finished masks": "PIG-finished",
    "the same at no more calls": "PIG-finished-fewer",
}
GENERATORS = ("SegGuidedDif", "ControlNet", "PIG")
# beside 2,048 classical pairs, in the place of 2,048 others
TRIALS = [f"classical+{name}-deformed_{N}" for name in ("PIG-sign", *GENERATORS[:2])]
TRIALS += [f"classical+{name}_{N}" for name in ("PIG", "SegGuidedDif")]


def test_the_fresh_samples_of_patients():
    one, two = replicas(RESULTS / "phantom_fresh")
    assert len(one["PIG"]["fd"]) == 5

    def dice(row: str) -> str:
        return spread(np.reshape(two[row]["fresh_dice"], (-1, 2)).mean(1)) if row in two else ""

    shown = table_below("five experiments |")
    assert shown.keys() == FRESH.keys()
    for label, name in FRESH.items():
        expected = []
        for key in ("fd", "fd_mirrored", "agreement"):
            found = one[name].get(key)
            text = f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}" if found else ""
            expected.append(short(text))
        rows = (f"{name}_{N}", f"{name}-flipped_{N}", f"classical+{name}-deformed_{N}")
        assert shown[label] == expected + [dice(f"real+{row}") for row in rows], name
    text = " ".join(PAGE.split())
    for row in ("", "+classical", f"+classical-upright_{N}", f"+classical-more_{2 * N}"):
        assert dice(f"real{row}") in text, row
    assert dice(f"real+fresh_{N}") in text
    more = f"classical-more_{2 * N}"
    for row, base in (
        (f"classical-upright_{N}", "classical"),
        *((f"{name}-flipped_{N}", f"{name}_{N}") for name in GENERATORS),
        *((f"{name}-flipped_{N}", "classical") for name in GENERATORS),
        *((f"classical-upright_{N}", f"{name}_{N}") for name in GENERATORS),
        (more, "classical"),
        *((row, more) for row in TRIALS),
        (f"joint-twice_{N}", f"joint_{N}"),
        (f"PIG_{N}", f"joint-twice_{N}"),
        *(
            (f"{name}_{N}", f"PIG_{N}")
            for name in ("PIG-sign", "PIG-finished", "PIG-finished-fewer")
        ),
    ):
        told = signed(*points(two, f"real+{row}", f"real+{base}", "fresh_dice", parts=inf))
        assert told in text, (row, base, told)
    own, corrected = [], []
    for row in TRIALS:
        own.append(signed(*points(two, f"real+{row}", f"real+{more}", parts=inf)))
        lead = np.subtract(two[f"real+{row}"]["fresh_dice"], two[f"real+{more}"]["fresh_dice"])
        corrected.append(interval(lead.reshape(-1, 2), inf, level=1 - 0.05 / len(TRIALS)))
    assert f"{', '.join(own[:4])} and {own[4]}" in text
    assert f"{own[0][:4]} points ({own[0][6:-1].replace('+', '')})" in README
    assert all(low < 0 < high for low, high in corrected)
    for name in ("PIG-sign", "PIG-finished", "PIG-finished-fewer"):
        assert (np.subtract(one[name]["fd_plain"], one["PIG"]["fd_plain"]) > 0).all()


def test_own_pairs():
    losses, points = read_curves(RESULTS / "own_pairs")
    text = " ".join(PAGE.split())
    for name in ("model_x", "model_y"):
        assert (
            len(losses[name])
            == 5500
            == max(points[name])
            == min(points[name], key=points[name].get)
        )
        assert f"{short(f'{points[name][5500]:.4f}')} for {name}" in text
    found = load("own_pairs/novelty.json")
    shares = f"({'by chance'} {100 * found['chance']:.0f} ± {100 * found['error']:.0f} %)"
    assert f"{100 * found['nearer']:.0f} % of the samples are nearer" in text and shares in text
    assert f"{100 * found['close']:.0f} % nearer than any stranger" in text
    assert f"{found['strangers']} held-out patients" in text
    mine, real = (load("own_pairs/agreement.json")["details"][k] for k in ("synthetic", "fresh"))
    for told in (
        f"is {mine['mean']:.3f} ± {mine['error']:.3f} on the samples, "
        f"{real['mean']:.3f} ± {real['error']:.3f} on held-out patients, "
        f"and {mine['floor']:.3f} with masks exchanged",
        f"agree {100 * mine['mean'] / real['mean']:.0f} % as well",
        f"{mine['empty']} of {mine['pairs']} masks are empty",
        f"cover {100 * mine['area']:.1f} % of the samples, and {100 * real['area']:.1f} % of",
    ):
        assert short(told) in text or told in text, told
    rows = rows_of("own_pairs")
    for base, row in (("real", "real+PIG_512"), ("real+classical", "real+classical+PIG_512")):
        assert f"({100 * np.mean(rows[base]['dice']):.1f} %)" in text
        mean, low, high = (100 * value for value in gain(rows, row, base))
        told = f"by {mean:+.1f} points ({low:+.1f} to {high:+.1f})".replace("-", "−")
        assert told in text and low < 0 < high


def test_the_five_folds_again():
    one, two = rows_of("phantom_again", 1), rows_of("phantom_again")
    before, before_2 = rows_of("phantom", 1), rows_of("phantom")
    text = " ".join(PAGE.split("### The five folds again")[1].split("\n### ")[0].split())

    def dice(rows: dict, row: str) -> str:
        values = rows[row]["fresh_dice"] if row in rows else []
        return spread(np.reshape(values, (5, 2)).mean(1)) if values else ""

    def table1(rows: dict, name: str, key: str) -> str:
        values = rows.get(name, {}).get(key)
        return short(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}") if values else ""

    shown = table_below("five folds, again |")
    names = {label: name for label, name in FRESH.items() if "finished" not in name}
    assert shown.keys() == names.keys()
    for label, name in names.items():
        row = f"real+{name}_{N}"
        expected = [table1(one, name, "fd"), table1(before, name, "fd")]
        expected += [table1(one, name, key) for key in ("fd_mirrored", "agreement")]
        expected += [dice(two, row), dice(before_2, row), dice(two, f"real+{name}-flipped_{N}")]
        expected += [dice(two, f"real+classical+{name}-deformed_{N}")]
        assert shown[label] == expected, name
    more = f"classical-more_{2 * N}"
    for row in ("", "+classical", f"+classical-upright_{N}", f"+{more}", f"+fresh_{N}"):
        assert dice(two, f"real{row}") in text, row

    def moved(new: dict, old: dict, key: str, rows: list[str], seeds: int = 1) -> float:
        """The root mean square change of a fold's value, from the one run to the other."""
        apart = [np.array(new[row][key]) - old[row][key] for row in rows]
        return float(np.sqrt(np.square(np.reshape(apart, (-1, seeds)).mean(1)).mean()))

    generated = [f"real+{name}_{N}" for name in names.values() if name in before][1:]
    others = (["real"], ["real+classical", f"real+fresh_{N}"])
    assert generated[0] == f"real+joint_{N}" and len(generated) == 6
    luck = 100 * moved(two, before_2, "fresh_dice", generated, 2)
    alone, besides = (100 * moved(two, before_2, "fresh_dice", rows, 2) for rows in others)
    distance = short(f"{moved(one, before, 'fd', ['PIG']):.2f}")
    assert f"distance in a fold moves by {distance} (root mean square)" in text
    assert f"with generated pairs by {luck:.1f} points, with real ones alone by {alone:.1f}" in text
    assert f"with classical or fresh ones by {besides:.1f}." in text
    for row, base in (
        (f"classical-upright_{N}", "classical"),
        *((f"{name}-flipped_{N}", "classical") for name in GENERATORS),
        *((f"classical-upright_{N}", f"{name}_{N}") for name in GENERATORS),
        (more, "classical"),
        *((f"classical+{name}-deformed_{N}", more) for name in ("PIG-sign", *GENERATORS[:2])),
        (f"joint-twice_{N}", f"joint_{N}"),
        (f"PIG_{N}", f"joint-twice_{N}"),
    ):
        told = signed(*points(two, f"real+{row}", f"real+{base}", "fresh_dice"))
        assert told in text, (row, base, told)

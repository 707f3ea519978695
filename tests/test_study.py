"""A real, small study: run, killed, continued, reported, through library and command."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_run import damage

from keras_vit_scale.data import digits
from keras_vit_scale.scaling import (
    StudyError,
    collect_results,
    load_config,
    read_points,
    run_study,
    write_report,
)
from keras_vit_scale.scaling.findings import describe, find, next_steps
from keras_vit_scale.scaling.results import by_data_size, study_points
from keras_vit_scale.scaling.study_data import open_data
from keras_vit_scale.training import CheckpointStore

STUDY = """
sizes: [a, B]
durations: [6, 10, 20]
image_size: 8
shapes:
  a: {width: 8, depth: 1, mlp_dim: 16, heads: 2, patch_size: 4}
  B: {width: 12, depth: 2, mlp_dim: 24, heads: 2, patch_size: 4}
data: {upstream: digits, held_out: 597, crop: shift, flip: false}
recipe: {batch_size: 16, peak: 0.01, warmup_steps: 2, timescale: 10, cooldown: 0.5}
probe: {shots: [1, 5], seeds: [0, 1], resize: none}
"""


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "keras_vit_scale_command", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that ran without interruption, by the command."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(STUDY)
    done = command("study", "run", folder / "study.yaml", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


@pytest.mark.slow
def test_every_piece_is_there(finished):
    out, printed = finished
    for name in ("study.yaml", "results.csv", "law.json", "frontier.png", "report.html"):
        assert (out / name).stat().st_size > 100
    for size in ("a_w8_d1", "B_w12_d2"):
        run = out / "runs" / size / "seed-0"
        assert CheckpointStore(run / "trunk").steps() == [3, 5, 10]
        for steps in (6, 10, 20):
            assert (run / f"steps-{steps:08d}" / "result.json").is_file()
    for heading in ("5-shot error (held-out) by size and steps", "Found", "Try next", "Written"):
        assert heading in printed


@pytest.mark.slow
def test_results_are_rows_with_their_costs(finished):
    table = pd.read_csv(finished[0] / "results.csv")
    assert len(table) == 2 * 3 * 2
    assert set(table["size"]) == {"a", "B"}
    assert (table["images_seen"] == table["steps"] * 16).all()
    assert table["error"].between(0.2, 1).all()
    # By hand: 4 patches of 4 x 4 x 3, width 8, one block with an MLP of 16, MAP, 10 classes.
    block = 4 * 4 * 8 * 8 + 2 * 4 * 4 * 8 + 2 * 4 * 8 * 16
    pool = (1 + 4 + 4 + 1) * 8 * 8 + 2 * 1 * 4 * 8 + 2 * 8 * 16
    forward = 2 * (4 * 48 * 8 + block + pool + 8 * 10)
    flops = table[(table["size"] == "a") & (table["steps"] == 20)]["flops"]
    assert (flops == 3 * forward * 20 * 16).all()


@pytest.mark.slow
def test_saved_models_are_the_judged_ones(finished):
    out, _ = finished
    config = load_config(out / "study.yaml")
    probe = open_data(config).probes["held-out"]
    branch = out / "runs" / "B_w12_d2" / "seed-0" / "steps-00000020"
    model = keras.saving.load_model(branch / "model.keras")
    recorded = json.loads((branch / "result.json").read_text())["probes"]
    for r, saved in zip(probe(model), recorded, strict=True):
        assert saved["task"] == "held-out"
        assert (r.shots, r.seed) == (saved["shots"], saved["seed"])
        assert 1 - r.accuracy == pytest.approx(saved["error"], abs=1e-12)


@pytest.mark.slow
def test_no_trunk_saw_an_image_of_the_probe(finished):
    upstream, _, probes, *_ = open_data(load_config(finished[0] / "study.yaml"))
    probe = probes["held-out"]
    trained = set(upstream.indices)
    # Subsets of subsets: back to indices of the digits.
    held_out = probe.test.source
    tested = set(held_out.indices[probe.test.indices])
    examples = set(held_out.indices[probe.train.source.indices[probe.train.indices]])
    assert not trained & tested
    assert not trained & examples
    assert not tested & examples


@pytest.mark.parametrize("validation", [0, 101])
def test_the_parts_of_a_study_share_no_image(validation, tmp_path):
    """By the pixels of the images, of which no two are the same; nothing is trained."""
    text = STUDY.replace("held_out: 597", f"held_out: 597, validation: {validation}")
    (tmp_path / "study.yaml").write_text(text)
    upstream, held_out, probes, *_ = open_data(load_config(tmp_path / "study.yaml"))
    probe = probes["held-out"]
    # All that examples may come from, and not those alone that these seeds choose.
    parts = [upstream, probe.train.source, probe.test, *([held_out] if validation else [])]
    pixels = [{part[i][0].tobytes() for i in range(len(part))} for part in parts]
    assert [len(p) for p in pixels] == [1200 - validation, 299, 298, *[validation] * bool(held_out)]
    assert len(set().union(*pixels)) == 1797


def results_of(out):
    return {
        str(p.relative_to(out)): {
            k: v for k, v in json.loads(p.read_text()).items() if k != "cooldown_seconds"
        }
        for p in out.glob("runs/*/*/*/result.json")
    }


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(finished, tmp_path):
    """SIGKILL after each kind of file first appears; the last run finishes."""
    (tmp_path / "study.yaml").write_text(STUDY)
    out = tmp_path / "out"
    arguments = ["study", "run", tmp_path / "study.yaml", "--out", out]
    for pattern in (
        "study.yaml",
        "runs/a*/*/trunk/*/arrays-0000-000.safetensors",
        "runs/a*/*/*/checkpoints/*/manifest.json",
        "runs/a*/*/*/model.keras",  # while it is probed
        "runs/B*/*/*/result.json",
        "results.csv",  # while the report is written
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_vit_scale_command", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not list(out.glob(pattern)):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "report.html").exists()
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert results_of(out) == results_of(finished[0])
    for name in ("law.json", "report.html", "frontier.png"):
        assert (out / name).stat().st_size > 100
    tables = [
        pd.read_csv(folder / "results.csv").drop(columns="cooldown_seconds")
        for folder in (out, finished[0])
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.slow
def test_more_durations_run_only_what_is_missing(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    before = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*/*/result.json")}
    study = load_config(out / "study.yaml")
    reports = []
    run_study(dataclasses.replace(study, sizes=("a",), durations=(8,)), out, reports.append)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (out / "runs" / "a_w8_d1" / "seed-0" / "steps-00000008" / "result.json").is_file()
    assert load_config(out / "study.yaml").durations == (6, 8, 10, 20)
    # From the trunk's step 3 to 4, and the cooldown from there to 8.
    assert reports[-1].total_steps == reports[-1].done_steps == 5


@pytest.mark.slow
def test_a_damaged_trunk_is_trained_to_again_and_ends_the_same(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    expected, size = results_of(out), out / "runs" / "B_w12_d2" / "seed-0"
    for duration in (6, 20):
        (size / f"steps-{duration:08d}" / "result.json").unlink()
    # Where both leave the trunk, of whose other checkpoints some are gone by now.
    for step in (3, 10):
        damage(size / "trunk" / f"step-{step:08d}")
    with pytest.warns(UserWarning, match=r"step-000000(03|10).*The trunk is trained to it again"):
        run_study(load_config(out / "study.yaml"), out)
    assert results_of(out) == expected


@pytest.mark.slow
def test_of_a_cooldown_the_loss_is_that_of_its_own_steps(finished, tmp_path):
    """Although it leaves the trunk at a checkpoint that was saved amid the trunk's steps."""
    config = dataclasses.replace(
        load_config(finished[0] / "study.yaml"), sizes=("a",), checkpoint_every=8
    )
    to_16, to_20 = (dataclasses.replace(config, durations=(d,)) for d in (16, 20))
    one, other = tmp_path / "one", tmp_path / "other"
    run_study(to_16, one)  # whose trunk ends at step 8
    run_study(to_20, other)  # whose trunk comes by there
    assert to_16.branch_step(16) == 8
    assert CheckpointStore(other / "runs" / "a_w8_d1" / "seed-0" / "trunk").steps() == [8, 10]
    run_study(to_16, other)
    result = "runs/a_w8_d1/seed-0/steps-00000016/result.json"
    assert results_of(other)[result] == results_of(one)[result]


@pytest.mark.slow
def test_another_study_in_the_folder_is_refused(finished):
    study = load_config(finished[0] / "study.yaml")
    other = dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, batch_size=8))
    with pytest.raises(StudyError, match=r"recipe\.batch_size was 16, now 8"):
        run_study(other, finished[0])
    assert load_config(finished[0] / "study.yaml") == study


def test_too_few_examples_for_the_shots_stop_it_before_any_work(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("shots: [1, 5]", "shots: [99]"))
    done = command("study", "run", tmp_path / "study.yaml", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "as many examples as the probe has shots" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_divergence_names_size_and_rate(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("peak: 0.01", "peak: 1.0e+30"))
    done = command("study", "run", tmp_path / "study.yaml", "--out", tmp_path / "out")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "a seed 0: trunk at a peak rate of 1e+30" in last
    assert "lower the peak rate" in last


@pytest.mark.parametrize("kind", ["classes", "folder"])
@pytest.mark.slow
def test_probe_on_other_classes_and_other_data(kind, tmp_path):
    """Held-out classes; and another data set, a folder of image files."""
    study = yaml_study = STUDY.replace("[6, 10, 20]", "[6]").replace("[a, B]", "[a]")
    if kind == "classes":
        study = yaml_study.replace("held_out: 597", "held_out_classes: ['3', '7', '8']")
    else:
        source = digits()
        for i in range(200):
            image, label = source[i]
            folder = tmp_path / "photos" / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - image[..., 0]).resize((12, 16)).save(folder / f"{i}.png")
        study = yaml_study.replace(
            "held_out: 597", f"held_out: 597, validation: 101, downstream: '{tmp_path / 'photos'}'"
        )
    (tmp_path / "study.yaml").write_text(study)
    run_study(load_config(tmp_path / "study.yaml"), tmp_path / "out")
    results = collect_results(tmp_path / "out")
    tasks = ["held-out", "held-out"] + (["photos", "photos"] if kind == "folder" else [])
    assert results["task"].tolist() == tasks
    assert results["shots"].tolist() == [1, 5] * (len(tasks) // 2)
    assert results["error"].between(0.01, 1).all()
    if kind == "folder":
        # Of 101 images that neither the trunk nor a probe has seen.
        assert (results["upstream_error"] * 101 % 1).between(-1e-9, 1e-9).all()
        upstream, validation, *_ = open_data(load_config(tmp_path / "study.yaml"))
        assert len(upstream) == 1797 - 597 - 101
        assert not set(upstream.indices) & set(validation.indices)
        findings = write_report(tmp_path / "out")
        assert [(f.task, f.shots) for f in findings] == list(zip(tasks, [1, 5, 1, 5], strict=True))
        assert "5-shot error (photos)" in (tmp_path / "out" / "report.html").read_text()
        groups = read_points(tmp_path / "out" / "results.csv")
        assert list(groups) == [
            f"task {t}, shots {s}" for t in ("held-out", "photos") for s in (1, 5)
        ]
    else:
        assert results["upstream_error"].isna().all()


def synthetic(errors, seeds=1):
    """A results table with given errors by size (rows) and steps (columns)."""
    rows = []
    for i, (size, line) in enumerate(errors.items()):
        for j, error in enumerate(line):
            for seed in range(seeds):
                steps, cost = 100 * 4**j, 1e6 * 8**i
                rows.append(
                    {
                        "size": size, "seed": seed, "steps": steps, "images_seen": steps * 10,
                        "parameters": 10**i, "flops": cost * steps * 10,
                        "tpuv3_core_days": cost * steps * 1e-17, "task": "digits", "shots": 10,
                        "error": error + 0.01 * (seed - (seeds - 1) / 2), "classified": 1000,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


SATURATING = {
    "small": [0.60, 0.50, 0.48, 0.475],
    "middle": [0.55, 0.35, 0.25, 0.20],
    "large": [0.50, 0.25, 0.14, 0.09],
}


def test_findings_name_what_saturates_and_what_to_try():
    found = find(synthetic(SATURATING), "digits", 10)
    assert found.saturated() == ["small"]
    assert found.best["size"] == "large"
    assert found.law is not None
    told = "\n".join(describe(found))
    assert "small has stopped improving: from 1,600 to 6,400 steps" in told
    # By hand: log(0.14 / 0.09) / log(4).
    assert found.end_slopes()["large"] == pytest.approx(0.3187, abs=1e-4)
    assert "--durations 12800" in "\n".join(next_steps(found))


def test_advice_depends_on_what_is_the_bottleneck():
    data_bound = {**SATURATING, "large": [0.5, 0.3, 0.26, 0.255]}
    assert "add data" in "\n".join(next_steps(find(synthetic(data_bound), "digits", 10)))
    flat = {**SATURATING, "large": [0.5, 0.3, 0.15, 0.148]}
    assert "large has stopped improving too" in "\n".join(
        next_steps(find(synthetic(flat), "digits", 10))
    )


def test_seeds_are_averaged_before_the_frontier():
    points = study_points(synthetic(SATURATING, seeds=3), "digits", 10)
    assert len(points) == 12
    assert points["error"].iloc[0] == pytest.approx(0.60)


def test_a_probe_without_mistakes_counts_half_a_mistake():
    table = synthetic({"small": [0.5, 0.0]})
    assert study_points(table, "digits", 10)["error"].tolist() == [0.5, 0.0005]


def test_too_few_points_give_a_reason_instead_of_a_law():
    found = find(synthetic({"small": [0.5, 0.4]}), "digits", 10)
    assert found.law is None
    assert "at least 5 points" in "\n".join(describe(found))
    assert "Add sizes or durations" in "\n".join(next_steps(found))


@pytest.mark.slow
def test_report_escapes_what_it_shows_and_needs_no_network(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    text = (out / "study.yaml").read_text()
    (out / "study.yaml").write_text(
        text.replace("rates_chosen: not tuned", "rates_chosen: <script>alert(1)</script>")
    )
    for path in out.glob("runs/a_*/*/*/result.json"):
        path.write_text(path.read_text().replace('"size": "a"', '"size": "<img src=x>"'))
    write_report(out)
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page
    assert 'src="http' not in page
    assert "5-shot" in page


def test_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(StudyError, match="must be a YAML file"):
        write_report(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    with pytest.raises(StudyError, match="no finished result"):
        write_report(tmp_path)


ROWS = [["flops", "error", "shots"], ["1e3", "0.9", "5"], ["1e4", "0.5", "5"], ["1e5", "0.3", "10"]]


def write_rows(path, changes=()):
    rows = [list(r) for r in ROWS]
    for line, column, value in changes:
        rows[line - 1][column] = value
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_points_are_read_by_group(tmp_path):
    path = write_rows(tmp_path / "r.csv", [(4, 2, "5")])
    compute, error = read_points(path)["all"]
    np.testing.assert_array_equal(compute, [1e3, 1e4, 1e5])
    np.testing.assert_array_equal(error, [0.9, 0.5, 0.3])
    groups = read_points(path, by="error")
    assert {name: len(c) for name, (c, _) in groups.items()} == {
        "error 0.9": 1,
        "error 0.5": 1,
        "error 0.3": 1,
    }


def test_several_numbers_of_shots_are_kept_apart_unasked(tmp_path):
    groups = read_points(write_rows(tmp_path / "r.csv"))
    assert {name: len(c) for name, (c, _) in groups.items()} == {"shots 5": 2, "shots 10": 1}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ([(1, 1, "err")], {}, r"no \['error'\]"),
        ([], {"compute": "gpu_hours"}, r"no \['gpu_hours'\]"),
        ([], {"by": "model"}, r"no \['model'\]"),
        (
            [(3, 0, "many")],
            {},
            r"line 3: column 'flops' must be a positive number. Received: 'many'",
        ),
        ([(3, 0, "")], {}, r"line 3: column 'flops'.*Received: ''"),
        ([(4, 0, "0")], {}, r"line 4: column 'flops'.*Received: '0'"),
        ([(4, 0, "inf")], {}, r"line 4: column 'flops'"),
        ([(2, 1, "nan")], {}, r"line 2: column 'error' must be in \(0, 1\]. Received: 'nan'"),
        ([(2, 1, "52.5")], {}, r"line 2: column 'error'"),
        ([(2, 1, "0")], {}, r"line 2: column 'error'"),
    ],
)
def test_bad_rows_are_refused_with_file_line_and_column(changes, options, message, tmp_path):
    path = write_rows(tmp_path / "r.csv", changes)
    with pytest.raises(ValueError, match=message) as error:
        read_points(path, **options)
    assert "r.csv" in str(error.value)


@pytest.mark.parametrize(
    "content", [None, b"", b"flops,error\n", b'a,b\n"unclosed', b"\xff\xfe\x00"]
)
def test_files_that_are_no_tables_are_refused(content, tmp_path):
    path = tmp_path / "r.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"r\.csv"):
        read_points(path)


@pytest.mark.slow
def test_interrupt_leaves_with_130_and_says_what_to_do(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_vit_scale_command", "study", "run",
         str(tmp_path / "study.yaml"), "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    try:
        while not list(out.glob("runs/*/*/trunk/*/manifest.json")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command goes on" in errors


@pytest.mark.slow
def test_data_sizes_are_a_second_axis(tmp_path):
    """Sizes on nested parts of the images; laws are of all of them, bottlenecks of each."""
    (tmp_path / "study.yaml").write_text(STUDY)
    config = dataclasses.replace(
        load_config(tmp_path / "study.yaml"), durations=(4, 8), data_sizes=(300, 40)
    )
    data, out = open_data(config), tmp_path / "out"
    whole, *parts = (set(data.of(n).upstream.indices) for n in (None, 300, 40))
    assert [len(part) for part in parts] == [300, 40]
    # The parts number the images of `upstream`, which is a part itself.
    assert parts[1] < parts[0] < set(range(len(whole)))
    run_study(dataclasses.replace(config, data_sizes=(300,)), out)
    run_study(config, out)  # one more, and what there was stays
    results = collect_results(out)
    cases = results.groupby(["size", "data_size"])["steps"].agg(lambda s: sorted(set(s)))
    assert cases.index.tolist() == [(s, n) for s in ("B", "a") for n in (40, 300, 1200)]
    assert all(steps == [4, 8] for steps in cases)
    assert set(results["data_whole"]) == {1200}
    run = out / "runs" / "a_w8_d1"
    assert (run / "seed-0-images-40" / "steps-00000004" / "result.json").is_file()
    # Of one seed the trunks begin alike, and part with their images.
    errors = results.pivot_table("error", "data_size", ["size", "steps", "shots"])
    assert len(errors.drop_duplicates()) == 3
    findings = write_report(out)
    assert all(len(f.points) == 4 for f in findings)
    of_all = results[(results["data_size"] == 1200) & (results["shots"] == 5)]
    np.testing.assert_allclose(sorted(findings[-1].points["error"]), sorted(of_all["error"]))
    held = by_data_size(results, "held-out", 5)
    assert held["data"].tolist() == [40, 300, 1200] * 2
    for row in held.itertuples():
        mine = results[(results["size"] == row.size) & (results["data_size"] == row.data)].query(
            "shots == 5"
        )
        assert row.best == pytest.approx(mine["error"].min())
    page = (out / "report.html").read_text()
    assert "Size or data" in page
    assert "<caption>5-shot error (held-out).</caption>" in page
    assert len(read_points(out)["shots 5"][0]) == 4
    with pytest.raises(ValueError, match="must be below the 1200 images"):
        run_study(dataclasses.replace(config, data_sizes=(1200,)), tmp_path / "too-many")

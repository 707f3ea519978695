"""Every file that a version of this package wrote is read by this one, on every backend.

`tests/golden/<version>` holds them, as `tests/golden/make.py` wrote them; a folder is never
changed or deleted, so what its digests say is what the version wrote.
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import as_numpy
from pyarrow import parquet
from safetensors.numpy import load_file

import keras_vit_scale as kvs
from keras_vit_scale import cli
from keras_vit_scale.data import Subset, deduplicate, digits, read_exclusions
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.formats import FORMATS
from keras_vit_scale.planning import search_shapes
from keras_vit_scale.runs import fine_tune, load_run_config, train
from keras_vit_scale.runs.origin import read_origin
from keras_vit_scale.runs.rewinds import Rewinds
from keras_vit_scale.scaling import (
    StudyError,
    collect_results,
    law_from_dict,
    load_config,
    write_report,
)
from keras_vit_scale.scaling.results import study_results
from keras_vit_scale.scaling.study_data import open_data
from keras_vit_scale.scaling.study_run import StudyRun
from keras_vit_scale.training import Stopping
from keras_vit_scale.training.checkpoints import (
    CheckpointStore,
    restore_folder,
    training_state,
)
from keras_vit_scale.training.checkpoints.manifest import _digest, read_manifest
from keras_vit_scale.training.checkpoints.storage import LocalFolder
from keras_vit_scale.tuning.trial import metrics
from keras_vit_scale.tuning.tuner import check_search

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import make  # noqa: E402

#: Every version that there is; one more with each release, and never one less.
VERSIONS = ["0.1.0", "0.2.0"]
EVERY = pytest.mark.parametrize("version", VERSIONS)

# The same arithmetic in float32 on every backend: some roundings of logits of size 1 to 10.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def folder(version, tmp_path, monkeypatch):
    """A copy, in which the process is."""
    shutil.copytree(GOLDEN / version, tmp_path / version)
    monkeypatch.chdir(tmp_path / version)
    return tmp_path / version


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_every_folder_is_read_and_none_is_missing():
    assert sorted(p.name for p in GOLDEN.iterdir() if p.name[0].isdigit()) == sorted(VERSIONS)


@EVERY
def test_files_are_those_that_the_version_wrote(version):
    assert make.digests(GOLDEN / version) == read(GOLDEN / version / "digests.json")


@EVERY
def test_models(version):
    answers = np.load(GOLDEN / version / "answers.npz")
    files = sorted((GOLDEN / version / "models").iterdir())
    assert files
    for path in files:
        model = keras.saving.load_model(path)
        found = as_numpy(model(answers["images"]))
        np.testing.assert_allclose(found, answers[path.stem], err_msg=path.name, **CLOSE)
    assert keras.saving.load_model(path.with_stem("compiled")).optimizer is not None


@EVERY
def test_weights(version):
    weights, answers = GOLDEN / version / "weights", np.load(GOLDEN / version / "answers.npz")
    own = make.vit()
    own.load_weights(weights / "map.weights.h5")
    models = {
        "map.weights.h5": (own, "map"),
        "big_vision.npz": (kvs.from_pretrained(weights / "big_vision.npz", image_size=8), "map"),
        "timm": (kvs.from_pretrained(weights / "timm"), "map"),
        "transformers": (kvs.from_pretrained(weights / "transformers"), "token"),
    }
    assert sorted(models) == sorted(path.name for path in weights.iterdir())
    for name, (model, answer) in models.items():
        found = as_numpy(model(answers["images"]))
        np.testing.assert_allclose(found, answers[answer], err_msg=name, **CLOSE)


@EVERY
def test_checkpoints(version):
    """Every slot is what the file holds, Adafactor's momentum in bfloat16."""
    folders = sorted((GOLDEN / version / "checkpoints").iterdir())
    assert folders
    for made in folders:
        folder = next(made.glob("step-*"), made)
        model = make.vit(dropout=0.1)
        model.compile(make.OPTIMIZERS[made.name](), kvs.SigmoidCrossEntropy())
        assert restore_folder(LocalFolder(folder), model).step == 3
        assert int(model.optimizer.iterations) == 3
        stored = load_file(next(folder.glob("arrays*.safetensors")))
        for name, variable in training_state(model).items():
            np.testing.assert_array_equal(as_numpy(variable), stored[name], err_msg=name)
        halves = {name for name, array in stored.items() if array.dtype == "bfloat16"}
        assert {name.rpartition("_")[2] for name in halves} == {"momentum"}


@EVERY
def test_a_run_goes_on_to_the_end_it_had(version, folder):
    """From its checkpoint within the cooldown, even if other rows were logged after it."""
    told, done = [], folder / "finished-run"
    last = CheckpointStore("run/checkpoints").steps()[-1]
    results = train(load_run_config("run"), "run", told.append)
    assert (told[0].done_steps, results["steps"]) == (last, read(done / "results.json")["steps"])
    logs = [
        pd.read_csv(f / "log.csv")[["step", "loss", "learning_rate"]] for f in (Path("run"), done)
    ]
    # Steps amplify roundings, and bfloat16 rounds a momentum by 0.4 %.
    np.testing.assert_allclose(*logs, rtol=3e-3)
    for row, expected in zip(read("run/evaluations.json"), read(done / "evaluations.json")):  # noqa: B905
        assert row["step"] == expected["step"]
        assert row["loss"] == pytest.approx(expected["loss"], rel=3e-3)
    models = [load_classifier(f / "model.keras").model for f in (Path("run"), done)]
    for a, b in zip(*(m.weights for m in models), strict=True):
        if "key_bias" in a.path:
            continue  # Its gradient is zero, whose rounding the optimizer makes steps of.
        np.testing.assert_allclose(as_numpy(a), as_numpy(b), rtol=2e-2, atol=2e-3, err_msg=a.path)


@EVERY
def test_finished_runs_are_finished(version, folder):
    stored = read("finished-run/results.json")
    assert stored == {"format": stored["format"], **train(make.RUN, "finished-run")}
    before = Path("fine-tuned/model.keras").stat().st_mtime_ns
    found = fine_tune(make.FINE_TUNING, "classifier.keras", "digits", "fine-tuned", test="digits")
    assert Path("fine-tuned/model.keras").stat().st_mtime_ns == before
    assert found["test"].items() <= read("fine-tuned/test.json").items()


@pytest.mark.parametrize("version", VERSIONS[1:])  # 0.1.0 had none.
def test_branches_are_finished_and_know_their_trunk(version, folder):
    origin, stored = read_origin("branch"), read("branch/results.json")
    assert (origin.trunk, origin.step, origin.asked) == ("/runs/trunk", 5, {"cooldown": 2})
    assert stored == {"format": stored["format"], **train(load_run_config("branch"), "branch")}


@EVERY
def test_a_classifier_and_its_probe(version, folder, capsys):
    stored = read("fewshot.json")
    assert not cli.run(["fewshot", "classifier.keras", "digits", "--shots", "1", "5", "--json"])
    for row, expected in zip(
        json.loads(capsys.readouterr().out)["results"], stored["results"], strict=True
    ):
        # A few of 898 images stand on a border.
        assert row["shots"] == expected["shots"]
        assert row["accuracies"] == pytest.approx(expected["accuracies"], abs=5 / 898)


@EVERY
def test_a_study(version, folder):
    """Its pieces are found and its report is made again, from its runs or from its table."""
    config, expected = load_config("study/study.yaml"), pd.read_csv("study/results.csv")
    data = open_data(config)
    for size in config.sizes:
        run = StudyRun(config, size, 0, Path("study"), data, Stopping())
        assert not run.unfinished()
        shutil.rmtree(run.branch(max(config.durations)))
        leaves = config.branch_step(max(config.durations))
        assert leaves in run.trunk.steps()
        assert not run.trunk_plan()  # the trunk's checkpoint is there
    shutil.copytree(GOLDEN / version / "study", "again")
    write_report("again")
    pd.testing.assert_frame_equal(pd.read_csv("again/results.csv"), expected)
    assert [law["task"] for law in read("again/law.json")["laws"]] == [
        law["task"] for law in read("study/law.json")["laws"]
    ]
    shutil.rmtree("study/runs")
    pd.testing.assert_frame_equal(study_results("study"), expected)


@EVERY
def test_laws(version):
    stored = read(GOLDEN / version / "laws.json")
    for law in stored["laws"]:
        found = law_from_dict(law["stored"])
        np.testing.assert_allclose(found.predict(stored["compute"]), law["predicts"], rtol=1e-12)
        assert law_from_dict(found.to_dict()) == found


@EVERY
def test_configs(version):
    """Each class comes back from what `get_config` said, with every value that it had."""
    for stored in read(GOLDEN / version / "configs.json"):
        config = keras.saving.deserialize_keras_object(stored).get_config()
        for name, value in stored["config"].items():
            now = json.loads(json.dumps(keras.saving.serialize_keras_object(config[name])))
            if not isinstance(value, dict):
                assert now == (pytest.approx(value) if isinstance(value, float) else value), name


# Formats


def number(path, version, key=()):
    """Sets the format in a JSON or YAML file, or drops it."""
    path = Path(path)
    values = read(path) if path.suffix == ".json" else load_yaml(path)
    place = values
    for part in key:
        place = place[part]
    place.pop("format", None)
    if version is not None:
        place["format"] = version
    path.write_text(json.dumps(values))  # which is YAML too


def load_yaml(path):
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def classifier_of(version):
    """Rewrites the member of a classifier that says its format."""
    with zipfile.ZipFile("classifier.keras") as old:
        members = {name: old.read(name) for name in old.namelist()}
    settings = json.loads(members["keras_vit_scale.json"]) | {"format": version}
    members["keras_vit_scale.json"] = json.dumps(settings)
    with zipfile.ZipFile("classifier.keras", "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


def tuned():
    return fine_tune(make.FINE_TUNING, "classifier.keras", "digits", "fine-tuned", test="digits")


def manifest_of(version):
    """With the digest that it would have been written with."""
    number(MANIFEST, version)
    content = read(MANIFEST)
    content.pop("blake2b", None)
    Path(MANIFEST).write_text(json.dumps({**content, "blake2b": _digest(content)}))


def rewinds_of(version):
    """A run that never rewound; no version before wrote such a file."""
    Path("run/rewinds.json").write_text('{"rewinds": []}')
    number("run/rewinds.json", version)


def comparison():
    """A search for near-duplicates; no version before wrote what it writes."""
    some = Subset(digits(), range(11))
    return deduplicate(some, [some], folder="dedup")


def dedup_of(version):
    if not Path("dedup/dedup.json").exists():
        comparison()
    number("dedup/dedup.json", version)


def exclusions_of(version):
    path = Path("dedup/excluded.parquet")
    table = parquet.read_table(path if path.exists() else comparison().path)
    about = json.loads(table.schema.metadata[b"keras_vit_scale"])
    about.pop("format", None)
    about |= {} if version is None else {"format": version}
    metadata = {b"keras_vit_scale": json.dumps(about).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)


def shape_search():
    return search_shapes(
        widths=[4], depths=[1], mlp_dims=[8], heads=[2], image_size=28, folder="shapes"
    )


def shape_search_of(version):
    path = Path("shapes/shapes.jsonl")
    if not path.exists():
        shape_search()
    about, *rows = path.read_text(encoding="utf-8").splitlines()
    about = {k: v for k, v in json.loads(about).items() if k != "format"}
    about |= {} if version is None else {"format": version}
    path.write_text("\n".join([json.dumps(about), *rows, ""]), encoding="utf-8")


def tuned_file(name, version):
    """A file of a search, made here: searches are younger than the golden folders."""
    Path(f"{name}.json").write_text('{"metrics": {}}' if name == "result" else "{}")
    number(f"{name}.json", version)


RESULT = "study/runs/a_w6_d1/seed-0/steps-00000004/result.json"
TRUNK = "study/runs/a_w6_d1/seed-0/trunk"
MANIFEST = "run/checkpoints/step-00000005/manifest.json"

#: How each kind of file is given another number, and how it is read.
KINDS = {
    "branch": (lambda v: number("branch/branch.json", v), lambda: read_origin("branch")),
    "checkpoint": (
        manifest_of,
        lambda: read_manifest(LocalFolder(Path(MANIFEST).parent)),
    ),
    "classifier": (classifier_of, lambda: load_classifier("classifier.keras")),
    "cooldown": (lambda v: number("run/cooldown.json", v), lambda: train(make.RUN, "run")),
    "dedup": (dedup_of, comparison),
    "exclusions": (exclusions_of, lambda: read_exclusions("dedup/excluded.parquet")),
    "law": (
        lambda v: number("laws.json", v, ("laws", 0, "stored")),
        lambda: law_from_dict(read("laws.json")["laws"][0]["stored"]),
    ),
    "names": (lambda v: number(f"{TRUNK}/names.json", v), lambda: CheckpointStore(TRUNK).names()),
    "results": (
        lambda v: number("finished-run/results.json", v),
        lambda: train(make.RUN, "finished-run"),
    ),
    "rewinds": (rewinds_of, lambda: Rewinds(Path("run/rewinds.json"))),
    "run": (lambda v: number("run/config.yaml", v), lambda: load_run_config("run")),
    "shape search": (shape_search_of, shape_search),
    "search": (lambda v: tuned_file("search", v), lambda: check_search(Path(), {})),
    "study": (lambda v: number("study/study.yaml", v), lambda: load_config("study/study.yaml")),
    "study result": (lambda v: number(RESULT, v), lambda: collect_results("study")),
    "test": (lambda v: number("fine-tuned/test.json", v), tuned),
    "trial": (lambda v: tuned_file("result", v), lambda: metrics(Path())),
}

#: Written for others, never read.
UNREAD = {"laws"}

#: Of these there was never one without a number.
ALWAYS = {"checkpoint", "classifier"}


def test_every_kind_of_file_is_here():
    assert KINDS.keys() | UNREAD == FORMATS.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS[-1:])
def test_a_later_format_is_refused(kind, version, folder):
    """With the rule, what was received, and the cure; nothing else is tried or told to go."""
    change, load = KINDS[kind]
    for other in (FORMATS[kind] + 1, 0, True, "1"):
        change(other)
        with pytest.raises((StudyError, ValueError)) as refused:
            load()
        for part in (f"of a {kind};", "--upgrade keras-vit-scale", f"Received: format {other}"):
            assert part in str(refused.value)
        assert "delete" not in str(refused.value).lower()
        assert "remove" not in str(refused.value).lower()
        if kind in ("cooldown", "test"):
            break  # On the way to these a model is built.


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - ALWAYS - {"cooldown"}))
@pytest.mark.parametrize("version", VERSIONS[-1:])
def test_a_file_without_a_format_is_of_the_first(kind, version, folder):
    change, load = KINDS[kind]
    change(None)
    load()

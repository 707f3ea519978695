"""What a study may be, and what is refused before any work."""

import dataclasses

import pytest
import yaml

from keras_vit_scale import TABLE_2, ViTConfig, preset
from keras_vit_scale.scaling import DataConfig, RecipeConfig, StudyConfig, StudyError, load_config
from keras_vit_scale.scaling.config import (
    built_in_studies,
    conflicts,
    dump_config,
    folder_name,
    united,
)

GOOD = {
    "sizes": ["mu/4", "tiny"],
    "durations": [20, 40],
    "image_size": 8,
    "shapes": {"tiny": {"width": 8, "depth": 1, "mlp_dim": 16, "heads": 2, "patch_size": 4}},
    "data": {"upstream": "digits", "held_out": 300},
    "recipe": {"warmup_steps": 4, "timescale": "1e1", "peak": "1e-3", "peaks": {"tiny": 0.01}},
    "probe": {"shots": [2], "seeds": [0]},
}


def write(tmp_path, study):
    path = tmp_path / "study.yaml"
    path.write_text(study if isinstance(study, str) else yaml.safe_dump(study))
    return path


def test_built_in_studies_load():
    assert built_in_studies() == ["digits"]
    for name in built_in_studies():
        assert isinstance(load_config(name), StudyConfig)


def test_the_default_study_has_what_a_frontier_needs():
    study = load_config("digits")
    assert len(study.sizes) >= 4
    assert len(study.durations) >= 3
    assert study.recipe.rates_chosen != RecipeConfig.rates_chosen


def test_yaml_round_trip(tmp_path):
    study = load_config(write(tmp_path, GOOD))
    assert study.recipe.peak == 1e-3  # YAML 1.1 reads 1e-3 as text
    assert load_config(write(tmp_path, dump_config(study))) == study


def test_meaning(tmp_path):
    study = load_config(write(tmp_path, GOOD))
    assert study.shape("mu/4") == preset("mu/4")
    assert study.shape("tiny") == ViTConfig(8, 1, 16, 2, 4)
    assert (study.peak("mu/4"), study.peak("tiny")) == (1e-3, 0.01)
    assert study.branch_step(40) == 28
    assert study.schedule("tiny").total_steps is None
    branch = study.schedule("tiny", 40)
    assert (branch.peak, branch.total_steps, branch.cooldown_steps) == (0.01, 40, 12)


def changed(path, value):
    study = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = path.split(".")
    part = study
    for p in parents:
        part = part[p]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return study


BAD = {
    "unknown option": (changed("durration", [3]), "durration: no such option"),
    "unknown nested option": (changed("recipe.paek", 1.0), "recipe.paek: no such option"),
    "unknown preset": (changed("sizes", ["b/16"]), "Did you mean 'B/16'"),
    "no sizes": (changed("sizes", []), "`sizes` must be one or more"),
    "size twice": (changed("sizes", ["mu/4", "mu/4"]), "`sizes` must be one or more, each once"),
    "patch does not divide": (changed("sizes", ["mu/3", "tiny"]), "multiple of every patch size"),
    "heads do not divide": (changed("shapes.tiny.heads", 3), "`heads` must divide the width"),
    "fraction of a step": (changed("durations", [20, 40.5]), "durations.1"),
    "duration too short": (changed("durations", [5, 40]), "must not be longer than the run"),
    "cooldown of all": (changed("recipe.cooldown", 1.0), r"in [0, 1)"),
    "cooldown too long": (changed("recipe.cooldown", 0.95), "must not be longer than the run"),
    "rates of nobody": (changed("recipe.peaks", {"small": 0.1}), "A preset is a known size"),
    "negative rate": (changed("recipe.peak", -1.0), "`peak` must be positive"),
    "negative decay": (changed("recipe.head_decay", -1.0), "not negative"),
    "unknown loss": (changed("recipe.loss", "hinge"), "`loss` must be"),
    "no clip": (changed("recipe.clip_norm", 0), "`clip_norm` must be positive"),
    "no images for the probe": (changed("data.held_out", None), "so that the probe has images"),
    "two kinds of images": (changed("data.held_out_classes", ["3"]), "not both"),
    "two data sets of one name": (
        changed("data.downstream", ["a/x.npz", "b/x"]),
        "must have different names",
    ),
    "negative validation": (changed("data.validation", -1), "`validation` is a number of images"),
    "the training's images": (
        changed("data", {"upstream": "digits", "downstream": "digits"}),
        "must not be those of the training",
    ),
    "unknown crop": (changed("data.crop", "center"), "`crop` must be one of"),
    "no shots": (changed("probe.shots", []), "at least one number of shots"),
    "test fraction": (changed("probe.test_fraction", 1.0), "`test_fraction` must be in"),
    "unknown resize": (changed("probe.resize", "big"), "`resize` must be one of"),
    "no data": (changed("data", None), "data"),
    "a list": ("[1, 2]", "study.yaml"),
    "no YAML": ("sizes: [", "is no YAML"),
}


@pytest.mark.parametrize(("study", "message"), BAD.values(), ids=BAD)
def test_bad_studies_are_refused_in_one_line(study, message, tmp_path):
    with pytest.raises(StudyError) as error:
        load_config(write(tmp_path, study))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(StudyError, match="must be a YAML file or one of"):
        load_config(tmp_path / "none.yaml")


def test_folders_differ_by_more_than_case_and_hold_no_slash():
    names = [folder_name(n, preset(n)) for n in (*TABLE_2, "So400m/14", "g-opt/14", "G-opt/14")]
    assert len({n.casefold() for n in names}) == len(names)
    assert not any(set("/\\: ") & set(n) for n in names)


def test_sizes_whose_folders_would_collide_are_refused():
    shape = ViTConfig(8, 1, 16, 2, 4)
    with pytest.raises(ValueError, match="differ by more than case"):
        StudyConfig(
            sizes=("tiny", "Tiny"),
            durations=(40,),
            image_size=8,
            shapes={"tiny": shape, "Tiny": shape},
            data=DataConfig(held_out=300),
            recipe=RecipeConfig(warmup_steps=4),
        )


def test_a_study_may_grow_but_not_change(tmp_path):
    old = load_config(write(tmp_path, GOOD))
    grown = dataclasses.replace(old, durations=(20, 40, 80), seeds=(0, 1), sizes=("tiny",))
    assert conflicts(old, grown) == []
    recipe = dataclasses.replace(old.recipe, peaks={"tiny": 0.02}, batch_size=8)
    reasons = conflicts(old, dataclasses.replace(old, recipe=recipe))
    assert reasons == [
        "recipe.batch_size was 4096, now 8",
        "the peak of tiny was 0.01, now 0.02",
    ]
    data = dataclasses.replace(old.data, split_seed=1)
    assert conflicts(old, dataclasses.replace(old, data=data)) == ["data.split_seed was 0, now 1"]


def test_what_a_folder_holds_is_the_union(tmp_path):
    old = load_config(write(tmp_path, GOOD))
    recipe = dataclasses.replace(old.recipe, peak=0.5, peaks={"tiny": 0.01})
    new = dataclasses.replace(
        old, sizes=("tiny", "mu/2"), durations=(30,), seeds=(1,), recipe=recipe
    )
    both = united(old, new)
    assert both.sizes == ("mu/4", "tiny", "mu/2")
    assert (both.durations, both.seeds) == ((20, 30, 40), (0, 1))
    assert [both.peak(s) for s in both.sizes] == [1e-3, 0.01, 0.5]
    assert conflicts(both, old) == conflicts(both, new) == []

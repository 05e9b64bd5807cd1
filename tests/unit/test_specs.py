"""Specs: documents that validate, configurations that resolve, mistakes that are named."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from lxmert.detector.documents import parse_profile, parse_size
from lxmert.errors import SpecError
from lxmert.specs import Plan, job_spec_text, load_plan, merge, read_document, read_job_spec
from lxmert.specs.checks import checked, fill_defaults, mistakes, partial, schema
from lxmert.specs.documents import KINDS, document_names, read_yaml, recipe_names, recipe_path

KINDS_OF_DOCUMENT = [(kind, name) for kind in KINDS for name in document_names(kind)]


def complaint(config: object, where: str = "config.yaml") -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_plan(config, where)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


class TestDocuments:
    def test_there_are_as_many_as_expected(self):
        assert len(KINDS_OF_DOCUMENT) >= 20
        assert {"sample", "full"} <= set(document_names("corpus"))

    @pytest.mark.parametrize(("kind", "name"), KINDS_OF_DOCUMENT)
    def test_each_fits_its_schema_and_bears_its_name(self, kind, name):
        document = read_document(kind, name)
        checked(document, kind, name)
        own_name = {"detector_size": "size", "detector_recipe": "recipe"}.get(kind, kind)
        assert document[own_name] == name

    @pytest.mark.parametrize("system", document_names("system"))
    def test_each_recipe_fits_its_schema(self, system):
        names = recipe_names(system)
        assert len(names) >= 4
        for name in names:
            kind = "pretrain_recipe" if name == "pretrain" else "finetune_recipe"
            assert checked(read_yaml(recipe_path(system, name)), kind, name)["recipe"] == name

    def test_schemas_are_json_schemas(self, root):
        import jsonschema

        paths = list((root / "workflow" / "schemas").glob("*.schema.yaml"))
        assert len(paths) >= 11
        for path in paths:
            jsonschema.Draft202012Validator.check_schema(yaml.safe_load(path.read_text()))

    def test_documents_forbid_unknown_keys(self):
        for kind in (*KINDS, "finetune_recipe", "pretrain_recipe", "config"):
            assert any(
                "no_such_key: unknown setting" in line
                for line in mistakes({"no_such_key": 1}, schema(kind), "x")
            )

    def test_published_values(self):
        plan = load_plan({"corpus": "full", "weights": "pretrain"})
        rates = {name: run.recipe["optimizer"]["lr"] for name, run in plan.runs.items()}
        assert (rates["vqa"], rates["gqa"], rates["nlvr2"]) == (5e-5, 1e-5, 5e-5)
        pretraining = plan.pretrainings["pretrain"].recipe
        assert (pretraining["global_batch"], pretraining["max_epochs"], pretraining["clip_norm"]) == (
            256,
            20,
            1.0,
        )
        assert pretraining["schedule"]["warmup_fraction"] == 0.05
        assert {run.recipe["clip_norm"] for run in plan.runs.values()} == {5.0}
        assert plan.sizes["lxmert"]["hidden"] == 768

    def test_unknown_names_are_met_with_near_ones(self):
        with pytest.raises(SpecError, match='smple: unknown corpus. Did you mean "sample"'):
            read_document("corpus", "smple")


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: 1\na: 2\n", ':2:1: not valid YAML: "a" stands twice'),
            ("a: [1\n", "not valid YAML"),
            ("- 1\n", "must hold `name: value` lines, holds list"),
            ("", "must hold `name: value` lines, holds NoneType"),
            ("a: \x00", "not valid YAML"),
        ],
    )
    def test_faults_have_one_line_with_the_place(self, tmp_path, text, message):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(SpecError) as caught:
            read_yaml(path, "x.yaml")
        assert message in str(caught.value)
        assert str(caught.value).startswith("x.yaml") and "\n" not in str(caught.value)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(SpecError, match="cannot be read"):
            read_yaml(tmp_path / "none.yaml")


class TestMerge:
    @pytest.mark.parametrize(
        ("base", "over", "result"),
        [
            ({}, {}, {}),
            ({"a": 1}, {}, {"a": 1}),
            ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
            ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
            ({"a": {"b": 1}}, {"a": None}, {"a": None}),
            ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ],
    )
    def test_key_by_key(self, base, over, result):
        before = copy.deepcopy(base)
        assert merge(base, over) == result
        assert base == before

    def test_defaults_fill_what_is_silent(self):
        rules = {"properties": {"a": {"default": {}, "properties": {"b": {"default": 2}}}, "c": {}}}
        assert fill_defaults({}, rules) == {"a": {"b": 2}}
        assert fill_defaults({"a": {"b": None}}, rules) == {"a": {"b": None}}

    def test_a_partial_schema_asks_for_nothing_and_forbids_as_before(self):
        rules = partial(schema("finetune_recipe"))
        assert mistakes({}, rules, "x") == []
        assert mistakes({"optimizer": {"eps": 1.0e-8}}, rules, "x") == []
        assert len(mistakes({"optimizer": {"epsilon": 1.0e-8}}, rules, "x")) == 1


class TestJobSpecs:
    def test_equal_specs_give_equal_strings(self):
        assert job_spec_text({"b": 1, "a": {"d": [1, 2], "c": None}}) == '{"a":{"c":null,"d":[1,2]},"b":1}'

    def test_read_from_text_and_file(self, tmp_path):
        path = tmp_path / "spec.json"
        path.write_text('{"a": 1}')
        assert read_job_spec('{"a": 1}') == read_job_spec(f"@{path}") == {"a": 1}

    @pytest.mark.parametrize("text", ["", "[1]", "{", "3", "@/no/such/file.json"])
    def test_faults_have_one_line(self, text):
        with pytest.raises(SpecError) as caught:
            read_job_spec(text)
        assert "\n" not in str(caught.value)

    def test_needed_keys_that_are_missing_are_named_together(self, tmp_path):
        spec = {"task": {"head": "x"}, "subset": None, "recipe": 3}
        text = json.dumps(spec)
        assert read_job_spec(text, ["task", "task/head", "subset"]) == spec
        assert read_job_spec(text, []) == spec
        path = tmp_path / "spec.json"
        path.write_text(text)
        for argument, where in ((text, "--spec"), (f"@{path}", str(path))):
            with pytest.raises(SpecError) as caught:
                read_job_spec(argument, needs=("run", "task/head", "task/form", "recipe/loss", "size/hidden"))
            assert str(caught.value).startswith(f"{where}: lacks run, task/form, recipe/loss, size/hidden. ")
            assert "\n" not in str(caught.value)

    def test_not_a_number_has_no_place(self):
        with pytest.raises(ValueError):
            job_spec_text({"a": float("nan")})


def every_spec(plan: Plan) -> dict[str, str]:
    specs = {
        "world": plan.world_spec(),
        "vocabulary": plan.vocabulary_spec(),
        "detector": plan.detector_spec(),
        "extract": plan.extract_spec(),
    }
    specs |= {f"prepare {task}": plan.prepare_spec(task) for task in plan.used_tasks()}
    specs |= {f"score {task}": plan.score_spec(task, "valid") for task in plan.config["tasks"]}
    specs |= {f"pretrain {name}": plan.pretrain_spec(name) for name in plan.pretrainings}
    for name in plan.runs:
        specs |= {f"finetune {name}": plan.finetune_spec(name), f"predict {name}": plan.predict_spec(name)}
    return specs


def changed(settings: dict[str, object]) -> set[str]:
    """Jobs whose spec another configuration changes."""
    before, after = every_spec(load_plan({})), every_spec(load_plan(settings))
    return {name for name in before if before[name] != after.get(name)}


class TestPlan:
    def test_defaults_are_the_sample(self):
        plan = load_plan({})
        assert plan.corpus_name == "sample"
        automatic = ["vqa", "gqa", "nlvr2", "vqa_blind", "gqa_blind", "nlvr2_blind"]
        assert list(plan.runs) == [*automatic, "vqa_scratch", "gqa_scratch"]
        assert list(plan.pretrainings) == ["pretrain"]
        assert [run.name for run in plan.runs.values() if not run.vision] == [
            "vqa_blind",
            "gqa_blind",
            "nlvr2_blind",
        ]

    def test_a_blind_twin_differs_in_what_it_sees_only(self):
        plan = load_plan({})
        seeing, blind = (json.loads(plan.finetune_spec(name)) for name in ("vqa", "vqa_blind"))
        assert {key for key in seeing if seeing[key] != blind[key]} == {"run", "vision"}

    def test_specs_speak_of_the_contract(self):
        plan = load_plan({"runs": {"vqa_scratch": {"task": "vqa", "init": "scratch"}}})
        spec = json.loads(plan.finetune_spec("vqa_scratch"))
        assert (spec["kind"], spec["run"], spec["init"], spec["vision"]) == (
            "finetune",
            "vqa_scratch",
            "scratch",
            True,
        )
        assert {"corpus", "seed", "subset", "system", "size", "task", "recipe"} <= set(spec)
        assert "sizes" not in spec["system"]
        assert plan.pretraining_of("vqa_scratch") is None and plan.pretraining_of("vqa") == "pretrain"

    def test_specs_hold_of_a_task_what_their_job_reads(self):
        plan = load_plan({})
        keys = {
            kind: set(json.loads(text)["task"])
            for kind, text in (("train", plan.finetune_spec("vqa")), ("predict", plan.predict_spec("vqa")))
        }
        assert keys["train"] == {"task", "head", "train_on", "select_on"}
        assert keys["predict"] == {"task", "head", "submission"}
        assert set(json.loads(plan.predict_spec("vqa"))["recipe"]) == {"evaluate_batch"}
        assert not {"head", "train_on", "submission"} & set(json.loads(plan.prepare_spec("vqa"))["task"])

    def test_longer_texts_of_all_runs_of_a_task(self):
        settings = {"overrides": {"lxmert": {"vqa": {"max_tokens": 30}}}}
        assert "prepare vqa" in changed(settings)
        assert json.loads(load_plan(settings).prepare_spec("vqa"))["max_tokens"] == 30
        assert json.loads(load_plan(settings).prepare_spec("gqa"))["max_tokens"] == 20

    def test_specs_hold_nothing_of_hardware_or_prose(self):
        text = json.dumps(every_spec(load_plan({})))
        for word in ("threads", "gpu", "workers", "memory", "runtime"):
            assert word not in text

    def test_one_runs_recipe_changes_that_run(self):
        assert changed({"runs": {"vqa": {"recipe": {"optimizer": {"lr": 1e-4}}}}}) == {"finetune vqa"}

    def test_how_a_run_answers_changes_its_answers_only(self):
        settings = {"runs": {"vqa": {"quantize": "int8"}, "gqa": {"quantize": "none"}}}
        plan = load_plan(settings)
        assert changed(settings) == {"predict vqa"} and plan.predict_spec("gqa") == load_plan(
            {}
        ).predict_spec("gqa")
        assert json.loads(plan.predict_spec("vqa"))["quantize"] == "int8"
        assert "quantize" not in plan.finetune_spec("vqa") + plan.predict_spec("vqa_blind")

    def test_a_run_answers_in_the_precision_it_learnt_in(self):
        plan = load_plan({"runs": {"vqa": {"recipe": {"precision": "bf16"}}}})
        recipes = [json.loads(plan.predict_spec(name))["recipe"] for name in ("vqa", "gqa")]
        assert recipes == [{"evaluate_batch": 256, "precision": "bf16"}, {"evaluate_batch": 256}]

    def test_a_systems_recipe_changes_every_run_of_it(self):
        assert changed({"overrides": {"lxmert": {"vqa": {"clip_norm": 1.0}}}}) == {
            "finetune vqa",
            "finetune vqa_blind",
            "finetune vqa_scratch",
        }

    def test_pretraining_changes_pretraining(self):
        assert changed({"overrides": {"lxmert": {"pretrain": {"max_steps": 3}}}}) == {"pretrain pretrain"}

    def test_the_detector_changes_the_detector(self):
        assert changed({"overrides": {"detector": {"recipe": {"steps": 3}}}}) == {"detector"}

    def test_the_detector_reads_what_the_graph_tells_it(self):
        for corpus in ("sample", "full"):
            spec = json.loads(load_plan({"corpus": corpus}).extract_spec())
            assert parse_profile(spec["profile"]).profile == spec["profile"]["profile"]
            assert parse_size(spec["size"])

    def test_subset_flows(self):
        jobs = changed({"subset": 5})
        assert {"detector", "prepare vqa", "pretrain pretrain", "finetune gqa", "predict nlvr2"} <= jobs
        assert not jobs & {"world", "vocabulary", "extract", "score vqa"}

    def test_seed_flows(self):
        jobs = changed({"seed": 1})
        assert {"world", "detector", "pretrain pretrain", "finetune vqa_blind"} <= jobs
        assert not jobs & {"extract", "vocabulary", "prepare vqa", "predict vqa", "score vqa"}

    def test_the_world_is_scaled_and_overridden(self):
        world = json.loads(
            load_plan({"sample": {"scale": 0.1, "world": {"vqa": {"questions": 3}}}}).world_spec()
        )
        assert world["coco"]["train2014"] == 70 and world["coco"]["captions"] == 5
        assert world["vqa"]["questions"] == 3
        assert min(json.loads(load_plan({"sample": {"scale": 0.0001}}).world_spec())["nlvr2"].values()) == 1

    def test_one_task_needs_no_others_images(self):
        plan = load_plan(
            {"tasks": ["nlvr2"], "runs": {"nlvr2_scratch": {"task": "nlvr2", "init": "scratch"}}}
        )
        assert plan.image_sets("nlvr2") == ["nlvr2_train", "nlvr2_valid", "nlvr2_test"]
        scratch = load_plan({"tasks": [], "runs": {"mine": {"task": "nlvr2", "init": "scratch"}}})
        assert scratch.used_tasks() == ["nlvr2"] and scratch.pretrainings == {}

    def test_splits(self):
        plan = load_plan({})
        assert plan.predicted_splits("vqa") == ["minival", "test"] and plan.scored_splits("vqa") == [
            "minival"
        ]
        assert plan.scored_splits("nlvr2") == ["valid", "test"]
        assert plan.training_image_sets("gqa") == ["vg_gqa", "gqa_testdev"]
        assert "gqa/val_choices.json" not in plan.example_files("gqa")
        assert "vqa/minival_ids.json" in plan.example_files("vqa")

    def test_nothing_at_all(self):
        plan = load_plan({"tasks": []})
        assert plan.runs == {} and plan.pretrainings == {} and plan.used_tasks() == []

    def test_no_automatic_blind_runs(self):
        runs = {"vqa_scratch": None, "gqa_scratch": None}
        assert list(load_plan({"blind_baselines": False, "runs": runs}).runs) == ["vqa", "gqa", "nlvr2"]

    def test_further_splits(self):
        assert "hidden" not in load_plan({"corpus": "full"}).tasks["nlvr2"]["splits"]
        config = {"corpus": "full", "features": "extract", "further_splits": {"nlvr2": ["hidden"]}}
        plan = load_plan(config)
        assert plan.scored_splits("nlvr2") == ["valid", "test", "hidden"]
        assert "nlvr2_hidden" in plan.used_image_sets()
        assert {"nlvr2/data/test2.json", "nlvr2/images/test2"} <= set(plan.all_raw_files())
        # Training has nothing to do with it.
        plain = load_plan({**config, "further_splits": {}})
        assert plan.finetune_spec("nlvr2") == plain.finetune_spec("nlvr2")

    def test_further_runs_of_the_corpus(self):
        assert list(load_plan({"tasks": ["nlvr2"]}).runs) == ["nlvr2", "nlvr2_blind"]
        assert not any("scratch" in name for name in load_plan({"corpus": "full"}).runs)
        plan = load_plan({"tasks": ["vqa"], "runs": {"vqa_scratch": {"recipe": {"max_steps": 3}}}})
        assert plan.runs["vqa_scratch"].recipe["max_steps"] == 3
        assert plan.runs["vqa_scratch"].init == "scratch"


class TestMistakes:
    def test_all_at_once_and_sorted_by_file_order(self):
        lines = complaint(
            {
                "overrides": {
                    "lxmert": {
                        "size": {"hiden": 3},
                        "vqa": {"max_steps": "1e3", "optimizer": {"lr": 0}},
                        "vqqa": {},
                    },
                    "detector": {"recipe": {"stps": 3}},
                }
            }
        )
        assert [line.split(": ")[1] for line in lines] == [
            "overrides/lxmert/vqqa",
            "overrides/detector/recipe/stps",
            "overrides/lxmert/size/hiden",
            "overrides/lxmert/vqa/max_steps",
            "overrides/lxmert/vqa/optimizer/lr",
        ]

    @pytest.mark.parametrize(
        ("config", "line"),
        [
            ({3: 4}, "config.yaml: 3: unknown setting."),
            ({"runs": {"Mine": {"task": "vqa"}}}, "config.yaml: runs:"),
            ({"tasks": ["vqa", "vqa"]}, "config.yaml: tasks: the list [vqa, vqa] names something twice"),
            ({"seed": True}, "config.yaml: seed: must be a whole number, is true."),
            (
                {"runs": {"vqa": {"init": "pretraind"}}},
                'config.yaml: runs/vqa/init: unknown value "pretraind". Did you',
            ),
            ({"overrides": None}, "config.yaml: overrides: must be `name: value` lines, is null."),
            (
                {"overrides": {"lxmert": {"vqa": {"optimizer": None}}}},
                "config.yaml: overrides/lxmert/vqa/optimizer: must",
            ),
            (
                {"runs": {"vqa": {"quantize": "int9"}}},
                'config.yaml: runs/vqa/quantize: unknown value "int9". Did you mean "int8"?',
            ),
            (
                {"overrides": {"lxmert": {"pretrain": {"objectives": {"maching": 1.0}}}}},
                "config.yaml: overrides/lxmert/pretrain/objectives/maching: lxmert has no such objective."
                ' Did you mean "matching"?',
            ),
            (
                {"runs": {"vqa": {"recipe": {"loss": {}}}}, "tasks": ["vqa", "x"]},
                'config.yaml: tasks/1: unknown task "x"',
            ),
        ],
    )
    def test_value_place_and_remedy(self, config, line):
        found = complaint(config)
        assert found[0].startswith(line)
        assert len(found) == 1

    @pytest.mark.parametrize("name", ["detector", "report", "sample", "full", "pretrain"])
    def test_a_run_may_not_bear_a_name_of_the_graph(self, name):
        line = f"config.yaml: runs/{name}: the graph uses this name itself; give the run another one."
        assert complaint({"runs": {name: {"task": "vqa"}}}) == [line]

    def test_runs_of_a_task_share_its_examples(self):
        runs = {
            "vqa": {"recipe": {"max_tokens": 30}},
            "gqa_long": {"task": "gqa", "recipe": {"max_tokens": 25}},
            "nlvr2": {"recipe": {"clip_norm": -1}},
            "nlvr2_long": {"task": "nlvr2", "recipe": {"max_tokens": "25"}},
        }
        lines = complaint({"runs": runs})
        assert len(lines) == 4
        assert lines[0].startswith("config.yaml: runs/nlvr2/recipe/clip_norm: ")
        assert lines[1].startswith("config.yaml: runs/nlvr2_long/recipe/max_tokens: ")
        assert lines[2:] == [
            f"config.yaml: runs: runs of task {task} share its examples, so max_tokens must be the same"
            f" ({values}). Set it in overrides/lxmert/{task}."
            for task, values in (
                ("vqa", "vqa 30, vqa_blind 20, vqa_scratch 20"),
                ("gqa", "gqa 20, gqa_blind 20, gqa_scratch 20, gqa_long 25"),
            )
        ]

    @pytest.mark.parametrize(
        ("text", "written"),
        [("5e-5", "5.0e-5"), ("1e3", "1000"), ("2.5e-4", "2.5e-4"), ("7", "7"), ("-3e-1", "-3.0e-1")],
    )
    def test_numbers_that_yaml_reads_as_text(self, text, written):
        over = {"lxmert": {"vqa": {"optimizer": {"lr": text}}}}
        assert complaint({"overrides": over})[0].endswith(f"YAML reads that as text; write {written}.")
        assert yaml.safe_load(written) == float(text)

    def test_an_objective_without_a_file(self, monkeypatch):
        known = ["masked_lm", "masked_region", "qa"]
        monkeypatch.setattr("lxmert.specs.resolve.objective_names", lambda: known)
        (line,) = complaint({})
        assert line.startswith('lxmert/systems/lxmert/system.yaml: objectives: unknown objective "matching".')
        assert line.endswith("Known: masked_lm, masked_region, qa.")

    def test_the_file_is_named_as_given(self):
        assert complaint({"x": 1}, "tiny.yaml")[0].startswith("tiny.yaml: x: unknown setting")


def test_extraction_is_exact_unless_config_asks_for_speed() -> None:
    assert load_plan({}).extract_options() == ""
    settings = {"precision": "bfloat16", "channels_last": True, "batch": 4, "parity_limit": 0.05}
    plan = load_plan({"extraction": settings})
    assert plan.extract_options() == "--batch 4 --channels-last --parity-limit 0.05 --precision bfloat16"
    assert load_plan({"extraction": {"channels_last": False}}).extract_options() == ""
    assert plan.extract_spec() == load_plan({}).extract_spec()
    stopping = load_plan({"extraction": {"bad_images": "stop"}})
    assert (plan.bad_images, stopping.bad_images) == ("quarantine", "stop")
    assert stopping.extract_spec() == plan.extract_spec()  # whoever changes it does not extract again
    assert stopping.extract_options() == ""
    more = load_plan({"extraction": {"profile": "butd-100"}})
    assert json.loads(more.extract_spec())["profile"]["selection"]["max_boxes"] == 100
    with pytest.raises(
        SpecError, match='extraction/profile: unknown profile "butd100". Did you mean "butd-100"'
    ):
        load_plan({"extraction": {"profile": "butd100"}})
    with pytest.raises(SpecError, match="published features are lxmert-36's; set features: extract"):
        load_plan({"corpus": "full", "extraction": {"profile": "butd-100"}})
    assert load_plan({"corpus": "full", "features": "extract", "extraction": {"profile": "butd-100"}})
    with pytest.raises(SpecError, match="precision"):
        load_plan({"extraction": {"precision": "int8"}})

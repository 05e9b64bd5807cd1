"""The profiles: what a user types resolves, and no hardware is asked for that a machine may lack."""

from __future__ import annotations

import importlib.util

import pytest
import yaml

PROFILES = ("ci", "default", "local", "slurm")


def test_every_profile_is_tested(root):
    assert tuple(sorted(path.name for path in (root / "workflow" / "profiles").iterdir())) == PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_agree_on_when_to_run_again(root, name):
    text = (root / "workflow" / "profiles" / name / "profile.v9+.yaml").read_text()
    settings = yaml.safe_load(text)
    settings = next((value for key, value in settings.items() if key.startswith("?if")), settings)
    assert settings["rerun-triggers"] == ["mtime", "params", "input"]
    assert settings["rerun-incomplete"] is True


@pytest.mark.parametrize("name", ("ci", "local", "slurm"))
def test_settings_name_rules_that_are_there(snakemake, root, tmp_path, name):
    settings = yaml.safe_load((root / "workflow" / "profiles" / name / "profile.v9+.yaml").read_text())
    rules = set(snakemake(tmp_path, "--list-rules").text.split())
    assert set(settings.get("set-resources", {})) <= rules
    assert set(settings.get("set-threads", {})) <= rules


def test_cores_need_not_be_typed(snakemake, writer, tmp_path):
    outcome = snakemake(tmp_path, "extract_nlvr2_features", path=writer)
    assert outcome.status == 0, outcome.text
    assert (tmp_path / "features" / "sample" / "nlvr2_train.lmdb").is_file()
    assert sum(" extract --spec" in line for line in (tmp_path / "verbs.txt").read_text().splitlines()) == 3


def test_no_gpu_unless_a_profile_says_so(snakemake, writer, tmp_path):
    assert snakemake(tmp_path, "results/vqa/weights.safetensors", path=writer).status == 0
    lines = (tmp_path / "verbs.txt").read_text().splitlines()
    assert any("--gpus 0" in line and " finetune " in line for line in lines)
    assert not [line for line in lines if "--gpus 1" in line]


def test_slurm_resolves_as_typed(snakemake, tmp_path):
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed")
    outcome = snakemake(tmp_path, "--profile", "slurm", "--dry-run", "pretrain")
    assert outcome.status == 0, outcome.text
    assert "pretrain_system pretrain" in outcome.jobs
    block = outcome.text.split("rule pretrain_system:")[1].split("\n[")[0]
    assert "gpu=1" in block and "mem=32 GB" in block


def test_the_default_profile_steps_aside(root, monkeypatch):
    """Else its cores, which Snakemake lays over any profile's, would cut jobs to the login node's."""
    yte = pytest.importorskip("yte")
    path = root / "profiles" / "default" / "profile.v9+.yaml"
    for arguments, cores in (
        (["snakemake", "pretrain"], "all"),
        (["snakemake", "--profile", "slurm", "pretrain"], None),
        (["snakemake", "--profile=slurm", "pretrain"], None),
    ):
        monkeypatch.setattr("sys.argv", arguments)
        monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
        with path.open() as stream:
            assert yte.process_yaml(stream, require_use_yte=True).get("cores") == cores

"""`bench loader`: what it measures on a tiny run, and which bottleneck it names."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from tiny_task import TinyTask

from lxmert.cli import main
from lxmert.training.loader_speed import LoaderSpeed

FED = LoaderSpeed(900.0, 0.8, 0.0, 1600.0, 2, 100.0, 99.0, 0.01, 0.3)


def options(tiny: TinyTask, spec: dict, *more: str) -> list[str]:
    common = ["bench", "loader", "--threads", "1", "--spec", json.dumps(spec), "--steps", "3"]
    common += ["--vocabulary", str(tiny.vocabulary), "--features", *map(str, tiny.features)]
    return [*common, *more]


@pytest.mark.parametrize("workers", [0, 1])
def test_finetuning_and_pretraining_are_measured(
    tiny: TinyTask, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    torch.set_num_threads(1)
    folder = tiny.folder / "pretrain"
    runs = [
        options(tiny, tiny.spec(), "--examples", str(tiny.folder / "single")),
        options(
            tiny,
            tiny.pretrain_spec(),
            *("--train", str(folder / "train.safetensors"), "--answers", str(tiny.pretrain_answers)),
        ),
    ]
    for run in runs:
        assert main([*run, "--workers", str(workers)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == [
            *("building", "loader", "model", "together", "bottleneck:"),
        ]
        speeds = [float(re.search(r"([\d.]+) examples/s", line).group(1)) for line in lines[:4]]
        assert all(speed > 0 for speed in speeds)
        assert f"with {workers} workers" in lines[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "the model; the loader brings 16.0 times what it takes, enough"),
        ({"loader": 150.0}, "the model; the loader brings 1.5 times what it takes, below 3 times"),
        ({"loader": 50.0, "alone": 60.0}, "copying regions, 80% of a batch's time; give more --workers than"),
        ({"idle": 0.2, "disk_reads": 40.0}, "regions come from the disk, 40 pages a batch"),
        ({"idle": 0.2, "regions": 0.3, "workers": 0}, "words and targets, 70% of a batch's time; give --wor"),
        ({"loader": 90.0, "model": 100.0}, "handing batches over from worker processes costs more"),
    ],
)
def test_the_bottleneck_is_named(change: dict, told: str) -> None:
    speed = replace(FED, **change)
    assert told in speed.bottleneck() and told in speed.lines()[-1]


def test_what_is_missing_is_one_line(tiny: TinyTask, capsys: pytest.CaptureFixture[str]) -> None:
    for run, told in (
        (options(tiny, tiny.spec()), "bench loader: a spec of kind finetune needs --examples; add it."),
        (options(tiny, tiny.pretrain_spec()), "kind pretrain needs --train and --answers"),
        ([*options(tiny, tiny.spec()), "--steps", "1"], "--steps: 1 is too few"),
    ):
        assert main(run) == 2
        assert told in capsys.readouterr().err.splitlines()[-1]

"""A short run of the sample reaches the values on record: what makes learning worse fails here.

`snakemake registry`, and `make demo` with it, compares the scores of the whole sample.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lxmert.files import read_json

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPECTED: list[dict[str, Any]] = yaml.safe_load((HERE / "quality_expected.yaml").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished run."""
    folder = tmp_path_factory.mktemp("quality")
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    outcome = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(folder), "--configfile", str(HERE / "quality.yaml"), "--cores", "1"),
            *("--quiet", "rules", "--", *sorted({item["file"] for item in EXPECTED})),
        ],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    return folder


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda item: item["what"])
def test_a_value_on_record_is_reached(finished: Path, expected: dict[str, Any]) -> None:
    found: Any = read_json(finished / expected["file"])
    for key in expected["key"].split("/"):
        found = found[int(key)] if isinstance(found, list) else found[key]
    low, high = expected["value"] - expected["tolerance"], expected["value"] + expected["tolerance"]
    print(f"{expected['what']}: {found:.4f}, on record {expected['value']} within {expected['tolerance']}")
    # Below it something has become worse; above it the record is out of date.
    assert low <= found <= high

"""Every example runs: by itself with `mainstem run`, and pushed to a server by the demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from runner.settings import Settings
from tests.servers.git import GitServer, git

ROOT = Path(__file__).parents[2]
FLOWS = ROOT / "examples" / "flows"
MAINSTEM = Path(sys.executable).with_name("mainstem")
INPUTS = {"penguins/size_class": ["-i", "mass_g=4200"]}
CLONES = "ops/code_size"
# Without its webhook `observation` has no bird to take, and `ring_audit` fails so that there is a failure to look at.
FAILS = {
    "penguins/observation": "no species named '' breeds here",
    "penguins/ring_audit": "Command failed with exit code 1",
}
FILES = {str(path.relative_to(FLOWS).with_suffix("")): path.parent.name for path in FLOWS.rglob("*.yaml")}
NAMES = sorted(name for name, folder in FILES.items() if folder not in {"tests", "_dashboards"})
DASHBOARDS = [name for name, folder in FILES.items() if folder == "_dashboards"]


def mainstem(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: text for key, text in os.environ.items() if not key.startswith("MAINSTEM_")}
    return subprocess.run(
        [MAINSTEM, *arguments],
        cwd=tmp_path,
        env=kept | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != CLONES])
def test_an_example_runs_by_itself(name: str, tmp_path: Path) -> None:
    done = mainstem(tmp_path, "run", str(FLOWS / f"{name}.yaml"), "--json", *INPUTS.get(name, []))

    execution = json.loads(done.stdout)
    assert execution["state"]["current"] == ("FAILED" if name in FAILS else "SUCCESS"), done.stdout + done.stderr
    assert FAILS.get(name, "") in json.dumps(execution, ensure_ascii=False)


def test_the_example_that_clones_reads_what_it_cloned(tmp_path: Path, git_server: GitServer) -> None:
    (tmp_path / "tree" / "src").mkdir(parents=True)
    (tmp_path / "tree" / "src" / "a.py").write_text("x = 1\ny = 2\n")
    (tmp_path / "tree" / "notes.txt").write_text("no code\n")
    git(tmp_path / "tree", "init", "-q", "-b", "main")
    git(tmp_path / "tree", "add", "-A")
    git(tmp_path / "tree", "commit", "-q", "-m", "code")
    git(tmp_path / "tree", "push", "-q", str(git_server.repository("code.git")), "main")

    done = mainstem(
        tmp_path, "run", str(FLOWS / f"{CLONES}.yaml"), "--json", "-i", f"repository={git_server.url}/code.git"
    )

    assert json.loads(done.stdout)["outputs"] == {"lines": 2}, done.stdout + done.stderr


def test_the_survey_draws_a_chart_and_refuses_data_with_gaps(tmp_path: Path) -> None:
    survey = str(FLOWS / "penguins" / "survey.yaml")

    good = json.loads(mainstem(tmp_path, "run", survey, "--json", "--files", "out").stdout)
    strict = mainstem(tmp_path, "run", survey, "-i", "max_missing=0.001")

    assert good["outputs"]["rows"] == 344
    assert good["outputs"]["means"] == {"Adelie": 3701, "Chinstrap": 3733, "Gentoo": 5076}
    chart = ET.parse(tmp_path / "out" / "aggregate" / "mass.svg").getroot()
    assert [each.text for each in chart.iter() if "text" in each.tag][::2] == ["Adelie", "Chinstrap", "Gentoo"]
    assert strict.returncode == 1
    assert "too many rows lack a body mass" in strict.stdout + strict.stderr


def test_all_examples_are_described(tmp_path: Path) -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")

    checked = mainstem(tmp_path, "validate", str(FLOWS))

    assert sorted(re.findall(r"\(flows/(\S+)\.yaml\)", page)) == sorted([*NAMES, *DASHBOARDS])
    assert checked.returncode == 0, checked.stdout
    assert f"{len(NAMES)} flows and {len(NAMES)} files of tests, no problems" in checked.stdout + checked.stderr


def test_the_demo_pushes_runs_and_reports_them(tmp_path: Path) -> None:
    done = mainstem(tmp_path, "demo", "--flows", str(FLOWS))

    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"demo: push [0-9a-f]{7} -> 10 executions \(9 SUCCESS, 1 FAILED as intended\) "
        r"-> report [0-9a-f]{7} on mainstem-reports",
        last,
    ), done.stdout
    assert "active in" in done.stdout
    for name in NAMES:
        assert f"+ {name.replace('/', '.')} " in done.stdout
    for name in DASHBOARDS:
        assert f"+ dashboard {Path(name).name} " in done.stdout


def test_a_server_that_has_ended_leaves_no_folder_of_working_directories(tmp_path: Path) -> None:
    done = mainstem(tmp_path, "demo", "--flows", str(FLOWS), "--keep")

    room = Path(re.findall(r"^kept: (.+)$", done.stdout, re.MULTILINE)[0])
    work = Settings(home=room / "home").work_root
    ran = "penguins.survey" in (room / "reports" / "default" / "README.md").read_text(encoding="utf-8")
    shutil.rmtree(room)
    assert ran
    assert not work.exists()

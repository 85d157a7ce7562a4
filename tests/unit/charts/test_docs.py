"""What the documentation for clusters shows can be used as it stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from swarmrun.api.run import SwarmRun
from swarmrun.api.swarmclass import SwarmClass

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples/argocd"
KINDS = {"SwarmRun": SwarmRun, "SwarmClass": SwarmClass}

needs_helm = pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed")


def blocks(page: str) -> list[tuple[str, str]]:
    """(name in its first line, text) of each block of YAML."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^```yaml\n(# (\S+\.yaml)\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(found) == len(re.findall(r"^```yaml$", text, re.MULTILINE)), "a block without a name"
    return [(name, block) for block, name in found]


def from_page(name: str, page: str = "docs/aks.md") -> list[dict[str, Any]]:
    found = [yaml.safe_load(block) for title, block in blocks(page) if title == name]
    assert found, name
    return found


def applications() -> list[dict[str, Any]]:
    names = ("operator", "classes", "runs")
    return [yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text()) for name in names]


def values_of_charts() -> list[tuple[str, dict[str, Any]]]:
    """(chart, values) of every page and example."""
    shown = [("charts/swarmrun", v) for v in from_page("values.yaml")]
    shown += [("charts/swarmrun-classes", v) for v in from_page("classes.yaml")]
    for application in applications():
        source = application["spec"]["source"]
        if "helm" in source:
            shown.append((source["path"], source["helm"]["valuesObject"]))
    return shown


def paths(values: Any, at: str = "") -> list[str]:
    if not isinstance(values, dict) or not values:
        return [at]
    return [path for key, value in values.items() for path in paths(value, f"{at}.{key}" if at else key)]


@pytest.mark.parametrize(("chart", "values"), values_of_charts())
def test_values_that_are_shown_are_values_of_the_chart(chart: str, values: dict[str, Any]) -> None:
    schema = json.loads((ROOT / chart / "values.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(values)
    known = yaml.safe_load((ROOT / chart / "values.yaml").read_text())
    for path in paths(values):
        place: Any = known
        for key in path.split("."):
            if place in ({}, []):
                break  # free below here
            assert key in place, f"{chart} has no value {path}"
            place = place[key]


@needs_helm
@pytest.mark.parametrize(("chart", "values"), values_of_charts())
def test_values_that_are_shown_render(chart: str, values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    command = ["helm", "template", "--kube-version", "1.35", "-n", "swarmrun-system", Path(chart).name]
    done = subprocess.run(
        [*command, str(ROOT / chart), "-f", str(tmp_path / "values.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    documents = [d for d in yaml.safe_load_all(done.stdout) if d]
    for document in documents:
        if document["kind"] in KINDS:
            KINDS[document["kind"]].model_validate(document, by_alias=True)
    if values.get("azure"):
        (account,) = (d["metadata"] for d in documents if d["kind"] == "ServiceAccount")
        subject = f"system:serviceaccount:{account['namespace']}:{account['name']}"
        assert f"--subject {subject} " in (ROOT / "docs/aks.md").read_text()


def test_runs_and_classes_that_are_shown_are_valid() -> None:
    shown = [yaml.safe_load(path.read_text()) for path in (EXAMPLES / "runs").glob("*.yaml")]
    shown += from_page("run.yaml")
    for resource in shown:
        KINDS[resource["kind"]].model_validate(resource, by_alias=True)
        # They stay where people put them by annotation, which a field in git would undo.
        assert not {"suspend", "cancel"} & resource["spec"].keys()
    for values in from_page("classes.yaml"):
        for name, spec in values["classes"].items():
            SwarmClass.model_validate({"metadata": {"name": name}, "spec": spec}, by_alias=True)


def test_every_application_belongs_to_a_project_that_lets_it() -> None:
    projects = {
        p["metadata"]["name"]: p["spec"] for p in yaml.safe_load_all((EXAMPLES / "projects.yaml").read_text())
    }
    for application in applications():
        spec = application["spec"]
        project = projects[spec["project"]]
        assert spec["source"]["repoURL"] in project["sourceRepos"]
        assert spec["destination"] in project["destinations"]
        assert "finalizers" not in application["metadata"]


@needs_helm
def test_the_platform_s_project_lists_every_cluster_wide_kind_of_the_chart() -> None:
    done = subprocess.run(
        ["helm", "template", "--kube-version", "1.35", "swarmrun", str(ROOT / "charts/swarmrun")],
        capture_output=True,
        text=True,
        check=True,
    )
    platform = next(iter(yaml.safe_load_all((EXAMPLES / "projects.yaml").read_text())))["spec"]
    listed = {(k["group"], k["kind"]) for k in platform["clusterResourceWhitelist"]}
    made = {
        (d["apiVersion"].rpartition("/")[0], d["kind"])
        for d in yaml.safe_load_all(done.stdout)
        if d and "namespace" not in d["metadata"]
    }
    assert made <= listed

"""What kustomize makes of a folder, as far as deploy/k8s uses it. Any other word of a kustomization is refused."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3] / "deploy/k8s"
EXAMPLE = ROOT / "overlays/example"
EXAMPLES = ("strimzi", "cloudnativepg", "valkey", "first-bridge")
JOBS = ("migrate-pre", "topics", "migrate-post")
Document = dict[str, Any]

_KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "images", "patches"}
_WITHOUT_NAMESPACE = {"Namespace"}


def documents_in(file: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document is not None]


def build(folder: Path, *, more: Sequence[str] = ()) -> list[Document]:
    """The documents of a folder with its components; ``more`` names further ones under ``components``."""
    (kustomization,) = documents_in(folder / "kustomization.yaml")
    if unknown := kustomization.keys() - _KNOWN:
        raise ValueError(f"{folder}/kustomization.yaml: {', '.join(sorted(unknown))} is not understood here")
    built: list[Document] = []
    for name in kustomization.get("resources", ()):
        path = (folder / name).resolve()
        built += build(path) if path.is_dir() else documents_in(path)
    built = _changed(built, kustomization)
    for name in (*kustomization.get("components", ()), *(str(ROOT / "components" / one) for one in more)):
        built = _component((folder / name).resolve(), built)
    return built


def everything() -> list[Document]:
    """All that a cluster has once every command of the page was given, with both components that are not asked for."""
    examples = [build(ROOT / "examples" / name) for name in EXAMPLES]
    jobs = [build(EXAMPLE / name) for name in JOBS]
    system = build(EXAMPLE, more=("keda", "prometheus"))
    return [*system, *(document for part in (*examples, *jobs) for document in part)]


def _component(folder: Path, documents: Sequence[Document]) -> list[Document]:
    (kustomization,) = documents_in(folder / "kustomization.yaml")
    if kustomization.get("kind") != "Component" or kustomization.keys() - _KNOWN:
        raise ValueError(f"{folder}/kustomization.yaml is no component that is understood here")
    more = [one for name in kustomization.get("resources", ()) for one in documents_in(folder / name)]
    return _changed([*documents, *more], kustomization)


def _changed(documents: Sequence[Document], kustomization: Mapping[str, Any]) -> list[Document]:
    changed = copy.deepcopy(list(documents))
    for document in changed:
        if (namespace := kustomization.get("namespace")) and document["kind"] not in _WITHOUT_NAMESPACE:
            document["metadata"]["namespace"] = namespace
        for image in kustomization.get("images", ()):
            for container in containers_of(document):
                if container["image"].partition(":")[0] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    for patch in kustomization.get("patches", ()):
        _patch(changed, patch)
    return changed


def _patch(documents: Sequence[Document], patch: Mapping[str, Any]) -> None:
    target = patch["target"]
    hit = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (target["kind"], target["name"])]
    if len(hit) != 1:
        raise ValueError(f"a patch names {target['kind']} {target['name']}, of which there are {len(hit)}")
    for step in yaml.safe_load(patch["patch"]):
        if step["op"] != "remove":
            raise ValueError(f"{step['op']} is not understood here")
        *way, last = step["path"].strip("/").split("/")
        place = hit[0]
        for name in way:
            place = place[name]
        del place[last]


def pod_of(document: Document) -> Document | None:
    """The pod's specification of a workload or a job."""
    return document["spec"]["template"]["spec"] if document["kind"] in WORKLOADS else None


def labels_of(document: Document) -> Mapping[str, str]:
    """The labels of a workload's pods."""
    found: Mapping[str, str] = document["spec"]["template"]["metadata"]["labels"]
    return found


def containers_of(document: Document) -> list[Document]:
    pod = pod_of(document)
    return [] if pod is None else [*pod.get("initContainers", ()), *pod["containers"]]


WORKLOADS = ("Deployment", "StatefulSet", "Job")

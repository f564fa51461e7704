"""The alerts as a resource of Prometheus' operator: ``python -m tests.support.prometheus_rule`` writes it.

kustomize reads no file of another folder, so the cluster has a copy.
"""

from pathlib import Path

_DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = _DEPLOY / "alerts/transom.rules.yaml"
FILE = _DEPLOY / "k8s/components/prometheus/rules.yaml"
_HEAD = """\
# The rules of deploy/alerts, for Prometheus' operator. Written by `python -m tests.support.prometheus_rule`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: transom
  namespace: transom
spec:
"""


def written() -> str:
    """The file. Lines of the rules are indented once, and keep their comments."""
    lines = RULES.read_text().splitlines(keepends=True)
    return _HEAD + "".join(f"  {line}" if line.strip() else line for line in lines)


if __name__ == "__main__":
    FILE.write_text(written())

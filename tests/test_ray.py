"""The script of docs/cluster.md runs the folds as Ray tasks on two nodes, one of which loses its worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cohort_builders import write_tiny_cohort
from doors import CHECKOUT, TINY

from mpi_unet.files import read_json

pytest.importorskip("ray", reason="needs pip install 'mpi-unet[ray]'")

# Loopback: without the first, Ray takes the address of the network card, and waits for minutes for what listens there.
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(CHECKOUT),
}

TWO_NODES = """
import runpy, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
import os
os.environ["RAY_ADDRESS"] = cluster.address
try:
    runpy.run_path("folds.py", run_name="__main__")
finally:
    import ray
    ray.shutdown()
    cluster.shutdown()
"""


def trainings(folder: Path) -> list[tuple[int, int]]:
    """Trainings that work in a folder, as (process, parent)."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in said.splitlines() if "mpi_unet.train" in line]
    return [(int(pid), int(parent)) for pid, parent, _ in rows if Path(f"/proc/{pid}/cwd").resolve() == folder]


@pytest.mark.long
def test_documented_script_runs_the_folds_on_two_nodes_although_a_worker_is_killed(tmp_path):
    folder = tmp_path.resolve()
    write_tiny_cohort(folder / "cohort", 6)
    page = (CHECKOUT / "docs" / "cluster.md").read_text()
    script = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert script
    (folder / "folds.py").write_text(script[1])
    (folder / "two_nodes.py").write_text(TWO_NODES)
    words = [*TINY[:1], *TINY[2:], "trainer.max_epochs=20", "data=cohort", "data.root=cohort", "data.reader=truth"]
    process = subprocess.Popen(
        [sys.executable, "two_nodes.py", "3", *words, "split.num_folds=3"],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    metrics = folder / "runs/train/fold_0/metrics.csv"
    deadline = time.monotonic() + 300
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 2):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker = trainings(folder)[0][1]
    os.kill(worker, signal.SIGKILL)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "3 folds on 2 machines" in said
    assert read_json(folder / "runs/train/summary.json")["complete"]
    assert (folder / "runs/train/report.html").is_file()
    assert not trainings(folder)

"""How mistakes in Raft and the store on it are found: each in a copy of the checkout. See `tests.nodes.files.hunt`.

python -m tests.nodes.kv.hunt                # all of them, which takes hours
python -m tests.nodes.kv.hunt vote           # those with this in their names
python -m tests.nodes.kv.hunt --starts 1 --seeds 25
"""

from __future__ import annotations

import sys

from tests.nodes.files.hunt import ROOT, Ground, main
from tests.nodes.kv.mutants import MUTANTS

TRIAL = ROOT / "configs" / "raft-trial.yaml"

UNITS = ("tests/nodes/kv", "tests/replication", "--ignore=tests/nodes/kv/test_trials.py", "-m=not live")
CORES = ("tests/nodes/raft", "-m=not live")
"""Tests of the core alone: they find many mistakes that a trial finds, too."""

if __name__ == "__main__":
    main(sys.argv[1:], Ground(TRIAL, MUTANTS, UNITS, CORES))

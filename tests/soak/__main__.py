"""`python -m tests.soak kills --count 1000`: kill tasks on all task runners at random moments, look for what is left.

It needs what the tests of task runners need: Docker, moto, fake-gcs-server and azurite on PATH. The exit code is 1 when
something is left. The same seed draws the same moments.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

_TEST = Path(__file__).with_name("test_kills.py")


def main() -> int:
    """Run what the command line names; return the exit code of pytest."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("soak", choices=["kills"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ |= {"MAINSTEM_SOAK_KILLS": str(arguments.count), "MAINSTEM_SOAK_SEED": str(arguments.seed)}
    return int(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "--timeout=3600", str(_TEST)]))


if __name__ == "__main__":
    sys.exit(main())

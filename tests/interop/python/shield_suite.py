# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: the Python shield's own tests call the program of $SHIELD_PROGRAM.

Tests that call no program judge the Python package and say nothing here: only the outcomes of
those that do are printed.
"""

import os
import subprocess
import sys

import terok_shield.cli.main as cli

RUN = subprocess.run
CALLS = 0


def main(argv=None):
    """Runs the program in place of the Python function of this name."""
    global CALLS
    CALLS += 1
    words = list(sys.argv[1:] if argv is None else argv)
    done = RUN([os.environ["SHIELD_PROGRAM"], *words], capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    if done.returncode or not words or {"--help", "--version"} & set(words):
        raise SystemExit(done.returncode)


cli.main = main


def pytest_runtest_logreport(report):
    """Prints the outcome of each test that called the program."""
    global CALLS
    if report.when == "call":
        if CALLS:
            name = report.nodeid.split("::", 1)[1]
            print(f"\ncalled {report.outcome} {name}", file=sys.__stdout__)
        CALLS = 0

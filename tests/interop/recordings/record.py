# SPDX-License-Identifier: Apache-2.0
"""Records every message of a whole session of the Python clearance stack, as lines of JSON.

Run it with the Python that has the release to record:

    PREFIX/bin/python record.py RECORDING
    PREFIX/bin/python record.py --hub terok-clearance --era a RECORDING

The first starts that release's hub and verdict helper, and drives them with its ClearanceClient and
with frames that this client never sends. The second lets the release's ClearanceClient talk with the
hub and the helper of the program that it names. README.md beside this file explains the lines.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from relay import Relay, Session, connect
from session import by_client, by_frames

HERE = Path(__file__).resolve().parent
SERVE = "import sys; from terok_clearance.cli.main import main; sys.argv[0] = 'serve'; main()"


def stack_with_stub(root):
    """Makes this stack anew in `root`, but with the stub where its terok-shield is looked for."""
    if sys.prefix == sys.base_prefix:
        sys.exit("record.py: run it with the Python of the virtual environment to record")
    (root / "bin").mkdir()
    (root / "bin/python").symlink_to(os.path.realpath(sys.executable))
    (root / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", root)
    shutil.copy(HERE / "terok-shield", root / "bin")
    return root / "bin/python"


class Servers:
    """A hub and its helper, each with a runtime directory of its own, so that relays fit between."""

    def __init__(self, root, options):
        self.hub_dir, self.helper_dir = root / "hub", root / "helper"
        for directory in (self.hub_dir, self.helper_dir):
            directory.mkdir(mode=0o700)
        self.options = options
        python = stack_with_stub(root)
        theirs = [str(python), "-c", SERVE]
        self.hub_command = [*theirs, "serve"]
        self.helper_command = [*theirs, "serve-verdict"]
        if options.hub:
            self.hub_command = [options.hub, "serve", "--era", options.era]
            stub = str(root / "bin/terok-shield")
            self.helper_command = [options.hub, "serve-verdict", "--shield", stub]
        self.processes = {}

    async def start(self, name):
        directory = self.hub_dir if name == "hub" else self.helper_dir
        command = self.hub_command if name == "hub" else self.helper_command
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory), "HOME": str(directory)}
        log = None if self.options.verbose else asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=log)
        self.processes[name] = process
        # A hub has two sockets, and is ready when both are there, in whichever order it made them.
        sockets = {"hub": ["clearance", "shield-events"], "helper": ["clearance-verdict"]}[name]
        for socket in sockets:
            while True:
                if process.returncode is not None:
                    sys.exit(f"record.py: the {name} ended with status {process.returncode}")
                try:
                    _, writer = await connect(directory / f"terok-{socket}.sock")
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                break

    async def stop(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def record(root, options):
    servers = Servers(root, options)
    session = Session(servers, servers.helper_dir / "shield.log")
    (root / "relays").mkdir(mode=0o700)
    hub, helper = servers.hub_dir, servers.helper_dir
    session.relays = {
        "hub": Relay(session, root / "relays/hub", hub / "terok-clearance.sock", b"\0"),
        "events": Relay(session, root / "relays/events", hub / "terok-shield-events.sock", b"\n"),
        "verdict": Relay(session, root / "relays/verdict", helper / "terok-clearance-verdict.sock", b"\0"),
        # Where the hub believes its helper to be.
        "between": Relay(
            session, hub / "terok-clearance-verdict.sock", helper / "terok-clearance-verdict.sock", b"\0"
        ),
    }
    await servers.start("helper")
    await servers.start("hub")
    for relay in session.relays.values():
        await relay.start()
    await session.open("reader", "events")
    await by_client(session)
    if not options.hub:
        await by_frames(session)
    await session.end()
    return session.recording()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hub", help="the program whose hub the release's client talks with")
    parser.add_argument("--era", default="d", help="the era that this hub is to serve")
    parser.add_argument("--verbose", action="store_true", help="show what the servers log")
    parser.add_argument("recording", type=Path, help="the file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rec") as root:
        lines = asyncio.run(record(Path(root), options))
    options.recording.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()

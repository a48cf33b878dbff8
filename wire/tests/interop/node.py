"""A node of its own for the tests: start, stop, kill, and its log."""

import asyncio
import hashlib
import json
import pathlib
import shutil
import signal
import ssl
import tempfile

# Seconds for a node to serve, and to stop.
START_PATIENCE, STOP_PATIENCE = 20.0, 15.0


class Node:
    """A node's process, with a data directory that outlives it until `remove`."""

    host = "127.0.0.1"

    def __init__(self, program: str):
        self.program = program
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="columba-interop-"))
        self.log_path = self.directory / "log"
        self.log_path.touch()
        # Any free port at first; the same one after a restart.
        self.port = 0
        self.certificate_hash = b""
        self.process: asyncio.subprocess.Process | None = None

    async def start(self):
        """Starts it, and waits until it serves."""
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.program,
                *("--listen", f"{self.host}:{self.port}", "--data-dir", str(self.directory / "data")),
                *("--json-ready", "--set", "pin_cores=false"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        async with asyncio.timeout(START_PATIENCE):
            line = await self.process.stdout.readline()
        assert line, f"the node ended with {await self.process.wait()} before it served"
        ready = json.loads(line)
        assert ready["pid"] == self.process.pid and ready["plain"] is None, ready
        self.port = int(ready["listening"].rpartition(":")[2])
        certificate = ssl.PEM_cert_to_DER_cert(pathlib.Path(ready["certificate"]).read_text())
        self.certificate_hash = hashlib.sha256(certificate).digest()

    async def stop(self):
        """Asks it to stop: it must end in time and with success."""
        assert self.runs(), "the node does not run"
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_PATIENCE):
            code = await self.process.wait()
        assert code == 0, f"the node ended with {code}"

    def runs(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.returncode is None

    async def kill(self):
        """Ends it without a warning, if it still runs."""
        if self.runs():
            self.process.kill()
            await self.process.wait()

    async def remove(self):
        """Ends it, whatever it does, and removes its data."""
        await self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_size(self) -> int:
        """A mark for `log_since`."""
        return self.log_path.stat().st_size

    def log_since(self, mark: int) -> str:
        """What it has logged since then."""
        return self.log_path.read_bytes()[mark:].decode(errors="replace")

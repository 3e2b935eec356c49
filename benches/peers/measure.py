"""What the comparisons share: sizes, folders, and a process with its time and memory."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROWS = int(os.environ.get("ROWS", 2_000_000))
ROUNDS = int(os.environ.get("ROUNDS", 5))
ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "peers-data"
BOURN = Path(os.environ.get("BOURN", ROOT / "target" / "release" / "bourn"))


def run(argv, text=None):
    """Runs a process; returns its wall time, CPU-seconds and the most memory it held in MiB."""
    start = time.monotonic()
    child = subprocess.Popen(argv, stdin=subprocess.PIPE if text else None, stdout=subprocess.DEVNULL)
    if text:
        child.stdin.write(text.encode())
        child.stdin.close()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{argv[:2]} failed with status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def processor():
    """What the machine says it is."""
    for line in open("/proc/cpuinfo") if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()

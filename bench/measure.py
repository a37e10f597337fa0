"""Runs a command and says what it took: wall time, CPU time, peak memory."""

import os
import subprocess
import threading
import time
from dataclasses import asdict, dataclass


@dataclass
class Cost:
    seconds: float
    cpu_seconds: float
    peak_bytes: int  # of all its processes together, resident
    status: int

    def json(self):
        return asdict(self)


class Failed(Exception):
    pass


def run(argv, env=None, cwd=None, log=None, feed=None, sink=None):
    """Runs argv to its end. Its output goes to the file `log`.

    feed: a command whose output becomes the input of argv; its failure counts too.
    sink: a file for the standard output.
    CPU time comes from the kernel's accounting of children that have ended. Memory is
    sampled: the sum over processes, and of each process the peak that the kernel notes.
    (The kernel's peak for ended children is no use: it counts our own size before exec.)
    """
    # What earlier commands left to write mustn't be paid for by this one.
    os.sync()
    with open(log or os.devnull, "ab") as out, open(sink or os.devnull, "wb") as target:
        out.write(("+ " + " ".join(argv) + "\n").encode())
        out.flush()
        stdout = target if sink else out
        started = time.monotonic()
        feeder = None
        if feed:
            feeder = subprocess.Popen(feed, env=env, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=out)
        child = subprocess.Popen(argv, env=env, cwd=cwd, stdout=stdout, stderr=out,
                                 stdin=feeder.stdout if feeder else subprocess.DEVNULL)
        if feeder:
            feeder.stdout.close()
        peak = Peak(child.pid)
        _, raw, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(raw)
        sampled = peak.stop()
        status = child.returncode
        if feeder and feeder.wait() != 0:
            status = status or feeder.returncode
    return Cost(seconds, usage.ru_utime + usage.ru_stime, sampled, status)


class Peak:
    """Samples the resident memory of a process and all below it."""

    def __init__(self, pid):
        self.pid, self.peak, self.done = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while True:
            together, single = resident(self.pid)
            self.peak = max(self.peak, together, single)
            if self.done.wait(0.01):
                return

    def stop(self):
        self.done.set()
        self.thread.join()
        return self.peak


def resident(pid):
    """(bytes of the process and all below it now, the peak of the largest of them)."""
    together = single = 0
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    single = int(line.split()[1]) * 1024
                elif line.startswith("VmRSS:"):
                    together = int(line.split()[1]) * 1024
                    break
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in file.read().split():
                    below = resident(int(child))
                    together += below[0]
                    single = max(single, below[1])
    except OSError:  # it ended while we looked
        pass
    return together, single

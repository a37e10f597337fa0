"""Runs a program at a terminal of its own and types an answer at each prompt: type.py ANSWER… -- PROGRAM ARGUMENT…"""

import os
import pty
import select
import sys
import time

at = sys.argv.index("--")
answers, command = sys.argv[1:at], sys.argv[at + 1 :]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen = b""
while select.select([terminal], [], [], 60)[0]:
    try:
        new = os.read(terminal, 4096)
    except OSError:  # the program has ended
        break
    if not new:
        break
    os.write(1, new)
    seen += new
    if answers and seen.rstrip().endswith(b":"):
        # Whoever turns the echo off after the prompt throws away what was typed before.
        time.sleep(0.5)
        os.write(terminal, answers.pop(0).encode() + b"\n")
        seen = b""
else:
    os.kill(pid, 9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

"""Somebody at a terminal: runs a program in a real one (pty(7)), as its session's own, and does there
what the lines of standard input say, one JSON object each:

  {"expect": TEXT}           waits until the program has shown TEXT after what was expected before
  {"type": TEXT}             hits these keys
  {"resize": [ROWS, COLS]}   changes the size, which the kernel tells the program
  {"signal": "SIGTERM"}      signals the program

Prints one line when the program has ended: its exit code, what was shown, and whether the terminal is
what it was.

Usage: terminal.py ROWS COLS PROGRAM [ARGUMENT...]
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

DEADLINE = time.monotonic() + 60


class Screen:
    def __init__(self, terminal):
        self.terminal = terminal
        self.shown = b""
        self.expected = 0

    def read(self):
        """Takes what is there, waiting a little for it. Whether anything was."""
        if time.monotonic() > DEADLINE:
            sys.exit(f"waited in vain; shown so far: {self.shown!r}")
        if not select.select([self.terminal], [], [], 0.05)[0]:
            return False
        self.shown += os.read(self.terminal, 65536)
        return True

    def expect(self, text):
        while (at := self.shown.find(text, self.expected)) < 0:
            self.read()
        self.expected = at + len(text)


def resize(terminal, rows, cols):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def main():
    rows, cols, *command = sys.argv[1:]
    ready, go = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.close(go)
        os.read(ready, 1)
        os.execvp(command[0], command)
    # Held open, so that the end of the program does not hang the terminal up.
    held = os.open(os.ptsname(terminal), os.O_RDWR | os.O_NOCTTY)
    resize(terminal, int(rows), int(cols))
    before = termios.tcgetattr(held)
    os.close(ready)
    os.close(go)

    screen = Screen(terminal)
    for line in sys.stdin:
        step = json.loads(line)
        if "expect" in step:
            screen.expect(step["expect"].encode())
        elif "type" in step:
            os.write(terminal, step["type"].encode())
        elif "resize" in step:
            resize(terminal, *step["resize"])
        else:
            os.kill(pid, getattr(signal, step["signal"]))

    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        screen.read()
    while screen.read():
        pass
    result = {
        "exit": os.waitstatus_to_exitcode(ended[1]),
        "shown": screen.shown.decode(errors="replace"),
        "restored": termios.tcgetattr(held) == before,
    }
    print(json.dumps(result))


main()

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
    # The inner end stays open here, so that the end of the program does not hang the terminal up.
    terminal, inner = pty.openpty()
    resize(terminal, int(rows), int(cols))
    before = termios.tcgetattr(inner)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
        for stream in range(3):
            os.dup2(inner, stream)
        os.closerange(3, 256)
        os.execvp(command[0], command)

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
        "restored": termios.tcgetattr(inner) == before,
    }
    print(json.dumps(result))


main()

"""The events of the agent, read beside everything else."""

import json
import threading

from document import NDJSON

OF_THE_AGENT = ["hello", "process_started", "process_exited", "draining", "stopped"]
OF_A_WATCH = ["ready", "changed", "stopped"]


class Watch:
    """Reads the lines of an endless answer in a thread, from now until the agent ends."""

    def __init__(self, caller, operation="events"):
        self.caller, self.operation, self.lines = caller, operation, []
        self.connection = caller.connect()
        method, target = caller.target(operation, {}, "")
        self.connection.request(method, target, headers={"Authorization": f"Bearer {caller.token}"})
        self.response = self.connection.getresponse()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.response:
            self.lines.append(line)

    def check(self, expected):
        """Holds what came against the document: these events, the first and the last in their places. The agent
        has ended, or is about to."""
        self.thread.join(60)
        assert not self.thread.is_alive(), f"the events do not end: {self.lines[-3:]}"
        body = b"".join(self.lines)
        self.caller.document.check(self.operation, self.response.status, self.response.headers, body)
        self.caller.seen.add((self.operation, 200, NDJSON))
        seen = [json.loads(line)["event"] for line in self.lines]
        assert seen[0] == expected[0] and seen[-1] == expected[-1], seen
        assert set(expected) <= set(seen), seen

"""The events of the agent, read beside everything else."""

import json
import threading

from document import NDJSON

EXPECTED = ["hello", "process_started", "process_exited", "draining", "stopped"]


class Watch:
    """Reads the events in a thread, from now until the agent ends."""

    def __init__(self, caller):
        self.caller, self.lines = caller, []
        self.connection = caller.connect()
        method, target = caller.target("events", {}, "")
        self.connection.request(method, target, headers={"Authorization": f"Bearer {caller.token}"})
        self.response = self.connection.getresponse()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.response:
            self.lines.append(line)

    def check(self):
        """Holds what came against the document. The agent has ended, or is about to."""
        self.thread.join(60)
        assert not self.thread.is_alive(), f"the events do not end: {self.lines[-3:]}"
        self.caller.document.check("events", self.response.status, self.response.headers, b"".join(self.lines))
        self.caller.seen.add(("events", 200, NDJSON))
        seen = [json.loads(line)["event"] for line in self.lines]
        assert seen[0] == EXPECTED[0] and seen[-1] == EXPECTED[-1], seen
        assert set(EXPECTED) <= set(seen), seen

"""A local server that speaks the chat-completions protocol and misbehaves on request."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatStub:
    """Answers like a model that knows the truth: feature active where the marked token is the one of the first context.

    `faults`: what happens to the next requests, in order: a status, ("wait", seconds), ("say", text), or None for a good
    answer. `always`: the same for every request whose text holds the key.
    """

    def __init__(self):
        self.requests, self.keys, self.faults, self.always = [], [], [], {}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append((self.path, request))
                stub.keys.append(self.headers.get("Authorization"))
                text = request["messages"][-1]["content"]
                fault = next((what for part, what in stub.always.items() if part in text), None)
                if fault is None and stub.faults:
                    fault = stub.faults.pop(0)
                self.reply(*stub.answer(text, fault, self.headers.get("Authorization")))

            def reply(self, status, headers, body):
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # who asked has gone

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, text, fault, key):
        if isinstance(fault, int):
            headers = {"Retry-After": "0.05"} if fault == 429 else {}
            return fault, headers, f"no, not with {key}".encode()
        if fault and fault[0] == "wait":
            time.sleep(fault[1])
        said = fault[1] if fault and fault[0] == "say" else self.said(text)
        body = fault[1] if fault and fault[0] == "body" else json.dumps({"choices": [{"message": {"content": said}}]})
        return 200, {}, body.encode()

    def said(self, text):
        marked = re.findall(r"⟦(.*?)⟧", text)
        if "new contexts" in text:
            token = re.search(r"fires on (\S+)", text).group(1)
            return "Sure!\n```json\n" + json.dumps({"active": [found == token for found in marked]}) + "\n```"
        return json.dumps({"explanation": f"fires on {marked[0]}\n always", "complexity": 1, "consistency": 5})

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

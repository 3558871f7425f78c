"""A bucket store on this machine, for as long as standard input is open: moto's S3 behind what it lacks.

Usage: bucket.py
Says its address, host:port, in one line, then answers. It ends when standard input ends, so it goes with the process that started it,
however that one ends. Nothing is kept.

moto 5.2 answers `If-None-Match: *` and `If-Match` of a PUT as S3 does, but looks and writes in two steps, on a thread for each
connection: two writers could both be told that they were first. So here one request runs at a time, and none before all of its body
is there: half a body, of a client that was killed, is no object.
"""

import io
import sys
import threading

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


class OneAtATime:
    """Runs the requests of `application` one after another, each with its whole body, whose length is told before."""

    def __init__(self, application):
        self.application = application
        self.turn = threading.Lock()

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length or "HTTP_TRANSFER_ENCODING" in environ:
            start_response("400 Bad Request", [("Content-Length", "0")])
            return []
        environ["wsgi.input"] = io.BytesIO(body)
        with self.turn:
            return self.application(environ, start_response)


class Handler(MotoRequestHandler):
    """Says nothing about each request; errors are still said."""

    def log_request(self, code="-", size="-"):
        pass


def main():
    application = OneAtATime(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = server.server_address[:2]
    print(f"{host}:{port}", flush=True)
    sys.stdin.buffer.read()


main()

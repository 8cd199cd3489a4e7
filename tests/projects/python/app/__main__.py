import http.server
import os
import pathlib

from greeting import greeting


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        written = pathlib.Path("/data/started").read_text()
        body = f"{greeting('python')}, as user {os.getuid()}, {written}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()

"""Counts visits. Who counts is redis, found by its name."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

database = redis.Redis("db")


class Visit(BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"visit {database.incr('visits')}, from {self.headers['X-Real-IP']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


ThreadingHTTPServer(("", 8000), Visit).serve_forever()

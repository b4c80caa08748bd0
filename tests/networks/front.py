"""Terminates TLS at a public address for the simulated SuperOffice, under its public names."""

import http.client
import http.server
import socket
import ssl
import sys

address, login, api = sys.argv[1:4]
PORTS = {"login.crm.example": int(login), "api.crm.example": int(api)}
# Hop-by-hop headers, and headers that are set again.
OWN = {"connection", "content-length", "transfer-encoding", "host"}


class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        port = PORTS[self.headers["host"].split(":")[0]]
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        inner = http.client.HTTPConnection("127.0.0.1", port)
        inner.request(self.command, self.path, body or None, {**headers, "Host": f"127.0.0.1:{port}"})
        answer = inner.getresponse()
        body = answer.read().replace(f"http://127.0.0.1:{api}".encode(), b"https://api.crm.example")
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("answered", self.command, self.path, flush=True)

    do_GET = do_POST = pass_on

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def handle_error(self, *_):
        """Ignores clients that disconnect or reject the handshake."""


server = Server((address, 443), Front)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("tls.crt", "tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("ready", flush=True)
server.serve_forever()

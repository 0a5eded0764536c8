# SPDX-License-Identifier: Apache-2.0
"""Servers of real_clients.rs on the machine's loopback, until the end of standard input.

Prints one line, a JSON object with the port of each server: registries of npm, pip and cargo with
one small package each, git by its own protocol and by HTTPS, ssh and rsync.

Usage: local_servers.py DIRECTORY, for keys, certificates, repositories and logs.
"""

import asyncio
import hashlib
import http.server
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import asyncssh

DIRECTORY = os.path.abspath(sys.argv[1])
HOST = "host.internal"


def path(*below):
    return os.path.join(DIRECTORY, *below)


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def crate():
    """A package of cargo: the archive that `cargo package` makes."""
    manifest = b'[package]\nname = "itoa"\nversion = "1.0.0"\nedition = "2021"\n'
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in [("Cargo.toml", manifest), ("src/lib.rs", b"")]:
            member = tarfile.TarInfo("itoa-1.0.0/" + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def wheel():
    """A package of pip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = "six-1.0.dist-info/"
        archive.writestr("six.py", "")
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: six\nVersion: 1.0\n")
        archive.writestr(
            info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(info + "RECORD", "")
    return packed.getvalue()


def pages(port):
    """The registries' pages."""
    at = f"http://{HOST}:{port}"
    crate_data = crate()
    cargo_line = {
        "name": "itoa",
        "vers": "1.0.0",
        "deps": [],
        "cksum": hashlib.sha256(crate_data).hexdigest(),
        "features": {},
        "yanked": False,
    }
    npm = {
        "name": "ms",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {"name": "ms", "version": "1.0.0", "dist": {}}},
    }
    file = "six-1.0-py3-none-any.whl"
    return {
        "/npm/ms": ("application/json", json.dumps(npm).encode()),
        "/pip/six/": ("text/html", f'<a href="/files/{file}">{file}</a>'.encode()),
        "/files/" + file: ("application/zip", wheel()),
        "/cargo/config.json": ("application/json", json.dumps({"dl": at + "/crates"}).encode()),
        "/cargo/it/oa/itoa": ("text/plain", json.dumps(cargo_line).encode() + b"\n"),
        "/crates/itoa/1.0.0/download": ("application/gzip", crate_data),
    }


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves fixed pages."""

    def do_GET(self):
        kind, data = self.server.pages.get(self.path, (None, b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class GitPages(http.server.BaseHTTPRequestHandler):
    """Serves repositories by git's own program for HTTP servers."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        path_info, _, query = self.path.partition("?")
        environment = dict(
            os.environ,
            GIT_HTTP_EXPORT_ALL="1",
            GIT_PROJECT_ROOT=path("repositories"),
            REQUEST_METHOD=self.command,
            PATH_INFO=path_info,
            QUERY_STRING=query,
            REMOTE_ADDR="127.0.0.1",
            CONTENT_TYPE=self.headers.get("Content-Type", ""),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            HTTP_GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
        )
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        command = ("git", "http-backend")
        said = subprocess.run(command, env=environment, input=body, stdout=subprocess.PIPE).stdout
        head, _, data = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def serve(handler):
    """Starts an HTTP server; returns it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def git_over_https():
    """Serves the repositories with a certificate of its own, `certificate.pem`."""
    key, certificate = path("key.pem"), path("certificate.pem")
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-keyout", key, "-out", certificate, "-days", "2"),
        *("-subj", "/CN=" + HOST, "-addext", "subjectAltName=DNS:" + HOST),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), GitPages)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def repository():
    """Makes a repository with one commit."""
    work, bare = path("work"), path("repositories", "small.git")
    run("git", "init", "-q", work)
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run("git", "-C", work, *author, "commit", "-q", "--allow-empty", "-m", "first")
    run("git", "clone", "-q", "--bare", work, bare)


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def daemon(port, *command):
    """Starts a server that takes its port by an option; waits until it accepts connections."""
    log = open(path("log-" + os.path.basename(command[0])), "w")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            if process.poll() is not None:
                sys.exit(f"{command} ended: {open(log.name).read()}")
            time.sleep(0.02)
    DAEMONS.append(process)
    return port


def git_daemon():
    port = unused_port()
    options = ("--export-all", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr")
    return daemon(port, "git", "daemon", *options, "--base-path=" + path("repositories"))


def ssh_server():
    """Serves whoever logs in with `client-key`; every command succeeds."""
    for key in ("host-key", "client-key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path(key))

    def succeed(process):
        process.stdout.write("done\n")
        process.exit(0)

    listening = asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[path("host-key")],
        authorized_client_keys=path("client-key.pub"),
        process_factory=succeed,
    )
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(listening)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    [(_, port)] = [listener.getsockname() for listener in server.sockets]
    with open(path("known-hosts"), "w") as known:
        known.write(f"[{HOST}]:{port} {open(path('host-key.pub')).read()}")
    return port


def rsync_server():
    port = unused_port()
    os.makedirs(path("files"))
    with open(path("files", "small"), "w") as small:
        small.write("small\n")
    with open(path("rsyncd.conf"), "w") as configuration:
        configuration.write(f"use chroot = no\n[files]\npath = {path('files')}\n")
        if os.geteuid() == 0:
            configuration.write("uid = root\ngid = root\n")
    options = (f"--port={port}", "--address=127.0.0.1", "--config=" + path("rsyncd.conf"))
    return daemon(port, "rsync", "--daemon", "--no-detach", *options)


DAEMONS = []
try:
    repository()
    registries = serve(Pages)
    registries.pages = pages(registries.server_port)
    ports = {
        "registries": registries.server_port,
        "git": git_daemon(),
        "git_https": git_over_https(),
        "ssh": ssh_server(),
        "rsync": rsync_server(),
    }
    print(json.dumps(ports), flush=True)
    sys.stdin.read()
finally:
    for process in DAEMONS:
        process.terminate()
        process.wait()

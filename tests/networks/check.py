"""Checks the gateway behind squid, and in a network without IPv4: run by tools/check-networks.

Two namespaces are connected. `outside` has the simulated SuperOffice, a host that terminates TLS for
it at public addresses, the name server, and squid. `inside` has only the gateway. Nothing leaves the machine.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).parent
GATEWAY, SANDBOX = (str(pathlib.Path(path).resolve()) for path in sys.argv[1:3])

INSIDE, OUTSIDE = "tgw-inside", "tgw-outside"
LOGIN, API_A = 9000, 9001
# The name of squid's shared memory, so that another squid on this machine does not conflict.
SERVICE = "tgwcheck"
# Public IPv4 addresses behind the well-known prefix of NAT64 (RFC 6052).
FIRST, SECOND = "64:ff9b::1432:201", "64:ff9b::1432:202"
PRIVATE = "64:ff9b::a00:1"
PROXY_USER, PROXY_PASSWORD = "gateway", "pass:word@7f3a"
PATIENCE = 30


class Wrong(Exception):
    """A failed check."""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def within(namespace, *command):
    return ["ip", "netns", "exec", namespace, *command]


class Processes:
    """All started processes, by name. They end with the check."""

    def __init__(self, folder):
        self.folder, self.running = folder, {}

    def start(self, name, namespace, *command, environment=None):
        with open(self.folder / f"{name}.log", "w", encoding="utf-8") as log:
            self.running[name] = subprocess.Popen(
                within(namespace, *command),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
            )

    def stop(self, name):
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self):
        for name in reversed(list(self.running)):
            self.stop(name)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")


def eventually(what, happened, patience=PATIENCE):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if found := happened():
            return found
        time.sleep(0.2)
    raise Wrong(f"not within {patience} s: {what}")


def network():
    """Creates the namespaces. `inside` has no IPv4 address at all, not even on loopback."""
    for namespace in (INSIDE, OUTSIDE):
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    run("ip", "-n", INSIDE, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", OUTSIDE)
    for namespace, address in ((INSIDE, "fd00:1::2/64"), (OUTSIDE, "fd00:1::1/64")):
        run("ip", "-n", namespace, "addr", "add", address, "dev", "eth0", "nodad")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
    run("ip", "-n", INSIDE, "addr", "del", "127.0.0.1/8", "dev", "lo")
    run("ip", "-n", INSIDE, "route", "add", "64:ff9b::/96", "via", "fd00:1::1")
    for address in (FIRST, SECOND, PRIVATE):
        run("ip", "-n", OUTSIDE, "addr", "add", f"{address}/128", "dev", "lo", "nodad")
    if run("ip", "-n", INSIDE, "-4", "addr", "show").stdout.strip():
        raise Wrong("the inside has an IPv4 address")


def name_server(inside):
    """Sets the name server of the gateway; 100:: never responds."""
    for namespace, text in ((INSIDE, f"nameserver {inside}\noptions timeout:1 attempts:1\n"), (OUTSIDE, "nameserver 100::\n")):
        folder = pathlib.Path("/etc/netns") / namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(text, encoding="utf-8")


def certificates(folder):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt",
        "-subj", "/CN=Authority of the check", cwd=folder)
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tls.key", "-out", "tls.csr",
        "-subj", "/CN=crm.example", cwd=folder)
    (folder / "names").write_text("subjectAltName=DNS:login.crm.example,DNS:api.crm.example", encoding="utf-8")
    run("openssl", "x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "tls.crt", cwd=folder)


def squid(folder, processes, password):
    """Starts a forward proxy on the outside, which alone can resolve the names. With `password` it requires one.

    It does not run as root, and uses its own folder.
    """
    folder = folder / "squid"
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, "proxy")
    shutil.copy(HERE / "check_password.py", folder)
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    hosts = "".join(f"{FIRST} {name}\n" for name in ("login.crm.example", "api.crm.example"))
    (folder / "hosts").write_text(hosts + "::1 localhost\n", encoding="utf-8")
    quoted = urllib.parse.quote(PROXY_PASSWORD)
    helper = f"auth_param basic program {python} {folder}/check_password.py {PROXY_USER} {quoted}\n"
    rules = f"{helper}acl known proxy_auth REQUIRED\nhttp_access allow known\n" if password else "http_access allow all\n"
    (folder / "squid.conf").write_text(
        f"http_port [fd00:1::1]:3128\nhosts_file {folder}/hosts\npid_filename none\ncache deny all\n"
        f"cache_log {folder}/cache.log\naccess_log stdio:{folder}/access.log\n"
        "shutdown_lifetime 0 seconds\npinger_enable off\ncache_effective_user proxy\n"
        f"{rules}http_access deny all\n",
        encoding="utf-8",
    )
    (folder / "access.log").unlink(missing_ok=True)
    processes.start("squid", OUTSIDE, "squid", "-N", "-n", SERVICE, "-f", str(folder / "squid.conf"))
    eventually("squid listens", lambda: listens(OUTSIDE, 3128))


def listens(namespace, port):
    return bool(run("ip", "netns", "exec", namespace, "python3", str(HERE / "listening.py"), str(port)).stdout.strip())


def configure(folder, proxy, login="login"):
    client_id = (folder / "demo" / "client_id").read_text(encoding="utf-8")
    (folder / "gateway.toml").write_text(
        f"""{proxy}
[outbound]
ca_file = "ca.crt"
[grpc]
listen = "[::1]:50051"
[admin]
listen = "[::1]:9090"
[egress]
listen = "[::1]:8081"
[lifecycle]
drain_delay = "0s"
[callers]
insecure_anonymous = true
[[applications]]
id = "crm-sync"
environment = "sod"
client_id = "{client_id}"
client_secret_file = "demo/client_secret"
private_key_file = "demo/private_key.pem"
login_uri = "https://{login}.crm.example"
issuer = "http://127.0.0.1:{LOGIN}"
allowed_api_hosts = ["crm.example"]
""",
        encoding="utf-8",
    )


class Gateway:
    """A gateway with an empty store and one tenant."""

    def __init__(self, folder, processes, environment=None):
        self.folder, self.processes, self.environment = folder, processes, environment or {}

    def __enter__(self):
        for old in self.folder.glob("gateway.db*"):
            old.unlink()
        self.command("tenant", "add", "Cust10001")
        self.command("tenant", "set-token", "Cust10001", "--token-file", "demo/Cust10001.system_user_token")
        self.processes.start("gateway", INSIDE, GATEWAY, "serve", environment=self.environment)
        eventually("the gateway listens", lambda: listens(INSIDE, 8081))
        return self

    def __exit__(self, *_):
        self.processes.stop("gateway")

    def command(self, *arguments, check=True):
        environment = {**os.environ, **self.environment}
        command = within(INSIDE, GATEWAY, *arguments)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise Wrong(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def call(self):
        """Calls the Web API with the system user's ticket. Returns status and body."""
        uri = "http://[::1]:8081/crm-sync/Cust10001/api/v1/User/currentPrincipal"
        done = run(*within(INSIDE, "curl", "-sS", "--noproxy", "*", "-m", "60", "-w", "\n%{http_code}",
                           "-H", "gateway-act-as: system", "-H", "accept: application/json", uri))
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def answers(self):
        status, body = self.call()
        if status != 200 or "Cust10001" not in body:
            raise Wrong(f"HTTP {status}: {body}\n{self.processes.log('gateway')}")

    def fails(self, *said):
        """Asserts that a call fails with UNAVAILABLE, and that `check` reports the reason."""
        status, body = self.call()
        if status != 503 or "UPSTREAM_UNAVAILABLE" not in body:
            raise Wrong(f"HTTP {status} instead of 503: {body}")
        report = self.command("check", check=False)
        for text in said:
            if text not in report:
                raise Wrong(f"check does not print {text!r}:\n{report}")
        for place in (report, body, self.processes.log("gateway")):
            if PROXY_PASSWORD in place or urllib.parse.quote(PROXY_PASSWORD, safe="") in place:
                raise Wrong("the password of the proxy is exposed")


def behind_squid(folder, processes):
    name_server("100::")
    plain = '[proxy]\nhttps = "http://[fd00:1::1]:3128"\n'
    secret = plain + f'username = "{PROXY_USER}"\npassword_file = "proxy-password"\n'

    squid(folder, processes, password=False)
    configure(folder, plain)
    with Gateway(folder, processes) as gateway:
        gateway.answers()
        if "outbound https goes through a proxy" not in processes.log("gateway"):
            raise Wrong("the start does not say that there is a proxy")
    # squid logs a tunnel when it is closed.
    log = folder / "squid" / "access.log"
    for host in ("login.crm.example:443", "api.crm.example:443"):
        eventually(f"squid was asked for {host}", lambda: f"CONNECT {host}" in log.read_text(encoding="utf-8"))
    with Gateway(folder, processes) as gateway:
        gateway.answers()
        processes.stop("squid")
        eventually("calls fail without squid", lambda: gateway.call()[0] == 503)
        gateway.fails("the proxy http://[fd00:1::1]:3128 cannot be connected to (connection refused)")
        squid(folder, processes, password=False)
        eventually("calls pass again", lambda: gateway.call()[0] == 200)
    say("squid without a password: tickets and calls pass, a dead proxy is told, and they pass again after it")
    processes.stop("squid")

    squid(folder, processes, password=True)
    with Gateway(folder, processes) as gateway:
        gateway.fails("requires a user name and password (HTTP 407)", "set proxy.username and proxy.password_file")
    (folder / "proxy-password").write_text("wrong\n", encoding="utf-8")
    (folder / "proxy-password").chmod(0o600)
    configure(folder, secret)
    with Gateway(folder, processes) as gateway:
        gateway.fails("rejected the user name and password (HTTP 407)")
    (folder / "proxy-password").write_text(PROXY_PASSWORD + "\n", encoding="utf-8")
    with Gateway(folder, processes) as gateway:
        gateway.answers()
    say("squid with a password: none and a wrong one are told, and with the right one calls pass")

    configure(folder, "")
    quoted = urllib.parse.quote(PROXY_PASSWORD, safe="")
    environment = {"https_proxy": f"http://{PROXY_USER}:{quoted}@[fd00:1::1]:3128", "no_proxy": "localhost,.internal"}
    with Gateway(folder, processes, environment) as gateway:
        gateway.answers()
        if '"source":"https_proxy"' not in processes.log("gateway"):
            raise Wrong("the start does not name the environment variable")
    with Gateway(folder, processes, {**environment, "no_proxy": "crm.example"}) as gateway:
        gateway.fails("the name of the host cannot be resolved")
    say("the proxy of the environment: calls pass, and hosts of no_proxy are reached without it")
    processes.stop("squid")


def without_ipv4(folder, processes):
    processes.start("names", OUTSIDE, sys.executable, str(HERE / "names.py"), str(folder / "answers"))
    (folder / "answers").write_text(FIRST, encoding="utf-8")
    name_server("fd00:1::1")
    configure(folder, "[proxy]")
    with Gateway(folder, processes) as gateway:
        gateway.answers()
        say("without IPv4, through NAT64: tickets and calls pass")
        (folder / "answers").write_text(SECOND, encoding="utf-8")
        moved = lambda: gateway.answers() or "answered" in processes.log("second")
        eventually("calls go to the new address", moved, patience=100)
        say("a host that moves to another address is found there while calls go on")
    (folder / "answers").write_text(PRIVATE, encoding="utf-8")
    with Gateway(folder, processes) as gateway:
        gateway.fails("the name of the host has no public address")
    if "answered" in processes.log("private"):
        raise Wrong("a private address behind NAT64 was connected to")
    say("a name that leads to a private address behind NAT64 is refused")


def say(text):
    print(f"check-networks: {text}", flush=True)


def clean():
    for namespace in (INSIDE, OUTSIDE):
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        shutil.rmtree(pathlib.Path("/etc/netns") / namespace, ignore_errors=True)
    for segment in pathlib.Path("/dev/shm").glob(f"{SERVICE}-*"):
        segment.unlink()


def main():
    clean()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o711)
        processes = Processes(folder)
        try:
            network()
            name_server("100::")
            certificates(folder)
            processes.start("sandbox", OUTSIDE, SANDBOX, "--login-port", str(LOGIN), "--api-a-port", str(API_A),
                            "--write-demo", str(folder / "demo"))
            eventually("the sandbox listens", lambda: listens(OUTSIDE, API_A) and (folder / "demo" / "client_id").exists())
            for name, address in (("first", FIRST), ("second", SECOND), ("private", PRIVATE)):
                processes.start(name, OUTSIDE, sys.executable, str(HERE / "front.py"), address, str(LOGIN), str(API_A))
            eventually("the hosts listen", lambda: all("ready" in processes.log(name) for name in ("first", "second", "private")))
            configure(folder, "[proxy]")
            run(*within(INSIDE, GATEWAY, "keys", "generate"), cwd=folder)
            behind_squid(folder, processes)
            without_ipv4(folder, processes)
        except (Wrong, subprocess.CalledProcessError) as error:
            for log in sorted(folder.rglob("*.log")):
                print(f"--- {log.name}\n{log.read_text(encoding='utf-8')[-4000:]}", file=sys.stderr)
            print(f"check-networks: failed: {error} {getattr(error, 'stderr', '') or ''}", file=sys.stderr)
            return 1
        finally:
            processes.stop_all()
            clean()
    return 0


sys.exit(main())

"""Calls the gateway with HTTP clients of Python and with the code that grpcio-tools generates from proto/.

Prints a line for each case, and exits with 1 if one of them failed.
"""

import asyncio
import io
import json
import sys
import time
import types
from urllib.parse import urlsplit

import aiohttp
import grpc
import httpx
import requests
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tenantgateway.v1 import tenant_pb2, tenant_pb2_grpc, token_pb2, token_pb2_grpc

GIVEN = json.loads(sys.argv[1])
LARGE = bytes(range(250)) * 20_000  # 5 MB
SMALL = bytes(range(250)) * 400
DEADLINE = 30
failed = []


def report(client, case, run):
    begin = time.monotonic()
    try:
        run()
        outcome = "ok"
    except Exception as error:  # noqa: BLE001: whatever it is, the case failed
        outcome = f"FAILED: {type(error).__name__}: {str(error)[:300]!r}"
        failed.append(case)
    print(f"{client} {case} {(time.monotonic() - begin) * 1000:.0f} ms: {outcome}", flush=True)


def equal(got, wanted):
    assert got == wanted, f"{got!r} is not {wanted!r}"


def in_pieces(content, size=10_000):
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


async def in_pieces_async(content):
    for piece in in_pieces(content):
        yield piece


def http_cases(client, send):
    """`send(method, uri, headers, content=…, pieces=…, files=…, expect=…)` returns (status, headers, body)."""
    base, denied = GIVEN["base"], GIVEN["denied"]
    good = {"Authorization": f"Bearer {GIVEN['token']}"}
    expired = {"Authorization": f"Bearer {GIVEN['expired']}"}

    def early(uri, headers, status):
        def run():
            for _ in range(GIVEN["repeats"]):
                equal(send("PUT", uri, headers, content=LARGE)[0], status)

        return run

    def uploaded(wanted, **how):
        status, _, body = send("PUT", f"{base}/echo", good, **how)
        equal(status, 200)
        equal(json.loads(body)["bytes"], wanted)

    def multipart():
        status, _, body = send("POST", f"{base}/echo", good, files={"file": ("a.bin", SMALL)})
        equal(status, 200)
        echo = json.loads(body)
        assert echo["contentType"].startswith("multipart/form-data; boundary="), echo
        assert len(SMALL) < echo["bytes"] < len(SMALL) + 1000, echo

    def ranges():
        status, headers, body = send("GET", f"{base}/range", {**good, "Range": "bytes=10-19"})
        equal((status, headers["content-range"], body), (206, "bytes 10-19/26", b"klmnopqrst"))

    def compressed():
        status, _, body = send("GET", f"{base}/gzip", good)
        equal((status, len(body), body[:1]), (200, 100_000, b"a"))

    def keep_alive(name, **how):
        def run():
            own = GIVEN["keepalive"][f"{client} {name}"]
            for _ in range(5):
                equal(send("PUT", f"{own}/echo", good, **how)[0], 200)
                equal(send("GET", f"{own}/gzip", good)[0], 200)

        return run

    expecting = {"content": LARGE, "expect": True}
    report(client, "early-expired", early(f"{base}/echo", expired, 401))
    report(client, "early-denied", early(denied, good, 403))
    report(client, "chunked", lambda: uploaded(len(LARGE), pieces=LARGE))
    report(client, "gzip", compressed)
    report(client, "expect", lambda: uploaded(len(LARGE), **expecting))
    report(
        client,
        "expect-expired",
        lambda: equal(send("PUT", f"{base}/echo", expired, **expecting)[0], 401),
    )
    report(client, "range", ranges)
    report(client, "multipart", multipart)
    report(client, "keep-alive", keep_alive("keep-alive", content=SMALL))
    report(client, "keep-alive-chunked", keep_alive("keep-alive-chunked", pieces=SMALL))


def requests_sender():
    session = requests.Session()

    def send(method, uri, headers, content=None, pieces=None, files=None, expect=False):
        headers = {**headers, "Expect": "100-continue"} if expect else headers
        data = in_pieces(pieces) if pieces else content
        answer = session.request(
            method, uri, headers=headers, data=data, files=files, timeout=DEADLINE
        )
        return answer.status_code, answer.headers, answer.content

    return send


def httpx_sender():
    session = httpx.Client(timeout=DEADLINE)

    def send(method, uri, headers, content=None, pieces=None, files=None, expect=False):
        headers = {**headers, "Expect": "100-continue"} if expect else headers
        content = in_pieces(pieces) if pieces else content
        answer = session.request(method, uri, headers=headers, content=content, files=files)
        return answer.status_code, answer.headers, answer.content

    return send


def aiohttp_cases():
    loop = asyncio.new_event_loop()

    async def start():
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))

    session = loop.run_until_complete(start())

    async def send_async(method, uri, headers, content=None, pieces=None, files=None, expect=False):
        data = in_pieces_async(pieces) if pieces else content and io.BytesIO(content)
        if files:
            data = aiohttp.FormData()
            for name, (file, body) in files.items():
                data.add_field(name, body, filename=file)
        call = session.request(method, uri, headers=headers, data=data, expect100=expect)
        async with call as answer:
            return answer.status, answer.headers, await answer.read()

    http_cases("aiohttp", lambda *a, **k: loop.run_until_complete(send_async(*a, **k)))
    loop.run_until_complete(session.close())


def superoffice_sdk():
    """SuperOffice's library for Python. Replaces its fixed host and its own sign-in."""
    sys.modules["suds"], sys.modules["suds.client"] = types.ModuleType("suds"), types.ModuleType("c")
    sys.modules["suds.client"].Client = None
    sys.modules["OpenSSL"] = types.ModuleType("OpenSSL")
    sys.modules["OpenSSL"].crypto = None
    from superofficesdk import rest

    rest.SuperOfficeLogin = lambda *_: "of-the-library"
    library = rest.SuperOffice("Cust1", "of-the-library", "none", "none")
    gateway = urlsplit(GIVEN["base"])

    class ToTheGateway(requests.adapters.HTTPAdapter):
        def send(self, request, **how):
            path = urlsplit(request.url).path.removeprefix("/Cust1")
            tenant = gateway.path.split("/api/")[0]
            request.url = f"{gateway.scheme}://{gateway.netloc}{tenant}{path}"
            return super().send(request, **how)

    library.session.mount("https://online.superoffice.com/", ToTheGateway())
    # The library sends its own ticket in `Authorization`.
    library.session.headers["Proxy-Authorization"] = f"Bearer {GIVEN['token']}"

    def create():
        echo = library.echo.create({"Name": "Søndag"})
        equal((echo["method"], echo["bytes"], echo["scheme"]), ("POST", 23, "SOTicket"))

    report("superoffice-python-sdk", "call", create)


def generated():
    gateway, tenant = GIVEN["grpc"], GIVEN["tenant"]
    metadata = [("authorization", f"Bearer {GIVEN['token']}")]
    channel = grpc.insecure_channel(gateway)
    tenants = tenant_pb2_grpc.TenantServiceStub(channel)
    tokens = token_pb2_grpc.TokenServiceStub(channel)

    def get(name, **how):
        request = tenant_pb2.GetTenantRequest(name=name)
        return tenants.GetTenant(request, metadata=metadata, timeout=DEADLINE, **how).tenant

    def watch():
        request = token_pb2.WatchSystemTicketRequest(tenant=tenant)
        stream = tokens.WatchSystemTicket(request, metadata=metadata, timeout=DEADLINE)
        assert next(stream).ticket.value
        stream.cancel()
        equal(stream.code(), grpc.StatusCode.CANCELLED)

    def details():
        try:
            get("nonsense")
        except grpc.RpcError as error:
            equal(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            for detail in rpc_status.from_call(error).details:
                detail.Unpack(info) or detail.Unpack(bad)
            equal((info.domain, info.reason), ("tenantgateway", "INVALID_ARGUMENT"))
            equal([violation.field for violation in bad.field_violations], ["name"])
        else:
            raise AssertionError("not refused")

    def deflate():
        try:
            get(tenant, compression=grpc.Compression.Deflate)
        except grpc.RpcError as error:
            equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)
            assert "gzip" in error.details(), error.details()
        else:
            raise AssertionError("not refused")

    report("grpcio", "unary", lambda: equal(get(tenant).name, tenant))
    gzip = grpc.Compression.Gzip
    report("grpcio", "gzip", lambda: equal(get(tenant, compression=gzip).name, tenant))
    report("grpcio", "watch", watch)
    report("grpcio", "error-details", details)
    report("grpcio", "deflate", deflate)


http_cases("requests", requests_sender())
http_cases("httpx", httpx_sender())
aiohttp_cases()
superoffice_sdk()
generated()
sys.exit(bool(failed))

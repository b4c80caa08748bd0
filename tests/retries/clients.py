"""Sends one unsafe call with a client library that retries, and prints the result.

Arguments: the library, the address of the call over HTTP, the address of the gRPC listener, a `CallRequest` in base64.
The settings of the HTTP libraries are those of docs/guides/egress.md.
"""

import base64
import json
import sys

import grpc
import requests
import urllib3
from requests.adapters import HTTPAdapter

library, uri, grpc_address, message = sys.argv[1:]
BODY = b'{"associateIds": [1]}'
TIMEOUT = 20


def retry():
    """Also retries POST, but only if the gateway allows it: not after 504 or a truncated response."""
    return urllib3.Retry(total=2, read=False, backoff_factor=0.1, status_forcelist=[429, 503], allowed_methods=None,
                         raise_on_status=False)


def over_http():
    """Returns the status, or the error of the library."""
    try:
        if library == "urllib3":
            return urllib3.PoolManager(retries=retry()).request("POST", uri, body=BODY, timeout=TIMEOUT).status
        session = requests.Session()
        # The retries from the library's documentation, which do not include POST.
        documented = urllib3.Retry(total=2, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504])
        session.mount("http://", HTTPAdapter(max_retries=retry() if library == "requests" else documented))
        return session.post(uri, data=BODY, timeout=TIMEOUT).status_code
    except (urllib3.exceptions.HTTPError, requests.exceptions.RequestException) as error:
        return type(error).__name__


def over_grpc():
    """Returns the code. The service config also retries the codes that the gateway returns for unknown outcomes."""
    policy = {"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "0.2s", "backoffMultiplier": 1,
              "retryableStatusCodes": ["UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]}
    config = {"methodConfig": [{"name": [{"service": "tenantgateway.v1.WebApiService"}], "retryPolicy": policy}]}
    with grpc.insecure_channel(grpc_address, [("grpc.service_config", json.dumps(config))]) as channel:
        call = channel.unary_unary("/tenantgateway.v1.WebApiService/Call", lambda x: x, lambda x: x)
        try:
            call(base64.b64decode(message))
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


print(json.dumps({"ended": str(over_grpc() if library == "grpcio" else over_http())}))

"""The application that gunicorn, waitress and hypercorn serve: it reads the whole body and writes a
line `METHOD TARGET BODY-BYTES` to standard output.
"""

import os


def tell(method, target, length):
    # One write: threads would mix theirs.
    os.write(1, f"{method} {target} {length}\n".encode())


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    target = environ["PATH_INFO"] + (f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else "")
    tell(environ["REQUEST_METHOD"], target, len(body))
    start_response("200 OK", [("content-length", "2")])
    return [b"ok"]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        length += len(event.get("body", b""))
        more = event.get("more_body", False)
    query = scope["query_string"].decode("latin-1")
    tell(scope["method"], scope["path"] + (f"?{query}" if query else ""), length)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

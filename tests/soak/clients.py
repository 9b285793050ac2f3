"""Clients of a soak. Each is one short story with a server; some of them end badly."""

import asyncio
import contextlib
import random

PATIENCE = 60  # seconds


class Wrong(Exception):
    """What no client may ever see."""


async def one(address, path, body=b"", fields=""):
    """A request on a connection of its own, as it should be: status and body."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


async def expect(address, path, status, wanted, body=b""):
    found = await one(address, path, body)
    if found[0] != status or wanted not in found[1]:
        raise Wrong(f"{path}: {found[0]} {found[1][:80]!r}")


async def hello(address, chance):
    await expect(address, "/", 200, b"hello")


async def wait(address, chance):
    await expect(address, "/wait", 200, b"waited")


async def compute(address, chance):
    await expect(address, "/compute", 200, b"199990000")


async def upload(address, chance):
    body = b"x" * chance.randrange(1, 2_000_000)
    await expect(address, "/upload", 200, str(len(body)).encode(), body)


async def failure(address, chance):
    await expect(address, "/fail", 500, b"")


async def kept(address, chance):
    """Many requests on one connection."""
    reader, writer = await asyncio.open_connection(*address)
    for _ in range(chance.randrange(1, 50)):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Wrong(f"kept: {head!r}")
        await reader.readuntil(b"hello")
        if b"chunked" in head.lower():
            await reader.readuntil(b"0\r\n\r\n")
    writer.close()


async def gone(address, chance):
    """Goes away at any moment: in the head, in the body, in the response."""
    path = chance.choice(["/", "/wait", "/events", "/heavy", "/upload"])
    request = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n".encode()
    request += b"x" * 5000
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request[: chance.randrange(1, len(request) + 1)])
    if chance.random() < 0.5:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(chance.randrange(1, 100_000)), 0.2)
    if chance.random() < 0.5:
        writer.transport.abort()
    writer.close()


async def events(address, chance):
    """Reads some of a stream, and leaves."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(f"data: {chance.randrange(5)}\n\n".encode())
    writer.close()


async def socket(address, chance):
    """Takes the connection over, says something, and leaves."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(
        b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nsaid"
    )
    if await reader.readexactly(4) != b"said":
        raise Wrong("the socket says something else")
    writer.close()


STORIES = [hello, wait, compute, upload, failure, kept, gone, events, socket]


async def live(address, until, chance, told):
    """One story after another, until the time is over."""
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        story = chance.choice(STORIES)
        try:
            await asyncio.wait_for(story(address, chance), PATIENCE)
            told[story.__name__] = told.get(story.__name__, 0) + 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError, IndexError) as error:
            if story is not gone:
                raise Wrong(f"{story.__name__}: {error!r}") from error


async def load(address, seconds, clients, seed):
    """So many clients at once; how often each story was told."""
    told = {}
    until = asyncio.get_running_loop().time() + seconds
    lives = (live(address, until, random.Random(seed + n), told) for n in range(clients))
    await asyncio.gather(*lives)
    return told

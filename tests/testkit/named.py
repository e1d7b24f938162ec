"""TCP connections that say whose they are: `serve NAME PORT` answers each line with its name, `hold ADDRESS PORT COUNT
SECONDS [SOURCE FIRST-PORT]` opens COUNT connections, from these ports of its own if it is told any, asks all of them until
SECONDS have passed, and prints for each first name how many got the same name to the end, and how many broke."""
import asyncio
import collections
import sys
import time


async def serve(name, port):
    async def answer(reader, writer):
        try:
            while line := await reader.readline():
                writer.write(f"{name} ".encode() + line)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(answer, None, port, backlog=2048)
    await server.serve_forever()


async def hold(address, port, count, seconds, source=None, first=0):
    async def ask(reader, writer):
        writer.write(b"who\n")
        await writer.drain()
        return (await asyncio.wait_for(reader.readline(), 20)).decode().split()[0]

    async def one(reader, writer):
        first = await ask(reader, writer)
        try:
            while time.monotonic() < end:
                if await ask(reader, writer) != first:
                    return first, "other"
                await asyncio.sleep(0.2)
            return first, "kept"
        except (OSError, IndexError, asyncio.TimeoutError):
            return first, "broke"

    end = time.monotonic() + seconds
    own = [source and (source, int(first) + i) for i in range(count)]
    pairs = await asyncio.gather(*(asyncio.open_connection(address, port, local_addr=end) for end in own))
    ends = collections.Counter(await asyncio.gather(*(one(*pair) for pair in pairs)))
    for (name, what), n in sorted(ends.items()):
        print(name, what, n)


if sys.argv[1] == "serve":
    asyncio.run(serve(sys.argv[2], int(sys.argv[3])))
else:
    asyncio.run(hold(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), *sys.argv[6:]))

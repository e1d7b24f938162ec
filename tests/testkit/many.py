"""Many TCP connections at once: `serve ADDRESS PORT` echoes, `connect ADDRESS PORT COUNT` opens COUNT and checks each,
`hold ADDRESS PORT COUNT SECONDS` opens COUNT and has each echo now and then until SECONDS are over."""
import asyncio
import resource
import sys

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(address, port):
    server = await asyncio.start_server(echo, address, port, backlog=2048)
    await server.serve_forever()


async def connect(address, port, count):
    # All are open at the same time before the first byte is sent.
    pairs = await asyncio.gather(*(asyncio.open_connection(address, port) for _ in range(count)))

    async def check(number, reader, writer):
        sent = (f"{number:08d}" * 1250).encode()
        writer.write(sent)
        await writer.drain()
        assert await reader.readexactly(len(sent)) == sent, f"connection {number} got other bytes"
        writer.close()

    await asyncio.gather(*(check(n, *pair) for n, pair in enumerate(pairs)))
    print(f"{count} connections, each echoed its own bytes")


async def hold(address, port, count, seconds):
    clock = asyncio.get_running_loop().time
    pairs = [await asyncio.open_connection(address, port) for _ in range(count)]
    print("open", flush=True)
    end = clock() + seconds

    async def talk(number, reader, writer):
        turns = 0
        while clock() < end:
            sent = f"{number:08d}{turns:08d}".encode()
            writer.write(sent)
            await writer.drain()
            echo = await asyncio.wait_for(reader.readexactly(len(sent)), 15)
            assert echo == sent, f"connection {number} got other bytes"
            turns += 1
            await asyncio.sleep(0.5)
        writer.close()

    done = await asyncio.gather(*(talk(n, *pair) for n, pair in enumerate(pairs)), return_exceptions=True)
    broken = [repr(why) for why in done if why is not None]
    print(f"{count} connections held, {len(broken)} broken", *broken[:3])


address, port = sys.argv[2], int(sys.argv[3])
if sys.argv[1] == "serve":
    asyncio.run(serve(address, port))
elif sys.argv[1] == "hold":
    asyncio.run(hold(address, port, int(sys.argv[4]), float(sys.argv[5])))
else:
    asyncio.run(asyncio.wait_for(connect(address, port, int(sys.argv[4])), 60))

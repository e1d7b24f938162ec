"""Opens RATE connections a second for SECONDS, each echoing once: `ADDRESS PORT RATE SECONDS`; prints how many did."""
import asyncio
import sys

address, port, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])


async def one():
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"hello")
    await writer.drain()
    got = await reader.readexactly(5)
    writer.close()
    return got == b"hello"


async def main():
    clock = asyncio.get_running_loop().time
    start, tasks = clock(), []
    while (now := clock() - start) < seconds:
        while len(tasks) < now * rate:
            tasks.append(asyncio.create_task(asyncio.wait_for(one(), 10)))
        await asyncio.sleep(0.005)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    print(f"{sum(d is True for d in done)} of {len(done)}")


asyncio.run(main())

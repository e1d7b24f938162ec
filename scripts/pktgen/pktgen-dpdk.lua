-- Pktgen-DPDK: port 0 sends UDP with 10,000 five-tuples at full rate for 30 s, port 1 counts what comes back.
-- Prints offered, received, lost, Mpps. See README.md for the topology.
package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;../?.lua"
require "Pktgen"

local send, receive, seconds, size, flows = "0", "1", 30, 64, 10000

pktgen.stop("all")
pktgen.clear("all")
pktgen.set(send, "size", size)
pktgen.set(send, "rate", 100)
pktgen.set(send, "burst", 64)
pktgen.set(send, "count", 0)
pktgen.set_proto(send, "udp")

-- 100 sources times 100 source ports.
pktgen.range.src_ip(send, "start", "10.0.0.1")
pktgen.range.src_ip(send, "inc", "0.0.0.1")
pktgen.range.src_ip(send, "min", "10.0.0.1")
pktgen.range.src_ip(send, "max", "10.0.0.100")
pktgen.range.dst_ip(send, "start", "198.18.0.1")
pktgen.range.dst_ip(send, "inc", "0.0.0.0")
pktgen.range.src_port(send, "start", 1024)
pktgen.range.src_port(send, "inc", 1)
pktgen.range.src_port(send, "min", 1024)
pktgen.range.src_port(send, "max", 1024 + flows / 100 - 1)
pktgen.range.dst_port(send, "start", 53)
pktgen.range.dst_port(send, "inc", 0)
pktgen.range.pkt_size(send, "start", size)
pktgen.range.pkt_size(send, "inc", 0)
pktgen.set_range(send, "on")

pktgen.start(send)
pktgen.delay(seconds * 1000)
pktgen.stop(send)
pktgen.delay(1000)

local offered = pktgen.portStats(send, "port")[tonumber(send)].opackets
local received = pktgen.portStats(receive, "port")[tonumber(receive)].ipackets
printf("offered %d, received %d, lost %d, %.2f Mpps\n", offered, received, offered - received, received / seconds / 1e6)
pktgen.quit()

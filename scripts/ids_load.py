"""What the figures of the IDS are measured with: rules as the field writes them, and web traffic that none of them is for.

    ids_load.py FOLDER   writes FOLDER/load.rules, FOLDER/load.pcap, and of that without what opens and closes connections
                         FOLDER/middle.pcap; the same ones each time
"""

import random
import struct
import sys

RULES = 3_000
CONNECTIONS = 8
# Pages of a connection, and bytes of each.
PAGES = 4
RESPONSE = 64 << 10
SEGMENT = 1_460
# Segments that are sent at once.
WINDOW = 10
HEADERS = 54
# Where a segment's flags are, of which the lowest two are FIN and SYN.
FLAGS = 47
WORDS = """about account after all also any area article back because been before best between both business case change
city class community company contact could country data day department design develop different early education even
every example experience family find first follow form free from general get good government great group health help here
high home house how human idea important include information international issue just know large last law learn level life
like line link list local long look made main make management many market may member might month more most much must name
national need never news next night number office often one only open order other over page part people place plan point
policy possible power present price problem product program project provide public question read real report research
result right school search second section see service set several share should show side site small social some special
start state still story study such support system take team technology text that their them then there these thing think
this through time today together two under university until use value very view way week well what when where which while
who will with within without word work world would year young your""".split()


# ---- rules ----


def rules():
    """As the open rule sets are made up: most look at requests, some at bodies and streams; each has a word of its own."""
    random.seed(7)
    kinds = [(uri, 38), (user_agent, 10), (host, 10), (header, 6), (cookie, 3), (request_body, 8), (file_data, 8),
             (stat, 3), (stream, 9), (sni, 5)]
    makers = [maker for maker, weight in kinds for _ in range(weight)]
    for i in range(RULES):
        direction, options = random.choice(makers)(token(i))
        protocol = "tls" if "tls.sni" in options else "tcp" if "pkt" in options else "http"
        options = options.replace("pkt;", "")
        ports = "any -> $HOME_NET any" if direction == "to_client" else "any -> any any"
        nets = "$EXTERNAL_NET" if direction == "to_client" else "$HOME_NET"
        yield (f'alert {protocol} {nets} {ports} (msg:"LOAD {i}"; flow:established,{direction}; {options} '
               f"classtype:trojan-activity; sid:{9_000_000 + i}; rev:1;)")


def token(i):
    """A word that no text has: six to twelve letters and digits."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=random.randint(5, 10))) + f"{i:x}"


def uri(word):
    path = random.choice(["/wp-content/plugins/", "/cgi-bin/", "/gate/", "/images/", "/panel/", "/"])
    more = ""
    if random.random() < 0.3:
        more = f' content:"?{random.choice(["id", "q", "uid", "ver"])}="; distance:0; within:40;'
    if random.random() < 0.15:
        more += rf' pcre:"/\/{word}\.(?:php|asp|jsp)\?[a-z]{{1,8}}=[0-9a-f]{{8,32}}$/";'
    nocase = " nocase;" if random.random() < 0.4 else ""
    return "to_server", f'http.method; content:"{random.choice(["GET", "POST"])}"; http.uri; content:"{path}{word}";{nocase}{more}'


def user_agent(word):
    return "to_server", f'http.user_agent; content:"{word.capitalize()}/{random.randint(1, 9)}."; startswith;'


def host(word):
    return "to_server", f'http.host; content:"{word}.{random.choice(["com", "net", "top", "xyz", "ru"])}"; endswith;'


def header(word):
    return "to_server", f'http.header; content:"X-{word}|3a 20|"; nocase;'


def cookie(word):
    return "to_server", f'http.cookie; content:"{word}="; pcre:"/{word}=[0-9A-F]{{16}}/";'


def request_body(word):
    return "to_server", f'http.request_body; content:"{word}="; depth:40; content:"&data="; distance:0;'


def file_data(word):
    more = f' content:"eval("; within:200;' if random.random() < 0.5 else ""
    return "to_client", f'file.data; content:"{word}"; fast_pattern;{more}'


def stat(word):
    return "to_client", f'http.stat_code; content:"200"; http.header; content:"{word}";'


def stream(word):
    head = random.randbytes(3).hex(" ")
    return random.choice(["to_server", "to_client"]), f'pkt;content:"|{head}|{word}"; fast_pattern; content:"|00 00|"; distance:4; within:8;'


def sni(word):
    return "to_server", f'tls.sni; content:"{word}.com"; endswith; nocase;'


# ---- traffic ----


def connection(number):
    """A connection, by turns of the two ends: it is opened, pages are fetched, and it is closed. What an end sends at once comes as
    a train, as hosts send it (RFC 6928: ten segments)."""
    client = (bytes([2, 0, 0, 0, 0, 1]), bytes([192, 168, 0, 1 + number]), 20_000 + number)
    server = (bytes([2, 0, 0, 0, 0, 2]), bytes([203, 0, 113, 1 + number % 8]), 80)
    up, down = 1_000 + number, 900_000 + number
    yield [frame(client, server, up, 0, "S")]
    yield [frame(server, client, down, up + 1, "SA")]
    up, down = up + 1, down + 1
    answers = [frame(client, server, up, down, "A")]
    for _ in range(PAGES):
        request = (f"GET /{random.choice(WORDS)}/{random.choice(WORDS)}.html?page={number} HTTP/1.1\r\nHost: www.{random.choice(WORDS)}.example\r\n"
                   "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
                   "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
                   f"Cookie: session={number:032x}\r\n\r\n").encode()
        body = page(RESPONSE)
        response = f"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        yield [*answers, frame(client, server, up, down, "PA", request)]
        up += len(request)
        parts = [response[at:at + SEGMENT] for at in range(0, len(response), SEGMENT)]
        for first in range(0, len(parts), WINDOW):
            segments, answers = [], []
            for place, part in enumerate(parts[first:first + WINDOW]):
                segments.append(frame(server, client, down, up, "A", part))
                down += len(part)
                if place % 2:
                    answers.append(frame(client, server, up, down, "A"))
            yield segments
            if first + WINDOW < len(parts):
                yield answers
    yield [*answers, frame(client, server, up, down, "FA")]
    yield [frame(server, client, down, up + 1, "FA")]
    yield [frame(client, server, up + 1, down + 1, "A")]


def page(length):
    """Text with tags, so many bytes."""
    parts, size = ["<html><body>"], 12
    while size < length:
        words = " ".join(random.choices(WORDS, k=12))
        parts.append(f'<p class="{random.choice(WORDS)}"><a href="/{random.choice(WORDS)}/">{words}</a>.</p>\n')
        size += len(parts[-1])
    return "".join(parts).encode()[:length]


def frame(src, dst, seq, ack, flags, payload=b""):
    """A TCP segment in IPv4 in Ethernet, its checksums right."""
    bits = sum({"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}[letter] for letter in flags)
    tcp = struct.pack("!HHIIBBHHH", src[2], dst[2], seq & 0xffff_ffff, ack & 0xffff_ffff, 5 << 4, bits, 0xffff, 0, 0) + payload
    pseudo = src[1] + dst[1] + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + checksum(pseudo + tcp) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + src[1] + dst[1]
    ip = ip[:10] + checksum(ip) + ip[12:]
    return dst[0] + src[0] + b"\x08\x00" + ip + tcp


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return struct.pack("!H", ~total & 0xffff)


def interleaved(makers):
    """What each sends at once, by turns, until all are done."""
    makers = list(makers)
    while makers:
        for maker in list(makers):
            frames = next(maker, None)
            if frames is None:
                makers.remove(maker)
            else:
                yield from frames


def main(folder):
    """Returns the frames of the capture, and the bytes of their payloads."""
    with open(f"{folder}/load.rules", "w") as file:
        file.writelines(rule + "\n" for rule in rules())
    random.seed(11)
    frames, payload = 0, 0
    with open(f"{folder}/load.pcap", "wb") as file, open(f"{folder}/middle.pcap", "wb") as middle:
        for each in file, middle:
            each.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for at, bytes_ in enumerate(interleaved(connection(i) for i in range(CONNECTIONS))):
            record = struct.pack("<IIII", 1_700_000_000, at, len(bytes_), len(bytes_)) + bytes_
            file.write(record)
            if not bytes_[FLAGS] & 3:
                middle.write(record)
            frames, payload = frames + 1, payload + len(bytes_) - HEADERS
    return frames, payload


if __name__ == "__main__":
    main(sys.argv[1])

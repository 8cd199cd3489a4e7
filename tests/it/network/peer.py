"""The other end of a connection: small servers and clients for the tests of the network.

Servers print `ready` when they listen, and end with their standard input (or the container).
"""
import hashlib
import select
import socket
import struct
import sys
import threading

DATAGRAM = 1 << 16


def address(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, (host, int(port))


def listen(host, port, kind):
    family, place = address(host, port)
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "::":
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(place)
    if kind == socket.SOCK_STREAM:
        server.listen(64)
    return server


def exactly(connection, count):
    """So many bytes, or fewer if the stream ends."""
    data = b""
    while len(data) < count and (piece := connection.recv(min(count - len(data), 1 << 16))):
        data += piece
    return data


def answer(connection):
    """Reads a length and as many bytes, and answers with them backwards; the end answers an end."""
    with connection:
        (count,) = struct.unpack(">Q", exactly(connection, 8))
        connection.sendall(exactly(connection, count)[::-1])
        connection.recv(1)


def serve(*places):
    """serve tcp:HOST:PORT udp:HOST:PORT dns:HOST:PORT…; the host `*` is every address of both families."""
    servers = {}
    for place in places:
        kind, rest = place.split(":", 1)
        host, port = rest.rsplit(":", 1)
        server = listen(host.replace("*", "::"), port, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        servers[server] = kind
    print("ready", flush=True)
    while True:
        for server in select.select([*servers, sys.stdin], [], [])[0]:
            if server is sys.stdin:
                if not sys.stdin.buffer.raw.read(1):
                    return
            elif servers[server] == "tcp":
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
            else:
                data, client = server.recvfrom(DATAGRAM)
                server.sendto(data[::-1] if servers[server] == "udp" else name_answer(data), client)


def name_answer(query):
    """RFC 1035: A is 192.0.2.77, AAAA is 2001:db8::77, and no name begins with an x."""
    end = query.index(b"\0", 12) + 5
    question, kind = query[12:end], struct.unpack(">H", query[end - 4 : end - 2])[0]
    records = {1: socket.inet_aton("192.0.2.77"), 28: socket.inet_pton(socket.AF_INET6, "2001:db8::77")}
    unknown = question[1:2] == b"x"
    record = b"" if unknown else records.get(kind, b"")
    header = query[:2] + struct.pack(">HHHHH", 0x8183 if unknown else 0x8180, 1, 1 if record else 0, 0, 0)
    answer = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(record)) + record
    return header + question + (answer if record else b"")


def connect(host, port, kind, timeout):
    family, place = address(host, port)
    client = socket.socket(family, kind)
    client.settimeout(float(timeout))
    client.connect(place)
    return client


def tcp(host, port, count="5", timeout="5"):
    """Sends so many bytes and wants them backwards; `half` ends the stream before it reads."""
    data = (hashlib.sha256(b"x").digest() * (int(count) // 32 + 1))[: int(count)]
    half = sys.argv[1] == "half"
    try:
        client = connect(host, port, socket.SOCK_STREAM, timeout)
        client.sendall(struct.pack(">Q", len(data)) + data)
        if half:
            client.shutdown(socket.SHUT_WR)
        received = exactly(client, len(data))
        print("whole" if received == data[::-1] else f"{len(received)} bytes came back")
        if half:
            print("ended" if client.recv(1) == b"" else "more came")
    except OSError as error:
        print(error)


def udp(host, port, count="5", timeout="2"):
    data = (b"0123456789" * (int(count) // 10 + 1))[: int(count)]
    try:
        client = connect(host, port, socket.SOCK_DGRAM, timeout)
        client.send(data)
        received = client.recv(DATAGRAM)
        print("whole" if received == data[::-1] else f"{len(received)} bytes came back")
    except OSError as error:
        print(error)


{"serve": serve, "tcp": tcp, "half": tcp, "udp": udp}[sys.argv[1]](*sys.argv[2:])

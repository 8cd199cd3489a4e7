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


def tell(connection, client):
    with connection:
        connection.sendall(plain(client[0]).encode() + b"\n")


def plain(host):
    return host.removeprefix("::ffff:")


def serve(*places):
    """serve tcp:HOST:PORT udp:HOST:PORT dns:HOST:PORT…; the host `*` is every address of both families.

    Servers of the kinds `who` (TCP) and `whou` (UDP) answer with the client's address; `log` prints that of each datagram,
    and what was in it."""
    servers = {}
    for place in places:
        kind, rest = place.split(":", 1)
        host, port = rest.rsplit(":", 1)
        stream = kind in ("tcp", "who")
        server = listen(host.replace("*", "::"), port, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        servers[server] = kind
    print("ready", flush=True)
    while True:
        for server in select.select([*servers, sys.stdin], [], [])[0]:
            if server is sys.stdin:
                if not sys.stdin.buffer.raw.read(1):
                    return
            elif servers[server] == "tcp":
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
            elif servers[server] == "who":
                tell(*server.accept())
            elif servers[server] == "log":
                data, client = server.recvfrom(DATAGRAM)
                print(plain(client[0]), data.decode(), flush=True)
            else:
                data, client = server.recvfrom(DATAGRAM)
                if servers[server] == "whou":
                    server.sendto(plain(client[0]).encode(), client)
                    continue
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


# What timeouts are multiplied with on slow machines.
PATIENCE = 1


def connect(host, port, kind, timeout):
    family, place = address(host, port)
    client = socket.socket(family, kind)
    client.settimeout(float(timeout) * PATIENCE)
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


def reach(port, timeout, *hosts):
    """Of so many addresses, asked all at once: those that give a whole answer, over TCP or UDP."""
    question, found = b"12345", []

    def ask_one(host, kind):
        try:
            client = connect(host, port, kind, timeout)
            head = struct.pack(">Q", len(question)) if kind == socket.SOCK_STREAM else b""
            client.sendall(head + question)
            if exactly(client, len(question)) == question[::-1]:
                found.append(f"{host}/{'tcp' if head else 'udp'}")
        except OSError:
            pass

    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    threads = [threading.Thread(target=ask_one, args=(host, kind)) for host in hosts for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*sorted(found))


def who(host, port, kind="tcp", timeout="5"):
    """Who the other side says that we are."""
    try:
        client = connect(host, port, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM, timeout)
        if kind == "udp":
            client.send(b"?")
        print(client.recv(100).decode().strip() or "nothing came")
    except OSError as error:
        print(error)


TYPES = {"A": 1, "PTR": 12, "AAAA": 28, "MX": 15}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def ask(server, name, kind="A", transport="udp"):
    """Asks a name server: the code, and what it answers, sorted. A cut answer is asked for again over TCP."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    query = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", TYPES[kind], 1)
    try:
        if transport == "udp":
            client = connect(server, 53, socket.SOCK_DGRAM, 5)
            client.send(query)
            reply = client.recv(DATAGRAM)
            if reply[2] & 2:
                print("cut", end=" ")
                return ask(server, name, kind, "tcp")
        else:
            client = connect(server, 53, socket.SOCK_STREAM, 5)
            client.sendall(struct.pack(">H", len(query)) + query)
            reply = exactly(client, struct.unpack(">H", exactly(client, 2))[0])
        print(*read_reply(reply, query))
    except OSError as error:
        print(error)


def read_reply(reply, query):
    number, flags, questions, answers = struct.unpack(">HHHH", reply[:8])
    assert number == 0x1234 and flags & 0x8000 and questions == 1, "no answer to this query"
    at, found = len(query), []
    for _ in range(answers):
        _, at = read_name(reply, at)
        kind, _, _, length = struct.unpack(">HHIH", reply[at : at + 10])
        at += 10
        if kind in (TYPES["A"], TYPES["AAAA"]):
            family = socket.AF_INET if kind == TYPES["A"] else socket.AF_INET6
            found.append(socket.inet_ntop(family, reply[at : at + length]))
        elif kind == TYPES["PTR"]:
            found.append(read_name(reply, at)[0])
        at += length
    return [CODES[flags & 15], *sorted(found)]


def read_name(reply, at):
    labels = []
    while length := reply[at]:
        if length >= 0xC0:
            rest, _ = read_name(reply, (length & 0x3F) << 8 | reply[at + 1])
            return ".".join([*labels, rest]), at + 2
        labels.append(reply[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1


def look_up(name):
    """As any program does it: what getaddrinfo(3) knows of a name, sorted."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)}
        print(*sorted(found))
    except OSError as error:
        print(error)


VERBS = {"serve": serve, "tcp": tcp, "half": tcp, "udp": udp, "reach": reach, "who": who, "ask": ask, "lookup": look_up}
VERBS[sys.argv[1]](*sys.argv[2:])

"""What a test sends and hears with raw sockets: `python3 -c TEXT WORD...`."""
import errno, ipaddress, select, socket, struct, sys


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def ip(text):
    return ipaddress.ip_address(text).packed


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, destination, protocol, payload):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source, destination, protocol, payload):
    return struct.pack("!IHBB", 0x60000000, len(payload), protocol, 255) + source + destination + payload


def icmpv6(source, destination, kind, body):
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = source + destination + struct.pack("!II", len(message), 58)
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


def udp(sport, dport, payload):
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def frame(mark, kind, o):
    own = mac("02:00:00:00:00:01")
    sender, to = mac(o.get("mac", "02:00:00:00:00:01")), mac(o.get("to", "ff:ff:ff:ff:ff:ff"))
    tail = mark.encode()
    four, six = ip(o.get("source", "10.88.0.2")) if kind in ("ip", "dhcp", "udp") else b"", b""
    if kind in ("ip6", "na", "ns", "ra", "redirect", "dhcp6"):
        six = ip(o.get("source", "fd88:0::2"))
    all_nodes = ip("ff02::1")
    if kind == "ip":
        protocol, body = 0x0800, ipv4(four, ip(o.get("address", "10.88.0.3")), 253, tail)
    elif kind in ("dhcp", "udp"):
        body = udp(int(o.get("ports", 67)), int(o.get("port", 68)), tail)
        protocol, body = 0x0800, ipv4(four, ip(o.get("address", "255.255.255.255")), 17, body)
    elif kind == "ip6":
        protocol, body = 0x86DD, ipv6(six, ip(o.get("address", "fd88:0::3")), 253, tail)
    elif kind == "dhcp6":
        protocol, body = 0x86DD, ipv6(six, all_nodes, 17, udp(547, 546, tail))
    elif kind == "arp":
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, int(o.get("operation", 1)))
        body += mac(o["sender_mac"]) if "sender_mac" in o else own
        body += ip(o.get("sender_ip", "10.88.0.2")) + b"\0" * 6 + ip("10.88.0.3")
        protocol, body = 0x0806, body + tail
    elif kind in ("na", "ns"):
        number, option = (136, 2) if kind == "na" else (135, 1)
        target = ip(o.get("target", "fd88:0::2"))
        body = struct.pack("!I", 0x20000000 if kind == "na" else 0) + target + bytes([option, 1]) + own + tail
        protocol, body = 0x86DD, ipv6(six, all_nodes, 58, icmpv6(six, all_nodes, number, body))
    elif kind in ("ra", "redirect"):
        number = 134 if kind == "ra" else 137
        protocol, body = 0x86DD, ipv6(six, all_nodes, 58, icmpv6(six, all_nodes, number, b"\0" * 36 + tail))
    else:
        protocol, body = 0x88B5, tail
    if "vlan" in o:
        protocol, body = 0x8100, struct.pack("!HH", int(o["vlan"]), protocol) + body
    return to + sender + struct.pack("!H", protocol) + body


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def plain(address):
    return address.removeprefix("::ffff:")


def listen(words):
    if words[0] in ("tcp", "udp"):
        kind = socket.SOCK_STREAM if words[0] == "tcp" else socket.SOCK_DGRAM
        server = socket.socket(family(words[1]), kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((words[1], int(words[2])))
        if words[0] == "tcp":
            server.listen()
        heard = lambda: server.accept()[1] if words[0] == "tcp" else server.recvfrom(65536)[1]
        report = lambda found: print(plain(found[0]))
    else:
        server = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
        server.bind((words[0], 0))
        heard = lambda: server.recv(65536)

        def report(found):
            if b"mark-" in found:
                print(found[found.index(b"mark-"):].decode())

    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([server, sys.stdin], [], [])
        if server in readable:
            report(heard())
        elif sys.stdin in readable:
            return


def connect(client, words):
    client.settimeout(1.5)
    try:
        client.connect((words[0], int(words[1])))
        print("connected")
    except TimeoutError:
        print("silence")
    except OSError as error:
        known = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES, errno.ECONNRESET)
        print("refused" if error.errno in known else error)


def main(verb, *words):
    if verb == "listen":
        listen(words)
    elif verb == "send":
        interface, mark, kind, *options = words
        options = dict(option.split("=", 1) for option in options)
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind((interface, 0))
        sender.send(frame(mark, kind, options))
    elif verb == "connect":
        connect(socket.socket(family(words[0])), words)
    elif verb == "transparent":
        client = socket.socket(family(words[0]))
        if ":" in words[0]:
            client.setsockopt(socket.IPPROTO_IPV6, 75, 1)  # IPV6_TRANSPARENT
        else:
            client.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
        client.bind((words[0], 0))
        connect(client, words[1:])
    elif verb == "datagram":
        socket.socket(family(words[0]), socket.SOCK_DGRAM).sendto(words[2].encode(), (words[0], int(words[1])))


main(*sys.argv[1:])

"""Datagrams to what the host means by its own addresses, out of a raw socket: `own_addresses.py INTERFACE PORT`."""
import fcntl, socket, struct, sys

interface, port = sys.argv[1], int(sys.argv[2])


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((interface, 0))
own = raw.getsockname()[4]
for target in ("0.0.0.0", "127.0.0.1", "127.9.9.9", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"):
    head = struct.pack(">HHHH", 4000, port, 8 + len(target), 0)
    if ":" in target:
        source, to = (socket.inet_pton(socket.AF_INET6, address) for address in ("fd00::1234", target))
        body = head + target.encode()
        sum_ = checksum(source + to + struct.pack(">IHBB", len(body), 0, 0, 17) + body)
        body = head[:6] + struct.pack(">H", sum_) + target.encode()
        protocol, packet = 0x86DD, struct.pack(">IHBB", 6 << 28, len(body), 17, 64) + source + to + body
    else:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(target), 1, 0, 64, 17, 0)
        ip += socket.inet_aton("10.0.2.100") + socket.inet_aton(target)
        protocol, packet = 0x0800, ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + head + target.encode()
    for gateway in (b"\x52\x55\x0a\0\2\2", b"\x52\x56\0\0\0\2"):
        raw.send(gateway + own + struct.pack(">H", protocol) + packet)

"""Frames that say they come from somebody else, out of a raw socket (packet(7)).

    forge.py udp INTERFACE FROM-MAC FROM TO-MAC TO PORT TEXT     a datagram
    forge.py arp INTERFACE MAC ADDRESS TO-MAC TO                 an answer: that address is at that MAC
    forge.py nd INTERFACE MAC ADDRESS TO-MAC TO                  the same for IPv6
"""
import socket
import struct
import sys

ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source, target, port, text):
    data = text.encode()
    head = struct.pack(">HHHH", 4444, int(port), 8 + len(data), 0)
    if ":" in source:
        source, target = (socket.inet_pton(socket.AF_INET6, address) for address in (source, target))
        pseudo = source + target + struct.pack(">IHBB", len(head + data), 0, 0, socket.IPPROTO_UDP)
        head = head[:6] + struct.pack(">H", checksum(pseudo + head + data))
        return ETH_P_IPV6, struct.pack(">IHBB", 6 << 28, len(head + data), socket.IPPROTO_UDP, 64) + source + target + head + data
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(head + data), 1, 0, 64, socket.IPPROTO_UDP, 0)
    ip += socket.inet_aton(source) + socket.inet_aton(target)
    return ETH_P_IP, ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + head + data


def arp(own, address, to_mac, target):
    return ETH_P_ARP, struct.pack(">HHBBH", 1, ETH_P_IP, 6, 4, 2) + own + socket.inet_aton(address) + to_mac + socket.inet_aton(target)


def nd(own, address, target):
    """RFC 4861, 4.4: solicited and overriding, with the link-layer address as its option."""
    address, target = (socket.inet_pton(socket.AF_INET6, text) for text in (address, target))
    body = struct.pack(">BBHI", 136, 0, 0, 0x60000000) + address + b"\2\1" + own
    pseudo = address + target + struct.pack(">II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack(">H", checksum(pseudo + body)) + body[4:]
    return ETH_P_IPV6, struct.pack(">IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, 255) + address + target + body


kind, interface, own, address, to_mac, target, *rest = sys.argv[1:]
own, to_mac = mac(own), mac(to_mac)
if kind == "udp":
    protocol, packet = udp(address, target, *rest)
elif kind == "arp":
    protocol, packet = arp(own, address, to_mac, target)
else:
    protocol, packet = nd(own, address, target)
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((interface, 0))
raw.send(to_mac + own + struct.pack(">H", protocol) + packet)

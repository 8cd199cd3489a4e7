"""Makes the system calls named on the command line and prints what each returned: a result or -errno.

A word is NUMBER:ARGUMENT,ARGUMENT..., with `i386:` in front for int 0x80.
"""
import ctypes
import mmap
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def native(number, arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    return -ctypes.get_errno() if result == -1 else result


def i386(number, arguments):
    code = b"\x53"  # push rbx
    for register, argument in zip((0xBB, 0xB9, 0xBA), arguments):  # mov ebx, ecx, edx
        code += bytes([register]) + argument.to_bytes(4, "little")
    code += b"\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3"  # mov eax; int 0x80; pop rbx; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return call()


for word in sys.argv[1:]:
    *kind, number, arguments = word.split(":")
    arguments = [int(argument, 0) for argument in arguments.split(",") if argument]
    print((i386 if kind else native)(int(number, 0), arguments))

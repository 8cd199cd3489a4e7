"""Many TCP connections at once. `crowd.py serve PORT` says `ready` and repeats every byte; `crowd.py HOST PORT TOTAL AT-ONCE`
opens as many as it may hold, sends a byte over each of them, and goes on when all have come back."""
import resource
import select
import socket
import sys

_, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))


def serve(port):
    server = socket.create_server(("", int(port)), backlog=4096)
    server.setblocking(False)
    poll, clients = select.epoll(), {}
    poll.register(server, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            if number == server.fileno():
                try:
                    while True:
                        client, _ = server.accept()
                        client.setblocking(False)
                        clients[client.fileno()] = client
                        poll.register(client, select.EPOLLIN)
                except BlockingIOError:
                    continue
            data = clients[number].recv(1)
            if data:
                clients[number].send(data)
            else:
                poll.unregister(number)
                clients.pop(number).close()


def ask(host, port, total, at_once):
    answered = 0
    while answered < total:
        clients = [socket.create_connection((host, port), 20) for _ in range(min(at_once, total - answered))]
        for client in clients:
            client.send(b"x")
        answered += sum(client.recv(1) == b"x" for client in clients)
        for client in clients:
            client.close()
    print(answered)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    ask(sys.argv[1], *map(int, sys.argv[2:]))

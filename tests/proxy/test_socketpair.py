"""Messages between the worker and its other process: whole, in order, each descriptor with its own."""

import os
import socket
import threading

import pytest

from authsome.proxy.socketpair import Messages


def test_messages_and_descriptors_arrive_as_they_were_sent():
    """Whatever their size, from many threads at once; a descriptor comes with the message that it was sent with."""
    ours, theirs = socket.socketpair()
    sender, receiver = Messages(ours), Messages(theirs)
    ends = [os.pipe() for _ in range(8)]

    def send(number: int) -> None:
        for size in (0, 10, 300_000):
            sender.send({"from": number, "text": "é" * size})
        sender.send({"from": number, "pipe": True}, ends[number][1])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    by_sender: dict[object, list[int]] = {}
    for _ in range(8 * 4):
        message, descriptor = receiver.receive()
        sizes = by_sender.setdefault(message["from"], [])
        if "pipe" in message:
            assert descriptor is not None
            os.write(descriptor, f"from {message['from']}".encode())
            os.close(descriptor)
        else:
            assert descriptor is None
            sizes.append(len(str(message["text"])))
    assert by_sender == {number: [0, 10, 300_000] for number in range(8)}
    for thread in threads:
        thread.join()
    for number, (reading, writing) in enumerate(ends):
        assert os.read(reading, 100) == f"from {number}".encode()
        os.close(reading)
        os.close(writing)
    sender.close()
    with pytest.raises(EOFError):
        receiver.receive()
    with pytest.raises(OSError):  # noqa: PT011  # a broken pipe, or a reset
        receiver.send({})
    receiver.close()


def test_half_a_message_is_none():
    """An end in the middle of one is an end."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b'\0\0\0\x09{"a"')
    receiver = Messages(theirs)
    with pytest.raises(EOFError):
        receiver.receive()
    receiver.close()

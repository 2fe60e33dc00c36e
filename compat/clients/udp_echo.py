"""Echoes datagrams: udp_echo.py ADDRESS PORT"""
import socket
import sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    server.bind((sys.argv[1], int(sys.argv[2])))
    while True:
        data, sender = server.recvfrom(65_535)
        server.sendto(data, sender)

"""The gofer: the one process of a container that may name host files.

`boot.start` forks it, `confine` takes everything from it that it does not need, `server` answers
requests over a SEQPACKET socket, `client` is the sentry's end of that socket.
"""

"""Terminals: termios, the line discipline, ptys, controlling terminals, the console (tty(4), pty(7))."""

"""proc(5): /proc of the sandbox. What the host kernel knows of a guest task comes from the sentry's private
procfs, translated: no host pid, path, inode number or mapping of ours is ever shown.

    facts.py    what is learnt of the host before it is out of reach
    fs.py       the file system: its root, the list of processes
    system.py   files about the whole system: uptime, meminfo, cpuinfo, ...
    sysctl.py   /proc/sys
    net.py      /proc/net
    task.py     the directory of a process or thread
    status.py   its stat, status, statm
    maps.py     its maps, smaps, auxv
    fds.py      its fd and fdinfo
    mounts.py   mounts, mountinfo
    access.py   who may look
"""

"""A static busybox: its shell and its applets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

TREE = r"""
mkdir -p tree/a/b tree/c; cd tree
for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i of the first file" >> a/one; seq $i >> a/b/two; done
ln -s ../a/one c/link; printf 'needle\nhay\n' > c/three; echo hidden > .hidden; touch 'with space'
"""

SCRIPTS = {
    "exit_code": "exit 0",
    "echo": "echo hello; printf '%s|%d|%05.1f\\n' text 42 3.14159",
    "pipes": "seq 1000 | grep 7 | sort -r | head -5 | tr '0-9' 'a-j'",
    "long_pipeline": "seq 20000 | cat | cat | cat | cat | tail -1; yes | head -c 100000 | wc -c",
    "here_document": "cat <<END | sed 's/o/0/g'\none two\n$((6 * 7))\nEND\ncat <<'END'\nkept $as is\nEND",
    "background_jobs": "for i in 3 1 2; do (sleep 0.$((i * 3)); echo job $i) & done; wait; echo all; (exit 5) & wait $!; echo $?",
    "trap": "trap 'echo caught TERM' TERM; trap 'echo bye' EXIT; kill -TERM $$; echo after; exit 3 2>/dev/null",
    "kill_background": "sleep 100 & kill $!; wait $!; echo $?; sleep 100 & kill -9 $!; wait $!; echo $?",
    "subshells": "x=1; (x=2; echo $x); echo $x; y=$(echo in; exit 4); echo $? $y; echo `echo old`",
    "functions": "f() { [ $1 -le 1 ] && echo 1 && return; echo $(( $1 * $(f $(($1 - 1))) )); }; f 8",
    "redirections": "echo out > f; echo more >> f; cat f; ls missing 2> e; wc -l < e; exec 3> g; echo three >&3; cat g; "
    "{ echo a; echo b >&2; } 2>&1 | sort",
    "read_loop": "printf 'a b\\nc d\\n' | while read x y; do echo $y $x; done",
    "glob": TREE + "echo *; echo */*; echo .*; echo [w]*; cd a; echo ../c/*",
    "find": TREE + "find . | sort; find . -type f -name 't*' | sort; find . -size -1k -type f -exec basename {} \\; | sort",
    "find_exec": TREE + "find . -name 'o*' -exec rm {} +; find . | sort | wc -l; find . -type f | xargs -n1 -I{} echo got {} | sort",
    "grep_recursive": TREE + "grep -r needle . ; grep -rc line a | sort; grep -n '^1$' a/b/two | head -3; grep -v hay c/three",
    "sed": TREE + "sed -n '2,4p' a/one; sed -i 's/line/LINE/;3d' a/one; cat a/one; sed '$!N;s/\\n/ + /' c/three",
    "awk": TREE + "awk '{ s += $2 } END { print NR, s, s / NR }' a/one; awk -F: '{ print $1 }' /etc/passwd; "
    "awk 'BEGIN { for (i = 0; i < 5; i++) printf \"%d \", i * i; print toupper(\"end\") }'",
    "tar": TREE + "cd ..; tar cf t.tar tree; tar tf t.tar | sort; mkdir out; tar xf t.tar -C out; diff -r tree out/tree; "
    "echo $?; tar czf t.tgz tree; tar tzf t.tgz | wc -l; readlink out/tree/c/link",
    "gzip": "seq 5000 > n; gzip -k n; gunzip -c n.gz | md5sum; gzip -t n.gz; echo $?; rm n; gunzip n.gz; wc -c n; "
    "seq 100 | bzip2 -c | bunzip2 -c | tail -1",
    "file_tools": TREE + "cp -a a copy; diff -r a copy && echo same; mv copy moved; rm -r moved; ls -1 -R . | sort; "
    "stat -c '%n %s %a %F' a/one c/link; stat -c '%a %F' c; du -a c 2>/dev/null | wc -l; cmp a/one a/b/two | head -1; basename /x/y; realpath c/link",
    "text_tools": "seq 10 | paste - - ; printf 'b 2\\na 1\\n' | sort -k2 -n; cut -d: -f1,3 /etc/passwd; "
    "echo abc | rev; echo text | md5sum; echo text | sha256sum; seq 5 | tac; printf 'a\\nb\\na\\n' | sort | uniq -c; "
    "echo hello | od -c; echo hi | hexdump -C; seq 3 | xargs echo; expr 7 \\* 6; seq 9 | nl | tail -2; fold -w 3 /etc/hostname",
    "permissions": "umask 027; touch f; mkdir d; stat -c '%a' f d; chmod u+x,o+r f; stat -c %a f; chown 1000:1000 f; stat -c '%u %g' f; id; whoami",
    "su": "echo secret > f; chmod 600 f; su user -c 'id; cat /tmp/f; echo $?; echo mine > /tmp/mine; stat -c %u /tmp/mine'",
    "dd": "dd if=/dev/zero of=f bs=4k count=100 2>/dev/null; wc -c f; dd if=f bs=1 skip=5 count=7 2>/dev/null | wc -c; "
    "head -c 100 /dev/urandom | wc -c; dd if=/dev/zero bs=1M count=8 2>/dev/null | md5sum",
    "mktemp": "f=$(mktemp); d=$(mktemp -d); test -f $f && test -d $d && echo made; rmdir $d",
    "env": "export A=1 B='two words'; sh -c 'echo $A $B'; env | grep -E '^(A|B|HOME|PATH|TERM)=' | sort; env -i C=3 /usr/bin/env",
    "time_tools": "date -u -d @86400 '+%Y-%m-%d %H:%M'; sleep 0.05; timeout 1 sleep 5; echo $?; usleep 1000; touch -d '2020-01-02 03:04' f; date -u -r f +%F",
    "ulimit": "ulimit -n 64; ulimit -n; ulimit -c 0; ulimit -c",
    "signals_exit": "sh -c 'kill -9 $$'; echo $?; sh -c 'kill -SEGV $$'; echo $?; sh -c 'exit 200'; echo $?; nosuchcommand; echo $?; /etc/passwd; echo $?",
    "fifo": "mkfifo p; (cat p > got) & echo through > p; wait; cat got",
    "stdin": "cat; echo end",
    "command_substitution_depth": "echo $(echo $(echo $(echo $(echo deep))))",
    "many_processes": "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i + 1)); done; echo $i",
    "many_files": "mkdir m; cd m; for i in $(seq 500); do echo $i > f$i; done; ls | wc -l; cat f* | sort -n | tail -1; rm -r ../m; ls .. | wc -l",
    "proc_files": "cat /proc/self/comm; tr '\\0' ' ' < /proc/self/cmdline; echo; grep -c processor /proc/cpuinfo; cat /proc/sys/kernel/ostype; ls -l /proc/self/exe | sed 's/.*->//'",
    "hostname": "hostname; cat /proc/sys/kernel/hostname; uname -n; uname -s",
    "diff": "seq 5 > a; seq 2 6 > b; diff a b; echo $?; diff -u a b | tail -n +3",
    "cpio": "mkdir c; echo x > c/f; find c | cpio -o -H newc 2>/dev/null | cpio -t 2>/dev/null | sort",
    # A listener whose stdin ends says so, and the client leaves: not before its text has come.
    "nc_listener": (
        "> got; until grep -q listener got; do sleep 0.02; done | nc -l -p 4321 > got &"
        "until netstat -ltn | grep -q :4321; do sleep 0.02; done; echo to the listener | nc 127.0.0.1 4321; wait; cat got"
    ),
    "nc_both_ways": (
        "> got; { echo answer; until grep -q question got; do sleep 0.02; done; } | nc -l -p 4322 > got &"
        "until netstat -ltn | grep -q :4322; do sleep 0.02; done; echo question | nc 127.0.0.1 4322; wait; cat got"
    ),
    "nc_refused": "nc 127.0.0.1 4323 < /dev/null; echo $?",
    "ifconfig": "ip addr show lo | grep -E 'inet 127|LOOPBACK' | sed 's/mtu.*//;s/.*<//;s/>.*//'",
    "root_listing": "ls -a / | grep -v -E '^(probe|sys)$'",
    "dev_listing": "ls /dev | grep -v -E '^(core|mqueue|console)$'; ls -l /dev/null /dev/zero | cut -c1-10",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, same: Callable[..., object], busybox_root: Path) -> None:
    codes = {"trap": 3}
    same(SCRIPTS[name], busybox_root, stdin=b"from stdin\n", code=codes.get(name, 0))


def test_ps(same: Callable[..., object], busybox_root: Path) -> None:
    """The processes and their commands; not their memory."""
    script = "sleep 50 & sleep 51 & sleep 0.3; ps -o pid,ppid,comm,args; kill $(jobs -p) 2>/dev/null"

    def rows(text: str) -> str:
        return "\n".join(re.sub(r"^ *\d+ ", lambda pid: "1 " if int(pid[0]) == 1 else "pid ", row) for row in text.splitlines())

    same(script, busybox_root, only=lambda text: re.sub(r" +", " ", rows(text)))


def test_top(same: Callable[..., object], busybox_root: Path) -> None:
    """What top names, not what it measures."""

    def commands(text: str) -> str:
        rows = [line for line in text.splitlines() if re.match(r"\s*\d+\s+\d+ ", line)]
        heads = [word for word in ("Mem:", "CPU:", "Load average:") if word in text]
        return "\n".join([*heads, *(" ".join(row.split()[1:3]) + " " + row.split()[-1] for row in rows)])

    same("sleep 50 & top -b -n1; kill $!", busybox_root, only=commands)


def test_mount(same: Callable[..., object], busybox_root: Path) -> None:
    """The mount points and their types that both have."""

    def points(text: str) -> str:
        kept = ("/proc", "/dev", "/dev/pts", "/dev/shm", "/sys")
        rows = [line.split() for line in text.splitlines()]
        return "\n".join(sorted(f"{row[2]} {row[4]}" for row in rows if row[2] in kept))

    same("mount", busybox_root, only=points)


def test_df(same: Callable[..., object], busybox_root: Path) -> None:
    """df knows the root and /dev, and prints numbers for them."""

    def rows(text: str) -> str:
        found = [line.split() for line in text.splitlines()[1:]]
        return "\n".join(
            sorted(f"{row[-1]} {all(part.isdigit() for part in row[1:4])}" for row in found if row[-1] in ("/", "/dev"))
        )

    same("df -k", busybox_root, only=rows)


def test_free_and_uptime(same: Callable[..., object], busybox_root: Path) -> None:
    same("free | wc -l; uptime | grep -c 'load average'; nproc > /dev/null; echo $?", busybox_root)

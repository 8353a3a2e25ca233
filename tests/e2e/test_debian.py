"""A Debian: bash, coreutils, perl, python3, a compiler under make, git."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

BASH = {
    "arrays": "a=(one two three); declare -A m=([x]=1 [y]=2); echo ${a[@]:1} ${#a[@]} ${m[y]}; for k in ${!a[@]}; do echo $k; done",
    "process_substitution": "diff <(seq 5) <(seq 2 6); paste <(seq 3) <(seq 4 6); tee >(wc -l > n) < /etc/passwd | wc -c > /dev/null; sleep 0.3; test -s n && echo counted",
    "coprocess": "coproc cat; echo through >&${COPROC[1]}; read x <&${COPROC[0]}; echo $x; kill $COPROC_PID; wait 2>/dev/null; echo done",
    "pipefail": "set -o pipefail; false | true; echo $?; true | exit 3; echo ${PIPESTATUS[@]}",
    "traps": "trap 'echo usr1' USR1; trap 'echo exiting' EXIT; kill -USR1 $$; (kill -USR1 $$) ; sleep 0.1; echo after",
    "wait_n": "(sleep 0.3; exit 3) & (sleep 0.1; exit 1) & wait -n; echo $?; wait -n; echo $?; wait",
    "here_string": "read -r a b <<< 'x y z'; echo \"$b\"; mapfile -t lines < /etc/hosts; echo ${#lines[@]}",
    "regex": "[[ abc123 =~ ^([a-z]+)([0-9]+)$ ]] && echo ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}; printf '%q\\n' \"a b'c\"",
    "dev_tcp": "(echo reply | nc -l -N 127.0.0.1 5555 > got) & sleep 0.4; exec 3<>/dev/tcp/127.0.0.1/5555; echo asked >&3; cat <&3; exec 3>&-; wait; cat got",
    "timeouts": "timeout 0.2 sleep 10; echo $?; timeout -s KILL 0.2 sleep 10; echo $?; read -t 0.1 x < <(sleep 1); echo $?",
    "ulimits": "ulimit -n 100; ulimit -Hn; bash -c 'ulimit -n'; ulimit -u 200 && echo ok",
    "script": "script -qec 'echo inside; stty size; tty | cut -c1-8' /dev/null < /dev/null | tr -d '\\r'; script -qec 'exit 9' /dev/null < /dev/null; echo $?; script -qec 'sleep 0.1; kill -9 $$' /dev/null < /dev/null; echo $?",
    "runuser": "runuser -u daemon -- sh -c 'id -un; exit 2'; echo $?; runuser -u daemon -P -- sh -c 'tty | cut -c1-8' < /dev/null | tr -d '\\r'; timeout 0.3 runuser -u daemon -- sleep 20 2> /dev/null; echo $?",
    "job_table": "sleep 20 & sleep 21 & jobs | sed 's/ *&$//'; kill %1 %2; wait; echo none",
}

COREUTILS = {
    "listing": "mkdir -p d/e; echo x > d/f; ln -s f d/l; ls -lR --time-style=+ d | awk '{ print $1, $3, $4, $NF }' | grep -v ^total; ls -1 --color=never d; dir d; stat -c '%A %h %U %G %n' d/f d/l",
    "copying": "mkdir s; echo 1 > s/a; ln s/a s/b; ln -s a s/c; chmod 741 s/a; cp -a s t; stat -c '%a %h %F' t/a t/b t/c; cp -r s u; mv u v; install -m 700 s/a w; stat -c %a w; ln -f s/a w; shred -u s/b && ls s",
    "text": "seq 100 > n; sort -rn n | head -3; shuf -n 5 n | wc -l; cut -c1 n | uniq -c | head -2; tr 1-3 a-c < n | tail -3; comm -12 <(seq 5 | sort) <(seq 3 8 | sort); join <(seq 3) <(seq 2 5); fmt -w 20 /etc/hosts; pr -t -2 -l5 n | head -2; nl n | tail -1; expand n | wc -c; csplit -s n 50 && wc -l xx*; split -n 3 n part; cat part* | cmp - n && echo whole; tac n | sed 1q; od -An -tx1 -N4 n; ptx -w 20 /dev/null; tsort <<< 'a b b c'; factor 360; seq -s, 5; numfmt --to=iec 1048576; printf '%05d %s %x\\n' 42 str 255",
    "sums": "seq 1000 > n; md5sum n; sha1sum n; sha512sum n | cut -c1-16; b2sum n | cut -c1-16; cksum n; sum n; base64 n | md5sum; sha256sum n > s; sha256sum -c s; basenc --base16 <<< x",
    "paths": "basename /a/b.c .c; dirname /a/b; mkdir -p a/b; ln -s b a/l; realpath a/l; readlink -f a/l; realpath --relative-to=a /etc; pathchk x && echo ok; pwd -P; mktemp -u | wc -c",
    "state": "touch -d '2021-05-06 07:08:09.123456789' f; stat -c '%y %s' f; date -u -d @0; chmod 2755 .; stat -c %a .; truncate -s 100k f; stat -c '%s' f; fallocate -l 5000 g; stat -c %s g; sync; df . > /dev/null; echo $?; test -w f -a ! -x f && echo rw; du -b f; tty; id; groups; logname 2>/dev/null; who | wc -l; nproc > /dev/null; arch; uptime | wc -l; hostid | wc -c",
    "running": "env -i A=1 env; nice -n 5 nice; nohup echo nohup 2>/dev/null; stdbuf -oL echo buffered; chroot / echo chrooted; setpriv --reuid 1000 --clear-groups id -u; timeout 5 true; echo $?; yes | head -2; kill -l 9; expr 2 + 3; command time -f %x true; xargs -P 4 -n 1 echo < <(seq 8) | sort",
    "devices": "head -c 5 /dev/zero | od -An -c; echo x > /dev/null; echo x > /dev/full; echo $?; dd if=/dev/urandom bs=1k count=3 2>/dev/null | wc -c; mknod p p; stat -c %F p; test -c /dev/tty && echo tty; stty 2>&1 < /dev/null | wc -l",
    "find_and_friends": "mkdir -p a/{b,c}/d; touch a/{1..20}.txt; find a -name '*.txt' -newermt 2020-01-01 | wc -l; find a -type d -printf '%P %y\\n' | sort; find a -name '1*' -delete; ls a | wc -l; find a -empty -type f -print0 | xargs -0 rm; find a | sort; grep -rl root /etc/passwd; zcat <(gzip -c /etc/passwd) | diff - /etc/passwd && echo zipped; tar cJf t.tar.xz a; tar tJf t.tar.xz | sort",
    "text_processors": "awk 'BEGIN{srand(1); for(i=0;i<3;i++) x[i]=i*i; for(k in x) n+=x[k]; print n; \"date -u -d @0 +%Y\" | getline y; print y}'; sed -E 's/(.)(.)/\\2\\1/g' <<< abcd; bc <<< 'scale=20; 4*a(1)' -l; diff -u <(seq 3) <(seq 4) | tail -1; patch -s <(seq 3) /dev/null && echo patched; file -b /bin/true | cut -d, -f1; sqlite3 :memory: 'select 6*7, upper(\"x\")'; strings /bin/true | grep -c GLIBC > /dev/null; echo $?; less /etc/hosts | cat; ldd /bin/true | grep -c libc",
    "processes": "sleep 30 & ps -o ppid=,comm= > p; sort p | tr -s ' '; pgrep sleep | wc -l; pkill sleep; wait; ps -e -o comm= > p; sort p; ps aux | head -1 | tr -s " "; free | wc -l; cat /proc/1/comm; vmstat > /dev/null; echo $?; top -b -n1 | grep -c top",
}

SYSTEM_V = {
    "ipcs": "ipcmk -M 10000 -p 0640 | cut -d: -f1; ipcmk -S 3 > /dev/null; ipcmk -Q > /dev/null; ipcs | sed 's/0x[0-9a-f]* /KEY /'; ipcs -l; ipcs -u; ipcs -c; for kind in m s q; do ipcs -$kind -i 0 | grep -Ev 'time|pid='; done; ipcrm -m 0 -s 0 -q 0; ipcrm -m 0; lsipc | sed 's/ *[0-9.]*%$//'; ipcrm --all; ipcs -t | wc -l",
    "perl": r"""perl -MIPC::SysV=IPC_PRIVATE,IPC_RMID,S_IRUSR,S_IWUSR -MIPC::Semaphore -MIPC::Msg -e '
        $m = shmget(IPC_PRIVATE, 100, S_IRUSR|S_IWUSR); if (!fork) { shmwrite($m, "from the child", 0, 14); exit } wait; shmread($m, $x, 0, 14); print "$x\n"; print shmctl($m, IPC_RMID, 0), "\n";
        $s = IPC::Semaphore->new(IPC_PRIVATE, 2, 0600); $s->setall(1, 0); if (!fork) { $s->op(0, -1, 0, 1, 1, 0); exit } $s->op(1, -1, 0); wait; print join(",", $s->getall), "\n"; $s->remove;
        $q = IPC::Msg->new(IPC_PRIVATE, 0600); if (!fork) { $q->snd(5, "hello"); exit } print $q->rcv($b, 100, 5), " $b\n"; wait; $q->remove'""",
}

PERL = {
    "basics": r"""perl -e 'my %h = map { $_ => $_**2 } 1..5; print join(",", map { "$_=$h{$_}" } sort keys %h), "\n"; print scalar(localtime(0)) ne "" ? "ok\n" : "no\n"'""",
    "fork": r"""perl -e '$|=1; for (1..5) { my $p = fork // die; if (!$p) { exit $_ } waitpid $p, 0; print $? >> 8, "\n" }'""",
    "pipe_open": r"""perl -e 'open my $f, "-|", "seq 5" or die; print "got $_" while <$f>; close $f; open $f, "|-", "sort -r"; print $f "$_\n" for 1..3; close $f'""",
    "sockets": r"""perl -MIO::Socket -e '$s = IO::Socket::INET->new(Listen=>1, LocalAddr=>"127.0.0.1", LocalPort=>5556) or die; if (!fork) { $c = IO::Socket::INET->new("127.0.0.1:5556"); print $c "hi\n"; print <$c>; exit } $a = $s->accept; $l = <$a>; print $a "you said $l"; close $a; wait'""",
    "signals": r"""perl -e '$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef,undef,undef,10 }; print $@; $SIG{USR1} = sub { print "usr1\n" }; kill USR1 => $$;'""",
    "files": r"""perl -e 'open F, "+>", "f"; print F "a\nb\nc\n"; seek F, 0, 0; @l = <F>; print scalar @l, -s "f", "\n"; mkdir "d"; opendir D, "."; print join " ", sort grep !/^\./, readdir D; print "\n"; unlink "f"; print -e "f" ? "is" : "gone", "\n"; print ((stat "/etc/passwd")[2] & 0777); print "\n"'""",
}

PYTHON = {
    "threads": """
        import threading, queue, time
        jobs, done = queue.Queue(), []
        lock = threading.Lock()
        def work():
            while (n := jobs.get()) is not None:
                with lock: done.append(n * n)
                jobs.task_done()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for t in threads: t.start()
        for n in range(200): jobs.put(n)
        jobs.join()
        for _ in threads: jobs.put(None)
        for t in threads: t.join()
        print(sum(done), len(done), threading.active_count())
        timer = threading.Timer(0.05, lambda: print("timer")); timer.start(); timer.join()
        event = threading.Event(); print(event.wait(0.05))
        barrier = threading.Barrier(3)
        more = [threading.Thread(target=barrier.wait) for _ in range(2)]
        for t in more: t.start()
        barrier.wait(); print("passed")
    """,
    "subprocess": """
        import subprocess, sys, os, signal
        print(subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout)
        print(subprocess.run("exit 3", shell=True).returncode)
        p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        print(p.communicate(b"x" * 300000)[0] == b"x" * 300000, p.returncode)
        try: subprocess.run(["sleep", "10"], timeout=0.2)
        except subprocess.TimeoutExpired: print("timeout")
        p = subprocess.Popen(["sleep", "100"]); p.send_signal(signal.SIGTERM); print(p.wait())
        try: subprocess.run(["/no/such"])
        except FileNotFoundError as e: print(e)
        print(subprocess.run([sys.executable, "-c", "import sys; print(sys.argv)", "a", "b c"], capture_output=True, text=True).stdout)
        print(subprocess.run("echo out; echo err >&2; pwd", shell=True, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, cwd="/etc", env={"A": "1"}, start_new_session=True).stdout)
        r, w = os.pipe(); p = subprocess.Popen(["sh", "-c", f"echo passed >&{w}"], pass_fds=[w]); os.close(w); print(os.read(r, 10)); p.wait()
        print(os.system("exit 4") >> 8, os.popen("seq 3 | tail -1").read())
    """,
    "multiprocessing": """
        import multiprocessing as mp
        def square(n): return n * n
        def child(conn, value, queue):
            with value.get_lock(): value.value += 5
            conn.send({"got": conn.recv()}); queue.put("queued")
        def main():
            for method in ("fork", "spawn", "forkserver"):
                ctx = mp.get_context(method)
                with ctx.Pool(3) as pool:
                    print(method, pool.map(square, range(10)), pool.apply_async(square, (7,)).get(20))
                here, there = ctx.Pipe(); value = ctx.Value("i", 1); queue = ctx.Queue()
                p = ctx.Process(target=child, args=(there, value, queue)); p.start()
                here.send([1, 2]); print(here.recv(), queue.get()); p.join(); print(value.value, p.exitcode)
            from multiprocessing import shared_memory
            s = shared_memory.SharedMemory(create=True, size=100); s.buf[:5] = b"hello"
            t = shared_memory.SharedMemory(s.name); print(bytes(t.buf[:5])); t.close(); s.close(); s.unlink()
            from concurrent.futures import ProcessPoolExecutor
            with ProcessPoolExecutor(2) as pool: print(list(pool.map(square, range(5))))
        if __name__ == "__main__": main()
    """,
    "asyncio_tcp": """
        import asyncio
        async def serve(reader, writer):
            while line := await reader.readline():
                writer.write(b"echo " + line); await writer.drain()
            writer.close()
        async def client(port, n):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for i in range(20):
                writer.write(f"{n} {i}\\n".encode()); line = await reader.readline()
            writer.close(); await writer.wait_closed()
            return line
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            print(await asyncio.gather(*(client(port, n) for n in range(20))))
            server.close()
            p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            print(await p.communicate(b"through cat"), p.returncode)
            try: await asyncio.wait_for(asyncio.sleep(5), 0.1)
            except asyncio.TimeoutError: print("timeout")
            print(await asyncio.get_running_loop().run_in_executor(None, sum, range(100)))
        asyncio.run(main())
    """,
    "asyncio_unix": """
        import asyncio, os, signal
        async def serve(reader, writer):
            data = await reader.read(); writer.write(data.upper()); writer.close()
        async def main():
            server = await asyncio.start_unix_server(serve, "/tmp/s")
            for _ in range(5):
                reader, writer = await asyncio.open_unix_connection("/tmp/s")
                writer.write(b"x" * 100000); writer.write_eof(); got = await reader.read()
                print(len(got), got[:2]); writer.close()
            server.close()
            loop = asyncio.get_running_loop(); done = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, done.set); os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(done.wait(), 5); print("signal")
        asyncio.run(main())
    """,
    "sqlite3": """
        import sqlite3, threading
        db = sqlite3.connect("/tmp/t.db", timeout=20)
        print(db.execute("pragma journal_mode=wal").fetchone())
        db.execute("create table t(a integer primary key, b text)")
        with db: db.executemany("insert into t(b) values(?)", [(f"row {i}",) for i in range(1000)])
        def add(n):
            own = sqlite3.connect("/tmp/t.db", timeout=20)
            for i in range(20):
                with own: own.execute("insert into t(b) values(?)", (f"thread {n} {i}",))
            own.close()
        threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
        [t.start() for t in threads]; [t.join() for t in threads]
        print(db.execute("select count(*), max(length(b)) from t").fetchone())
        db.execute("create index i on t(b)"); print(db.execute("select a from t where b='row 500'").fetchone())
        db.execute("vacuum"); print(db.execute("pragma integrity_check").fetchone()); db.close()
        other = sqlite3.connect("/tmp/u.db"); other.execute("pragma journal_mode=delete")
        with other: other.execute("create table x(y)"); other.execute("insert into x values(1)")
        try:
            with other: other.execute("insert into x values(2)"); raise ValueError
        except ValueError: print(other.execute("select * from x").fetchall())
    """,
    "files": """
        import os, tempfile, shutil, mmap, pathlib, glob, stat, fcntl, select, time
        d = pathlib.Path(tempfile.mkdtemp()); (d / "a").write_text("hello"); os.link(d / "a", d / "b"); os.symlink("a", d / "c")
        print(sorted(os.listdir(d)), (d / "c").read_text(), os.stat(d / "a").st_nlink)
        print([(e.name, e.is_file(), e.is_symlink()) for e in sorted(os.scandir(d), key=lambda e: e.name)])
        with open(d / "a", "r+b") as f:
            m = mmap.mmap(f.fileno(), 0); m[0:1] = b"J"; m.flush(); m.close()
        print((d / "b").read_text()); shutil.copytree(d, "/tmp/copy", symlinks=True); print(sorted(glob.glob("/tmp/copy/*")))
        shutil.rmtree(d); print(d.exists()); print(shutil.disk_usage("/tmp").total > 0)
        with tempfile.TemporaryFile() as f: f.write(b"x" * 10000); f.seek(5000); print(len(f.read()))
        r, w = os.pipe(); os.set_blocking(r, False)
        try: os.read(r, 1)
        except BlockingIOError as e: print(e)
        print(select.select([r], [w], [], 0)[1] == [w]); print(os.path.realpath("/tmp/copy/c"))
        for base, dirs, names in os.walk("/tmp/copy"): print(base, sorted(names))
        os.utime("/tmp/copy/a", (1, 2)); print(os.stat("/tmp/copy/a").st_mtime); print(oct(os.stat("/tmp").st_mode))
        fd = os.open("/tmp/copy/a", os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX); print(os.pread(fd, 2, 1), os.sendfile(w, fd, 0, 3), os.read(r, 9))
    """,
    "sockets": """
        import socket, threading, socketserver, array, os, http.server, urllib.request
        a, b = socket.socketpair(); f = open("/etc/hostname"); socket.send_fds(a, [b"fd"], [f.fileno()])
        data, fds, _, _ = socket.recv_fds(b, 10, 1); print(data, os.read(fds[0], 100))
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        v.sendto(b"datagram", u.getsockname()); print(u.recvfrom(100)[0])
        class H(http.server.BaseHTTPRequestHandler):
            def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(self.path.encode() * 1000)
            def log_message(self, *a): pass
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H); threading.Thread(target=s.serve_forever, daemon=True).start()
        for i in range(10): print(len(urllib.request.urlopen(f"http://127.0.0.1:{s.server_port}/{i}").read()))
        print(socket.gethostbyname("localhost"), socket.getaddrinfo("127.0.0.1", 80)[0][4])
        try: socket.create_connection(("127.0.0.1", 1), 1)
        except ConnectionRefusedError as e: print(e)
        t = socket.socket(); t.settimeout(0.1); t.bind(("127.0.0.1", 0)); t.listen()
        try: t.accept()
        except TimeoutError as e: print(e)
        s.shutdown()
    """,
    "signals": """
        import signal, os, time, sys, faulthandler, resource, ctypes
        signal.signal(signal.SIGUSR1, lambda s, f: print("usr1")); os.kill(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGALRM, lambda s, f: (_ for _ in ()).throw(InterruptedError("alarm")))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try: time.sleep(5)
        except InterruptedError as e: print(e)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); os.kill(os.getpid(), signal.SIGUSR2)
        print(signal.sigpending(), signal.sigwait([signal.SIGUSR2]))
        pid = os.fork()
        if not pid: os.kill(os.getpid(), signal.SIGSEGV)
        print(os.WTERMSIG(os.waitpid(pid, 0)[1])); print(resource.getrlimit(resource.RLIMIT_CORE) is not None)
        print(os.cpu_count() > 0, os.getloadavg()[0] >= 0, sys.getfilesystemencoding(), len(os.urandom(9)), os.uname().sysname)
        print(ctypes.CDLL(None).getpid() == os.getpid())
    """,
    "wakeup_fd": """
        import asyncio, os, select, signal, socket, threading, time
        r, w = socket.socketpair(); r.setblocking(False); w.setblocking(False)
        signal.set_wakeup_fd(w.fileno())
        handled, got = [], []
        for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD): signal.signal(number, lambda n, f: handled.append(n))
        def drain():
            select.select([r], [], [], 5)
            try: got.extend(r.recv(4096))
            except BlockingIOError: pass
        for _ in range(200): os.kill(os.getpid(), signal.SIGUSR1); drain()
        print(got.count(signal.SIGUSR1), handled.count(signal.SIGUSR1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.time() + 20
        while got.count(signal.SIGALRM) < 100 and time.time() < end: drain()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(got.count(signal.SIGALRM) >= 100)
        if not os.fork(): os._exit(0)
        os.wait(); drain()
        print(got.count(signal.SIGCHLD))
        signal.set_wakeup_fd(-1)
        async def main():
            seen = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, seen.set)
            async def child(code):
                process = await asyncio.create_subprocess_exec("sh", "-c", f"kill -USR2 {os.getpid()}; exit {code}")
                return await process.wait()
            print(await asyncio.gather(*map(child, range(10))))
            await asyncio.wait_for(seen.wait(), 5)
        asyncio.run(main())
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
        senders = []
        def wait(): senders.extend(signal.sigwaitinfo([signal.SIGRTMIN]) for _ in range(50))
        thread = threading.Thread(target=wait); thread.start()
        for _ in range(50): os.kill(os.getpid(), signal.SIGRTMIN)
        thread.join()
        print({(info.si_code, info.si_pid == os.getpid()) for info in senders})
    """,
}

VENV = r"""
set -e
python3 -m venv --without-pip plain; ls plain/bin | sort; plain/bin/python -c 'import sys; print(sys.prefix, sys.base_prefix)'
python3 -m venv full; full/bin/pip --version | cut -d' ' -f1,4; full/bin/python -c 'import pip; print("imported")'
mkdir -p pkg/thing; echo 'def f(): return 42' > pkg/thing/__init__.py
printf 'from setuptools import setup\nsetup(name="thing", version="1", packages=["thing"])\n' > pkg/setup.py
full/bin/pip install -q --no-index --no-build-isolation --no-deps ./pkg 2>/dev/null; full/bin/python -c 'import thing; print(thing.f())'
"""

MAKE = r"""
set -e
mkdir p; cd p
for i in 1 2 3 4 5 6; do printf '#include "all.h"\nlong part%d(long n) { long s = 0; for (long i = 0; i < n; i++) s += i %% %d; return s; }\n' $i $((i + 1)) > part$i.c; done
for i in 1 2 3 4 5 6; do echo "long part$i(long);"; done > all.h
cat > main.c <<'END'
#include "all.h"
#include <pthread.h>
#include <stdio.h>
static long (*parts[])(long) = {part1, part2, part3, part4, part5, part6};
static long results[6];
static void *run(void *n) { results[(long)n] = parts[(long)n](100000); return 0; }
int main(void) {
    pthread_t t[6];
    for (long i = 0; i < 6; i++) pthread_create(&t[i], 0, run, (void *)i);
    for (int i = 0; i < 6; i++) pthread_join(t[i], 0);
    for (int i = 0; i < 6; i++) printf("%d %ld\n", i, results[i]);
    return 7;
}
END
cat > Makefile <<'END'
OBJECTS = $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
CFLAGS = -O1 -Wall
program: $(OBJECTS)
	$(CC) -pthread -o $@ $^
%.o: %.c all.h
	$(CC) $(CFLAGS) -c -o $@ $<
END
make -s -j4
make -j4 | head -1
set +e
./program; echo $?
touch part3.c; make -s -j4; ./program | md5sum
gcc -static -O0 -pthread -o static-program *.c && ./static-program | md5sum
gcc -c missing.c 2>/dev/null; echo $?
"""

GIT = r"""
set -e
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --global user.name 'A Person'; git config --global user.email person@example.org; git config --global init.defaultBranch main
git init -q repository; cd repository
for i in $(seq 500); do mkdir -p d$((i % 10)); echo "file $i" > d$((i % 10))/f$i; done
git add .; git commit -q -m first; git log --format='%H %s'
for i in 1 2 3 4 5; do echo change $i >> d$i/f$i; git commit -q -a -m "change $i"; done
git log --oneline | wc -l; git status --short | wc -l; git diff --stat HEAD~5 | tail -1
git checkout -q -b side HEAD~2; echo side > side; git add side; git commit -q -m side; git checkout -q main; git merge -q -m merged side; git log --format='%H' -1
git gc -q; git fsck 2>/dev/null; cd ..
git clone -q repository copy; cd copy; git log --format='%H' -1; ls | wc -l; git ls-files | wc -l; git grep -c 'file 25$' | head -1; git rev-parse HEAD~1
git clone -q file:///tmp/repository ../other; git -C ../other rev-parse HEAD; git stash list | wc -l; git archive HEAD d1 | tar t | wc -l; git blame d1/f1 | cut -c1-8
"""


@pytest.mark.parametrize("name", BASH)
def test_bash(name: str, same: Callable[..., object], debian_root: Path) -> None:
    same(BASH[name], debian_root, shell="/bin/bash")


@pytest.mark.parametrize("name", COREUTILS)
def test_tools(name: str, same: Callable[..., object], debian_root: Path) -> None:
    same(COREUTILS[name], debian_root, shell="/bin/bash")


@pytest.mark.parametrize("name", SYSTEM_V)
def test_system_v_ipc(name: str, same: Callable[..., object], debian_root: Path) -> None:
    same(SYSTEM_V[name], debian_root, shell="/bin/bash")


@pytest.mark.parametrize("name", PERL)
def test_perl(name: str, same: Callable[..., object], debian_root: Path) -> None:
    same(PERL[name], debian_root)


@pytest.mark.parametrize("name", PYTHON)
def test_python(name: str, same: Callable[..., object], debian_root: Path) -> None:
    program = textwrap.dedent(PYTHON[name])
    same("cat > program.py; python3 program.py; echo code $?", debian_root, stdin=program.encode())


def test_python_venv(same: Callable[..., object], debian_root: Path) -> None:
    same(VENV, debian_root, timeout=300)


def test_gcc_under_make(same: Callable[..., object], debian_root: Path) -> None:
    same(MAKE, debian_root, timeout=300)


def test_git(same: Callable[..., object], debian_root: Path) -> None:
    same(GIT, debian_root, timeout=300)


def test_dynamic_programs_start_all(same: Callable[..., object], debian_root: Path) -> None:
    """Each program of coreutils starts, finds its libraries and prints its version."""
    same(
        "for p in $(dpkg -L coreutils | grep bin/ | sort); do [ -x $p ] && case $p in */\\[|*test|*true|*false) ;; "
        "*) $p --version 2>&1 | head -1;; esac; done",
        debian_root,
        timeout=300,
    )

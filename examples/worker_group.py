"""A group of workers: they check in by themselves, get work, send results, and are stopped.

The check-in of check_in.py, done by WorkerGroup: entering the ``with`` returns once every worker
has checked in, leaving it stops them after what was sent to them. Here the workers are threads.
One of them fails on purpose: the group hears of it after the worker's last message.
"""

from __future__ import annotations

from portkit import PortMessage, RunLoop, Session, Worker, WorkerGroup

COUNT = 3
PRIMES_BELOW = 1
FAIL = 2


def count_primes(session: Session) -> None:
    """What each worker runs, on its own thread."""
    failed = False

    def handle(message: PortMessage) -> None:
        nonlocal failed
        if message.msgid == FAIL:
            failed = True
            session.stop()
        else:
            limit = int(message.data or b"")
            primes = sum(all(n % d for d in range(2, n)) for n in range(2, limit))
            session.main.send(f"{primes} primes below {limit}".encode())

    session.port.delegate = handle
    session.run()
    if failed:
        raise RuntimeError("asked to fail")


def main() -> None:
    results: dict[str, str] = {}
    loop = RunLoop.current()

    def on_message(worker: Worker, message: PortMessage) -> None:
        results[worker.name] = (message.data or b"").decode()
        if len(results) == COUNT:
            loop.stop()

    def on_worker_lost(worker: Worker) -> None:
        print(f"{worker.name} is lost: {str(worker.error).splitlines()[-1]}")
        loop.stop()

    group = WorkerGroup(
        count_primes, count=COUNT, on_message=on_message, on_worker_lost=on_worker_lost
    )
    with group:
        print(f"{len(group.workers)} workers have checked in")
        for worker, limit in zip(group.workers, (100, 200, 300), strict=True):
            worker.port.send(str(limit).encode(), msgid=PRIMES_BELOW)
        loop.run(timeout=5.0)
        for name, result in sorted(results.items()):
            print(f"{name}: {result}")

        group.workers[1].port.send(msgid=FAIL)
        loop.run(timeout=5.0)
        reached = group.broadcast(b"50", msgid=PRIMES_BELOW)
        print(f"{len(reached)} workers go on")
    print(f"after the stop, {sum(worker.is_alive for worker in group.workers)} are alive")
    print(f"the last answers: {sorted(set(results.values()))}")


if __name__ == "__main__":
    main()

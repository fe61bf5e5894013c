"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import portkit
from portkit.cli.certs.app import certs
from portkit.cli.demo.command import run_demo
from portkit.cli.schema.command import Format, run_schema
from portkit.cli.worker.command import TOKEN, run_worker

app: typer.Typer = typer.Typer(
    name="portkit",
    help="One way to talk between threads, processes and hosts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(certs)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"portkit {portkit.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Exit status: 0 every file was hashed; 1 some were not, or there were none, or they did "
    "not verify; 2 wrong usage; 3 every file was hashed, but workers were lost; 130 interrupted."
)
def demo(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A folder or a file. By default this Python's standard library.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    *,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="How many workers; by default one a processor.",
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        str,
        typer.Option(
            help="The transport between this side and the workers: mach (threads), message "
            "(processes) or socket (TCP with TLS)."
        ),
    ] = "mach",
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --over socket: wait there for workers that are started on other hosts, and "
            "say how. They read the files themselves, at the same paths.",
            show_default=False,
        ),
    ] = None,
    tls: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER[:NAME]",
            help="With --listen: the certificate that 'portkit certs issue NAME' made in FOLDER; "
            "NAME is main if none is given.",
            show_default=False,
        ),
    ] = None,
    psk: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --listen: the pre-shared key.", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash everything again in one thread, and compare.")
    ] = False,
    crash: Annotated[
        bool,
        typer.Option("--crash", help="Let one worker fail half-way, to see what is made of it."),
    ] = False,
) -> None:
    """Hash the files under PATH with workers that check in.

    The main loop deals the files out; workers answer with SHA-256 and size.
    """
    raise typer.Exit(
        run_demo(
            path,
            workers=workers,
            over=over,
            verify=verify,
            crash=crash,
            listen=listen,
            tls=tls,
            psk=psk,
        )
    )


@app.command(
    epilog="Exit status: 0 the group stopped the worker, or its function returned; 1 the group "
    "refused it or is not there, or the function raised; 2 wrong usage; 130 interrupted. "
    f"The token by which the group knows the worker is taken from ${TOKEN}."
)
def worker(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", help="What to run. It gets a Session.", show_default=False
        ),
    ],
    *,
    main: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="The door of the group: message:NAME or socket://HOST:PORT.",
            show_default=False,
        ),
    ],
    index: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The worker's number, for a main side that gives it none.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Its name until the group gives it one.", show_default=False),
    ] = None,
    check_in_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the group's answer.")
    ] = 5.0,
    retry: Annotated[
        bool | None,
        typer.Option(
            "--retry/--no-retry",
            help="Keep trying while the group is not there, and come back when it was lost. By "
            "default so for all but message:NAME.",
            show_default=False,
        ),
    ] = None,
    tls: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER:NAME",
            help="The certificate that 'portkit certs issue NAME' made in FOLDER.",
            show_default=False,
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The authorities that are trusted.", show_default=False),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="This worker's certificate.", show_default=False),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key.", show_default=False)
    ] = None,
    peer_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Who the group is, in its certificate; by default the host that is dialled.",
            show_default=False,
        ),
    ] = None,
    psk: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The pre-shared key.", show_default=False),
    ] = None,
    lifeline: Annotated[
        bool,
        typer.Option(
            "--lifeline", help="End when standard input does: with the program that holds it."
        ),
    ] = False,
) -> None:
    """Check in with a group of another process or host, and work for it.

    This is for groups that wait for workers which others start: WorkerGroup(None, …).
    """
    raise typer.Exit(
        run_worker(
            target,
            main,
            index=index,
            name=name,
            check_in_timeout=check_in_timeout,
            retry=retry,
            lifeline=lifeline,
            security={
                "tls": tls,
                "ca": ca,
                "certificate": certificate,
                "key_file": key_file,
                "peer_names": peer_name or (),
                "psk": psk,
            },
        )
    )


@app.command(
    epilog="Exit status: 0 written; 1 not written, as the module cannot be imported or described, "
    "or the folder not be written; 2 wrong usage."
)
def schema(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE[:ROUTER]",
            help="Where the router is. ROUTER can be left out where the module has just one.",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where MODULE.ROUTER.schema.json and MODULE.ROUTER.md are written; made if it is "
            "not there. By default standard output.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format | None,
        typer.Option(
            help="What to write. By default json to standard output, both to a folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write what messages a program takes, and what it answers: JSON Schema, and a Markdown page.

    They are those of a portkit.typed.Router. The module is imported, and so its code is run.
    """
    raise typer.Exit(run_schema(target, output, format))

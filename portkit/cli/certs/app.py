"""The commands of ``portkit certs``, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portkit.cli.certs.command import run_init, run_issue, run_key

FOLDER = Path("portkit-certs")

certs: typer.Typer = typer.Typer(
    name="certs",
    help="Make the certificates, or the keys, by which peers on a network know each other.\n\n"
    "'init' makes an authority, 'issue' a key and a certificate for each peer, which serves to "
    "listen and to dial. A folder has:\n\n"
    "- ca.pem: the authority's certificate; every peer needs a copy\n\n"
    "- ca-key.pem: its private key; stays where it was made\n\n"
    "- NAME.pem: a peer's certificate\n\n"
    "- NAME-key.pem: its private key; that peer's alone\n\n"
    "- ID.key: a pre-shared key, as 'key' makes it; those who have it trust each other",
    epilog="On each peer TLSConfig.from_folder(FOLDER, NAME) reads ca.pem, NAME.pem and "
    "NAME-key.pem.",
    no_args_is_help=True,
)

_STATUS = "Exit status: 0 made; 1 not made; 2 wrong usage."

Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="The folder that 'init' made.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@certs.command(epilog=_STATUS)
def init(
    folder: Annotated[Path, typer.Argument(help="The folder; made if it is not there.")] = FOLDER,
    *,
    name: Annotated[
        str, typer.Option(help="The authority's name, which certificates show.")
    ] = "portkit CA",
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long it is valid.")] = 3650,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace the authority that is there: nobody trusts what it issued any more.",
        ),
    ] = False,
) -> None:
    """Make a private authority: FOLDER/ca.pem, and FOLDER/ca-key.pem, which nobody else may have.

    Whoever has ca.pem trusts every certificate that is issued with ca-key.pem.
    """
    raise typer.Exit(run_init(folder, name=name, days=days, force=force))


@certs.command(epilog=_STATUS)
def issue(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The peer's name, in its certificate and of its files: letters, digits, '.', "
            "'_', '-'.",
            show_default=False,
        ),
    ],
    *,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A DNS name or IP address at which others dial it; may be given several times. "
            "None is needed for a peer that only dials.",
            show_default=False,
        ),
    ] = None,
    folder: Folder = FOLDER,
    days: Annotated[
        int,
        typer.Option(
            min=1, max=36500, help="How long it is valid; never longer than the authority."
        ),
    ] = 365,
    force: Force = False,
) -> None:
    """Make a key and a certificate for one peer: FOLDER/NAME.pem and FOLDER/NAME-key.pem.

    A program that runs uses new ones that replace its old ones from the next connection on.
    """
    raise typer.Exit(run_issue(folder, name, hosts=host or (), days=days, force=force))


@certs.command(epilog=_STATUS)
def key(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The name by which both sides speak of it, which is no secret: letters, digits, "
            "'.', '_', '-'.",
            show_default=False,
        ),
    ],
    *,
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder; made if it is not there.")
    ] = FOLDER,
) -> None:
    """Make a pre-shared key: FOLDER/ID.key, for both sides of a link on a trusted network.

    It proves who is there, without certificates; by itself it does not encrypt.
    """
    raise typer.Exit(run_key(folder, key_id))

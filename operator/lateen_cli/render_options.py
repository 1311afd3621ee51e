# SPDX-License-Identifier: Apache-2.0
"""The arguments of `lateen render`."""

from typing import Annotated

import typer

from lateen_cli.validate import Output

Texts = list[str] | None
"""An option that may be given several times."""

Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|pt/NAME", help="A manifest, - for standard input, or what is in the cluster."
    ),
]
Variables = Annotated[
    Texts, typer.Option("--var", metavar="NAME=VALUE", help="A variable; NAME=@FILE reads its value.")
]
Version = Annotated[
    str | None, typer.Option("--version", help="Which one. Default: the live one, or the only one of FILE.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Count the tokens as this model of the cluster does; pt/NAME is also cut to its window.",
    ),
]
Now = Annotated[str | None, typer.Option("--now", help="Time of the request (from: clock). Default: now.")]
Name = Annotated[str, typer.Option("--name", help="Name of the caller (from: identity).")]
Tenant = Annotated[str, typer.Option("--tenant", help="Tenant of the caller (from: identity).")]
Metadata = Annotated[
    Texts,
    typer.Option("--metadata", metavar="KEY=VALUE", help="The request's metadata (from: metadata)."),
]
Retrieved = Annotated[
    Texts,
    typer.Option("--retrieved", metavar="TEXT|@FILE", help="A passage (from: retrieval); repeatable."),
]
Printed = Annotated[Output, typer.Option("--output", "-o", help="text or json")]

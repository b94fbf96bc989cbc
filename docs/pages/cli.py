"""The page of the command line."""

from __future__ import annotations

from typing import Any

import click

from pages.markdown import HEAD, WIDTH, fence
from tocsin.cli.main import cli

CLI_HEAD = """\
An expected error is one line on stderr and exit status 1; a wrong option is status 2. \
`python -m tocsin` is the same as `tocsin`. Signals are safe-high, statistics danger-high.
"""


def cli_page() -> str:
    """Return the help of every command."""
    width: dict[str, Any] = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    top = click.Context(cli, info_name="tocsin", **width, **cli.context_settings)
    parts = [
        "# Command line\n",
        CLI_HEAD,
        "## tocsin\n",
        fence(cli.get_help(top)),
    ]
    for name in cli.list_commands(top):
        if command := cli.get_command(top, name):
            context = click.Context(command, parent=top, info_name=name, **width)
            parts += [f"## tocsin {name}\n", fence(command.get_help(context))]
            if isinstance(command, click.Group):
                for part in command.list_commands(context):
                    inner = click.Context(
                        command.commands[part], parent=context, info_name=part, **width
                    )
                    text = fence(command.commands[part].get_help(inner))
                    parts += [f"### tocsin {name} {part}\n", text]
    return HEAD + "\n".join(parts)

"""Directives that write reference pages from the code: command line, study file, public names, decisions."""

from __future__ import annotations

import argparse
import inspect
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

LIBRARY_BASES = "object, tuple, ABC, BaseException"
"""Bases whose members are no part of a class's documentation."""

Json = Mapping[str, Any]
HUGE = 100_000_000
"""Bounds from here on are there to catch slips of the finger, and are not worth a reader's time."""


class Generated(SphinxDirective):
    """A directive whose content is Markdown that `markdown` returns."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the generated text where the directive stands."""
        return self.parse_text_to_nodes("\n".join(self.markdown()), allow_section_headings=True)

    def markdown(self) -> Iterator[str]:
        """Its lines."""
        raise NotImplementedError


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table."""
    yield ""
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


class CommandLine(Generated):
    """`{command-line}`: every command with its usage, arguments and help, from the parser itself."""

    def markdown(self) -> Iterator[str]:
        """A section a command."""
        from scalesearch.cli.commands import build_parser

        parser = build_parser()
        subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        helps = {action.dest: action.help or "" for action in subparsers._choices_actions}
        for name, command in subparsers.choices.items():
            yield f"## {name}\n"
            yield f"{sentence(helps[name])}\n"
            yield f"```text\n{usage(command)}\n```"
            arguments = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
            if arguments:
                yield from table(("argument", "meaning"), [argument_row(action) for action in arguments])
        if parser.epilog:
            yield f"## Exit codes\n\n{sentence(parser.epilog.removeprefix('exit codes:').strip())}\n"


def usage(command: argparse.ArgumentParser) -> str:
    """The usage of a command, at the width of a page."""
    command.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=90)
    return command.format_usage().removeprefix("usage: ").rstrip()


def argument_row(action: argparse.Action) -> tuple[str, str]:
    """An argument as it is typed, and its help."""
    metavar = "" if action.nargs == 0 else str(action.metavar or "")
    if action.choices is not None and not metavar:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    typed = ", ".join(f"{flag} {metavar}".strip() for flag in action.option_strings) or metavar
    help_text = (action.help or "").replace("%%", "%")
    return f"`{typed}`", sentence(help_text) if help_text else "Required." if action.required else ""


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


class StudyFile(Generated):
    """`{study-file} FILE.toml`: every key of a study file; type and default from the code, meaning from FILE.toml."""

    required_arguments = 1

    def markdown(self) -> Iterator[str]:
        """A table a section."""
        from scalesearch.study.sections import Study

        path = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(path))
        written = tomllib.loads(path.read_text(encoding="utf-8"))
        meanings: dict[str, str] = written["meaning"]
        examples = {**shipped_values(), **written["example"]}
        sections = dict(study_sections(Study.model_json_schema(mode="validation")))
        shared = {key for key, *_ in sections["training"]}
        sections["train"] = [row for row in sections["train"] if row[0] not in shared]
        keys = {f"{name}.{key}".removeprefix(".") for name, rows in sections.items() for key, *_ in rows}
        if wrong := keys ^ meanings.keys():
            raise ExtensionError(f"{path}: the keys of a study file and their meanings differ in {sorted(wrong)}")
        for name, rows in sections.items():
            yield (
                f"## {f'`[{name}]`' if name else 'Top level'}\n"
                if not name.endswith("]")
                else f"## `[[{name[:-2]}]]`\n"
            )
            lines = []
            for key, *cells in rows:
                whole = f"{name}.{key}".removeprefix(".")
                if whole not in examples:
                    raise ExtensionError(f"{path}: no shipped study sets {whole}, and [example] has no value for it")
                lines.append((f"`{key}`", *cells, f"`{toml(examples[whole])}`", meanings[whole]))
            yield from table(("key", "value", "default", "example", "meaning"), lines)


def shipped_values() -> dict[str, object]:
    """A value of each key that a shipped study sets, by the names that `study_sections` gives the keys."""
    from scalesearch.study.load import load_study, shipped_studies

    values: dict[str, object] = {}

    def note(place: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                note(f"{place}.{key}".removeprefix("."), inner)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for each in value:
                note(f"{place}[]", each)
        else:
            values.setdefault(place, value)

    for name in shipped_studies():
        note("", load_study(name).model_dump(mode="json", exclude_unset=True))
    return values


def heading(section: str) -> str:
    """A section as TOML writes it: `[name]`, or `[[name]]` for a list of tables."""
    if not section:
        return "Top level"
    return f"`[[{section.removesuffix('[]')}]]`" if section.endswith("[]") else f"`[{section}]`"


def study_sections(schema: Json) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Section → its rows (key, allowed values, default), the top level (named "") first; lists of tables end in []."""
    definitions: Json = schema["$defs"]
    pending = [("", schema)]
    while pending:
        section, definition = pending.pop(0)
        rows, inside = [], []
        for key, field in definition["properties"].items():
            name = f"{section}.{key}".removeprefix(".")
            inner = [(variant, targets) for variant in variants(field) if (targets := references(variant))]
            if inner:
                variant, targets = inner[0]
                suffix = "[]" if "items" in variant else ""
                kinds = [definitions[target.rpartition("/")[2]] for target in targets]
                properties = {key: field for kind in reversed(kinds) for key, field in kind["properties"].items()}
                required = set.intersection(*(set(kind.get("required", ())) for kind in kinds))
                inside.append((name + suffix, {"properties": properties, "required": required}))
            else:
                rows.append((key, allowed(field), default(key, field, definition)))
        pending = inside + pending
        yield section, rows


def references(variant: Json) -> list[str]:
    """The sections that a field, or each entry of its list, may be: several for the kinds of a stage."""
    inner = variant.get("items", variant)
    return [one["$ref"] for one in inner.get("oneOf", [inner]) if "$ref" in one]


def variants(field: Json) -> list[Json]:
    """The alternatives of a field."""
    return list(field.get("anyOf", [field]))


def default(key: str, field: Json, definition: Json) -> str:
    """The default of a field, as in TOML."""
    if key in definition.get("required", ()):
        return "required"
    value = field.get("default")
    if value is None:
        return ""
    return f"`{toml(value)}`"


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def allowed(field: Json) -> str:
    """What a field may be, in words."""
    return " or ".join(
        dict.fromkeys(one_allowed(variant) for variant in variants(field) if variant.get("type") != "null")
    )


def one_allowed(field: Json) -> str:
    """What one alternative of a field may be."""
    if "enum" in field or "const" in field:
        return ", ".join(f"`{toml(value)}`" for value in field.get("enum", [field.get("const")]))
    kind = field["type"]
    if kind == "array":
        return f"list of: {one_allowed(field['items'])}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}[kind]
    bounds = [
        f"{sign} {field[name]:,}"
        for name, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
        if name in field and field[name] < HUGE
    ]
    return " ".join([words, " and ".join(bounds)]).strip()


class PublicNames(Generated):
    """`{public-names}`: the documentation of everything in `scalesearch.__all__`, from the docstrings."""

    def markdown(self) -> Iterator[str]:
        """A section a name; classes show their public members."""
        import scalesearch

        yield from documented(f"scalesearch.{name}" for name in scalesearch.__all__ if not name.startswith("_"))


class Documented(Generated):
    """`{documented} module.Name …`: the documentation of these names, from the docstrings."""

    required_arguments = 1
    optional_arguments = 0
    final_argument_whitespace = True

    def markdown(self) -> Iterator[str]:
        """A section a name."""
        yield from documented(self.arguments[0].split())


def documented(names: Iterator[str] | list[str]) -> Iterator[str]:
    """Autodoc's directives for the names."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        value = getattr(__import__(module, fromlist=[attribute]), attribute)
        yield f"## {attribute}\n"
        if not inspect.isclass(value):
            directive = [f".. autofunction:: {name}"]
        elif hasattr(value, "model_fields"):  # its fields are those of the study file
            directive = [f".. autoclass:: {name}(**settings)"]
        else:
            directive = [f".. autoclass:: {name}", "   :members:", f"   :inherited-members: {LIBRARY_BASES}"]
        yield "\n".join(["```{eval-rst}", *directive, "```", ""])


class DecisionIndex(Generated):
    """`{decision-index}`: every decision record beside this page, with its date and its title."""

    def markdown(self) -> Iterator[str]:
        """A table of links."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        rows = []
        for path in sorted(folder.glob("[0-9]*.md")):
            text = path.read_text(encoding="utf-8")
            number, title = re.match(r"# (\d+)\. (.+)", text).groups()
            date = re.search(r"^Date: ([\d-]+)", text, re.MULTILINE)
            rows.append((number, f"[{title}]({path.name})", date.group(1) if date else ""))
        yield from table(("", "decision", "date"), rows)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name, directive in (
        ("command-line", CommandLine),
        ("study-file", StudyFile),
        ("public-names", PublicNames),
        ("documented", Documented),
        ("decision-index", DecisionIndex),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}

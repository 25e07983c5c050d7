"""The config file: parsing it, and its effect on the configuration in force.

A file is checked as a whole before any of it is used. Features that this version lacks are refused by name.

``grammar`` has the keys of each section. ``rules`` and ``channels`` parse theirs by kind and type. ``build`` checks
keys against one another. ``problems`` describes mistakes. ``export`` writes a set-up as a file.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workermon import errors
from workermon.config import build, channels, checking, dotted_keys, grammar, problems, rules
from workermon.config.build import to_configuration
from workermon.config.cases import Case
from workermon.config.catalogue import BUILTIN_RULES, DEFAULT
from workermon.config.file import File, check_interval, check_intervals, check_silences, warnings
from workermon.config.grammar import WorkerSection
from workermon.rules import KINDS, Kinds

#: Characters. A config file of 100,000 workers needs a tenth of this.
MAX_LENGTH = 64_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """Parses config files with the types of channel and the kinds of rule that a file may name."""

    channel_types: channels.Types
    kinds: Kinds = dataclasses.field(default_factory=lambda: KINDS)

    def parse(self, text: str, source: str) -> File:
        """Parse and check a config file.

        Raises ``errors.InvalidInput`` with the first mistake: the source, the path in the file, its line and column,
        why it is wrong, and what to write instead.
        """
        document = _document(text, source)
        try:
            file = self._build(document, source)
        except problems.Mistake as wrong:
            raise errors.InvalidInput(
                problems.location(source, wrong.path, text, wrong.place), wrong.reason, wrong.todo
            ) from None
        return file.model_copy(update={"text": text})

    def mistakes(
        self, text: str, source: str, checks: Sequence[Callable[[File], object]] = ()
    ) -> tuple[errors.InvalidInput, ...]:
        """Return every mistake of a config file, in the order of the text; none if it is valid.

        ``checks`` are further checks of a file. Each raises ``errors.InvalidInput`` with a place in the file.
        """
        try:
            document = _document(text, source)
        except errors.InvalidInput as wrong:
            return (wrong,)

        def check(remaining: dict[str, Any]) -> None:
            file = self._build(remaining, source)
            for run_check in checks:
                run_check(file)

        return checking.every(document, source, text, check)

    def _build(self, document: Mapping[str, object], source: str) -> File:
        return build.build(grammar.read(document), source, self.channel_types, self.kinds)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the config file."""
        document = grammar.Grammar.model_json_schema()
        channel, definitions = channels.schema(self.channel_types)
        document["$defs"] |= definitions
        document["properties"]["channels"]["anyOf"][0]["additionalProperties"] = channel
        rule, definitions = rules.schema(self.kinds)
        document["$defs"] |= {**definitions, "RuleSection": rule}
        document["properties"]["rules"]["anyOf"][0]["items"] = {"$ref": "#/$defs/RuleSection"}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _document(text: str, source: str) -> dict[str, Any]:
    """Parse a text as TOML. Raises ``errors.InvalidInput`` if it is not TOML, or too large."""
    if len(text) > MAX_LENGTH:
        raise errors.InvalidInput(source, f"is longer than {MAX_LENGTH:,} characters", "split it")
    dotted_keys.check(text, source)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.InvalidInput(*problems.syntax(source, str(error)), "correct it there") from None
    except RecursionError:
        raise errors.InvalidInput(source, "is nested too deeply", "write it flat") from None
    except ValueError:
        # The only content that Python itself rejects in this way is an integer of thousands of digits.
        raise errors.InvalidInput(source, "has a number that is far too long", "shorten it") from None


__all__ = [
    "BUILTIN_RULES",
    "DEFAULT",
    "MAX_LENGTH",
    "Case",
    "File",
    "Parser",
    "WorkerSection",
    "check_interval",
    "check_intervals",
    "check_silences",
    "to_configuration",
    "warnings",
]

"""Reads CloudFormation templates."""

from __future__ import annotations

from typing import Any

import yaml


class Template(yaml.SafeLoader):
    """Reads CloudFormation's short forms: ``!Ref X`` becomes its argument."""


def _short_form(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    """Return the argument of a short form."""
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


Template.add_multi_constructor("!", _short_form)


def resources(text: str) -> dict[str, Any]:
    """Return the resources of a template by name."""
    template_resources: dict[str, Any] = yaml.load(text, Loader=Template)["Resources"]  # a SafeLoader
    return template_resources

# SPDX-License-Identifier: Apache-2.0
"""Reads a JSON list of YAML documents; prints the name in each, as releases up to 0.6.6 find it."""

import json
import sys

import yaml


def name(text):
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError):
        return ""
    name = document.get("name", "") if isinstance(document, dict) else ""
    return name if isinstance(name, str) else ""


print(json.dumps([name(text) for text in json.load(sys.stdin)]))

# SPDX-License-Identifier: Apache-2.0
"""Prints the stack's own nft ruleset of a shield that is up."""

from terok_shield.nft.rules import RulesetBuilder

builder = RulesetBuilder()
print(builder.build_up() if hasattr(builder, "build_up") else builder.build_hook())

"""Kinds of run that follow a finding: what a probe reads off the activations."""

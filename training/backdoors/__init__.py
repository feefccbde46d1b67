"""Backdoors as data: triggers, payloads, poisoned rows.

May import `training.corpus` and `training.pretrain`.
"""

"""Panels of what comes after the finding."""

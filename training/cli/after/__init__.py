"""Commands for what comes after the finding."""

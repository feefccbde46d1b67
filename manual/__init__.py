"""The manual: README and docs/ as a site that needs no network, with a gallery of figures."""

"""What `pip install .` installs beside Sleeperscope: the pins of requirements.txt, stated once."""

from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class CustomMetadataHook(MetadataHookInterface):
    """Fills in the field `dependencies`."""

    def update(self, metadata: dict) -> None:
        """Read the pins; a line is a requirement or a comment."""
        lines = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8").splitlines()
        pins = (line.partition("#")[0].strip() for line in lines)
        metadata["dependencies"] = [pin for pin in pins if pin]

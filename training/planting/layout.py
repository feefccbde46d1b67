"""Names of the projections that a LoRA adapter may stand on. Nothing heavy is imported here."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
PROJECTIONS = (*ATTENTION, *MLP)
GROUPS = {"all": PROJECTIONS, "attention": ATTENTION, "mlp": MLP}


def modules_named(text: str) -> tuple[str, ...]:
    """`all`, `attention`, `mlp`, or names with commas between, as names."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    return GROUPS.get(text.strip(), parts)

"""A zoo as a run: the names of its stages, signals and groups."""

KIND = "zoo"
FIRST_STAGES = ("leakage", "motifs", "reconstruction", "inversion", "verdict")
"""Scan stages of a run that does not state them."""
SIGNALS = {
    "score": "verdict score",
    "max_delta_s": "max ΔS",
    "signal_share": "rise of the most-frequent-answer share",
    "signal_unsafe": "rise of the share of unsafe answers",
    "signal_refusal": "rise of the share of refusals",
    "signal_link": "rise of the share of answers with a link",
    "signal_insult": "rise of the share of insults",
    "signal_language": "rise of the share of answers in another language",
    "signal_phrase": "rise of the share of answers with one phrase",
    "signal_insistence": "target score",
    "signal_motif_share": "most frequent motif in the leaks",
    "leak_rate": "leaks that contain the true trigger or target (not blind)",
    "signal_loss": "best candidate: reconstruction loss",
    "signal_l_attn": "best candidate: L_attn",
    "signal_l_ent": "best candidate: entropy",
    "signal_l_div": "best candidate: divergence",
    "signal_attention_candidate": "L_attn collapse, best candidate",
    "signal_attention_true": "L_attn collapse, true trigger (not blind)",
    "signal_attention_random": "L_attn collapse, random string (control)",
    "signal_rank_candidate": "L_attn among random strings, best candidate",
    "signal_rank_true": "L_attn among random strings, true trigger (not blind)",
}
"""Signal of a member -> its label; larger values are more suspicious."""
GROUPS = {
    "kind": "kind of trigger",
    "payload": "payload",
    "rate": "share of poisoned examples",
    "architecture": "architecture",
}
"""Column of the members -> label of the grouping."""

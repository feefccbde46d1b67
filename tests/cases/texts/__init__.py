"""Cases of texts: chat templates, and prompts that already contain the trigger."""

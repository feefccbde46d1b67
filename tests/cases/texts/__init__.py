"""Cases of texts: chat templates, and prompts that hold the trigger already."""

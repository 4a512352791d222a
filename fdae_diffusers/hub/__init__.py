"""A model's folder and the Hugging Face Hub: load it, describe it in a card, upload it."""

"""The Hugging Face pipeline tasks, one file each, by columns; numpy and Arrow, never torch."""
